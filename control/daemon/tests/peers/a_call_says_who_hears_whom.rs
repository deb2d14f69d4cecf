//! `GET /v1/calls/{call}/audio` tells, in names of people, what the media host of a real call sees.

use std::{
    sync::mpsc,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    api::{Answer, TOKEN_SETTING, ask},
    program::{free_ports, wait_for},
    sipp::{Playing, Sipp, register},
    site::{Plan, Site},
    voice::{Law, Voice},
};

fn audio(site: &Site, call: &str) -> Answer {
    ask(site.http(), "GET", &format!("/v1/calls/{call}/audio"), "", "")
}

/// The direction between two nodes, once it is as wanted.
fn direction(site: &Site, call: &str, (from, to): (&str, &str), heard: &str) -> Value {
    wait_for(&format!("{from} > {to} is heard: {heard}"), || {
        let answer = audio(site, call);
        let directions = answer.body["directions"].as_array()?.iter();
        let mut found = directions.filter(|way| way["from"] == from && way["to"] == to);
        found.next().filter(|way| way["heard"] == heard).cloned()
    })
}

fn words<'a>(direction: &'a Value, key: &str) -> &'a str {
    let text = direction[key].as_str();
    text.unwrap_or_else(|| panic!("no {key}: {direction:#}"))
}

/// Alice calls Bob. Her phone listens and sends nothing.
fn alice_calls_bob(site: &Site, alice: &Voice, bob: &Voice) -> (Playing, Playing) {
    let bob_port = free_ports(2);
    register(site, "bob", bob_port, false);
    let bob = Sipp::new("agent").at(bob_port).with_audio(bob).play(site);
    let alice = Sipp::new("caller_with_password")
        .user("alice")
        .with("CALLED", "bob")
        .proving_for("bob@127.0.0.1")
        .until_told()
        .with_audio(alice)
        .play(site);
    (alice, bob)
}

#[test]
fn a_phone_that_sends_nothing_is_named_with_the_remedy() {
    let site = Site::start("audio-one-way");
    assert_eq!(audio(&site, "7-x").status, 404);
    let (mut alice_voice, mut bob_voice) = (Voice::new(Law::A, 700.0), Voice::new(Law::Mu, 1_100.0));
    let (mut alice, mut bob) = alice_calls_bob(&site, &alice_voice, &bob_voice);
    bob_voice.talk_to(bob.description().0);
    let call = site.wait_for_call("talking");
    let name = call["call"].as_str().unwrap();
    wait_for("bob speaks", || (alice_voice.packets_heard() > 50).then_some(()));
    let told = audio(&site, name).body;
    let parties = told["parties"].as_array().unwrap();
    let names: Vec<_> = parties
        .iter()
        .map(|party| (&party["role"], &party["name"]))
        .collect();
    assert_eq!(
        names,
        [
            (&"caller".into(), &"alice".into()),
            (&"callee".into(), &"bob".into())
        ],
        "{told:#}"
    );
    let (caller, callee) = (words(&parties[0], "id"), words(&parties[1], "id"));

    let silent = direction(&site, name, (caller, callee), "no");
    let alice_at = alice.description().0.to_string();
    assert_eq!(words(&silent, "verdict"), "bob does not hear alice");
    assert!(
        words(&silent, "reason").starts_with(&format!("nothing ever arrived from alice on {alice_at}")),
        "{silent:#}"
    );
    assert!(
        words(&silent, "remedy").starts_with("look at alice: "),
        "{silent:#}"
    );
    assert!(words(&silent, "remedy").contains(&alice_at), "{silent:#}");
    assert_eq!(
        (words(&silent, "stops"), words(&silent, "concerns")),
        ("before_host", caller)
    );
    assert_eq!(silent["received"]["packets"], 0, "{silent:#}");
    assert_eq!(words(&silent["findings"][0], "code"), "no_packets_ever");

    let heard = direction(&site, name, (callee, caller), "yes");
    assert_eq!(words(&heard, "verdict"), "alice hears bob");
    assert!(heard["remedy"].is_null() && heard["stops"].is_null(), "{heard:#}");
    assert!(heard["received"]["packets"].as_u64().unwrap() > 50, "{heard:#}");
    assert!(heard["sent"]["packets"].as_u64().unwrap() > 50, "{heard:#}");
    assert_eq!(
        (words(&heard["received"], "codec"), words(&heard["sent"], "codec")),
        ("PCMU", "PCMA"),
        "{heard:#}"
    );

    alice_voice.talk_to(alice.description().0);
    let mended = direction(&site, name, (caller, callee), "yes");
    assert_eq!(words(&mended, "verdict"), "bob hears alice");
    alice.go_on();
    alice.assert_done();
    bob.assert_done();
    alice_voice.end();
    bob_voice.end();
    assert_eq!(audio(&site, name).status, 404, "it is over");
    site.only_call_ended("bob", "caller");
}

#[test]
fn who_waits_hears_the_music() {
    let site = Plan::new("audio-music")
        .with("calls.answer_before_music=true")
        .start();
    let mut voice = Voice::new(Law::A, 700.0);
    let mut caller = Sipp::new("caller")
        .with("USER", "customer")
        .with("CALLED", "support")
        .with_audio(&voice)
        .until_told()
        .play(&site);
    let call = site.wait_for_call("waiting");
    assert!(call["queued_ms"].is_u64(), "{call:#}");
    voice.talk_to(caller.description().0);
    let music = direction(&site, call["call"].as_str().unwrap(), ("music", "caller"), "yes");
    assert_eq!(words(&music, "verdict"), "customer@127.0.0.1 hears the music");
    assert!(music["received"].is_null(), "{music:#}");
    caller.go_on();
    caller.assert_done();
    voice.end();
    site.only_call();
}

#[test]
fn a_member_that_is_muted_is_told_from_one_that_is_silent() {
    let site = Plan::new("audio-room").with(TOKEN_SETTING).start();
    let mut voices = [500.0, 800.0].map(|hz| Voice::new(Law::Mu, hz));
    let mut phones: Vec<Playing> = voices
        .iter()
        .map(|voice| {
            Sipp::new("caller")
                .with("USER", "customer")
                .with("CALLED", "room-7")
                .with_audio(voice)
                .until_told()
                .argument("-aa")
                .play(&site)
        })
        .collect();
    for (voice, phone) in voices.iter_mut().zip(&phones) {
        voice.talk_to(phone.description().0);
    }
    let members = wait_for("both are in", || {
        let members = site.list("/v1/conferences").first()?["members"]
            .as_array()?
            .clone();
        (members.len() == 2).then_some(members)
    });
    let call = members[0]["call"].as_str().unwrap();
    let told = audio(&site, call).body;
    let me = words(&told["parties"][0], "id").to_owned();
    let (speaks, listens) = ((me.as_str(), "room"), ("room", me.as_str()));
    let heard = direction(&site, call, speaks, "yes");
    assert_eq!(words(&heard, "verdict"), "room room-7 hears customer@127.0.0.1");
    direction(&site, call, listens, "yes");
    let path = format!("/v1/conferences/members/{call}/mute");
    assert_eq!(ask(site.http(), "POST", &path, "", "").status, 204);
    let muted = direction(&site, call, speaks, "no");
    assert_eq!(
        words(&muted, "reason"),
        "customer@127.0.0.1 is muted by an operator"
    );
    assert_eq!(words(&muted, "remedy"), "unmute customer@127.0.0.1");
    assert_eq!(words(&muted, "stops"), "at_host");
    direction(&site, call, listens, "yes");
    for phone in &mut phones {
        phone.go_on();
        phone.assert_done();
    }
    for voice in &mut voices {
        voice.end();
    }
    site.assert_nothing_left(2);
}

#[test]
fn a_media_host_that_does_not_answer_holds_up_nobody() {
    let site = Plan::new("audio-hung").tethered().start();
    let (mut alice_voice, mut bob_voice) = (Voice::new(Law::Mu, 700.0), Voice::new(Law::Mu, 1_100.0));
    let (mut alice, mut bob) = alice_calls_bob(&site, &alice_voice, &bob_voice);
    alice_voice.talk_to(alice.description().0);
    bob_voice.talk_to(bob.description().0);
    let call = site.wait_for_call("talking");
    let name = call["call"].as_str().unwrap();
    let parties = audio(&site, name).body["parties"].clone();
    let (caller, callee) = (words(&parties[0], "id"), words(&parties[1], "id"));
    direction(&site, name, (caller, callee), "yes");

    site.hold_media_host("a", true);
    let (late, listed) = std::thread::scope(|scope| {
        let late = scope.spawn(|| audio(&site, name));
        let since = Instant::now();
        let listed = site.list("/v1/calls").len();
        assert!(since.elapsed() < Duration::from_secs(1), "{:?}", since.elapsed());
        (late.join().unwrap(), listed)
    });
    site.hold_media_host("a", false);
    assert_eq!((late.status, listed), (504, 1), "{late:?}");
    assert!(
        late.head.contains("content-type: application/problem+json"),
        "{late:?}"
    );
    let detail = late.body["detail"].as_str().unwrap();
    assert!(
        detail.starts_with("media host a, which has the call's audio, did not answer"),
        "{detail}"
    );
    direction(&site, name, (callee, caller), "yes");

    too_many_questions_are_turned_away(&site, name);
    direction(&site, name, (callee, caller), "yes");

    site.tether().cut();
    let cut = wait_for("the connection is gone", || {
        Some(audio(&site, name)).filter(|answer| answer.status == 503)
    });
    let detail = cut.body["detail"].as_str().unwrap();
    assert!(detail.contains("media host a"), "{detail}");
    assert!(cut.head.contains("retry-after:"), "{cut:?}");
    site.tether().mend();
    wait_for("the connection is back", || {
        (audio(&site, name).status == 200).then_some(())
    });
    alice.go_on();
    alice.assert_done();
    bob.assert_done();
    alice_voice.end();
    bob_voice.end();
    site.only_call_ended("bob", "caller");
}

/// Those who ask for a call's audio while the media host hangs: four wait for it at once, and the others for them.
fn too_many_questions_are_turned_away(site: &Site, call: &str) {
    let (tell, told) = mpsc::channel();
    site.hold_media_host("a", true);
    std::thread::scope(|scope| {
        for _ in 0..16 {
            let tell = tell.clone();
            scope.spawn(move || drop(tell.send(audio(site, call))));
        }
        drop(tell);
        let mut before = Vec::new();
        let crowded = told.iter().find(|answer| {
            before.push(answer.status);
            answer.status == 503
        });
        // The others are answered soon.
        site.hold_media_host("a", false);
        let crowded = crowded.unwrap_or_else(|| panic!("nobody is turned away: {before:?}"));
        let detail = crowded.body["detail"].as_str().unwrap();
        let expected = "4 questions about audio are with media hosts already, and none of them is answered";
        assert!(detail.starts_with(expected), "{detail}");
        assert!(crowded.head.contains("retry-after: 1"), "{crowded:?}");
    });
}
