use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    api::{Answer, TOKEN_SETTING, ask},
    program::{free_ports, wait_for},
    sipp::{Playing, Sipp, register},
    site::{Plan, Site},
    voice::{Law, Voice},
};

const ALICE_HZ: f64 = 700.0;
const BOB_HZ: f64 = 1_100.0;

/// A phone that rings, answers, and waits for the end.
fn phone(site: &Site, user: &str, voice: &Voice, ring_ms: u32) -> Playing {
    let port = free_ports(2);
    register(site, user, port, false);
    Sipp::new("agent")
        .at(port)
        .with("MEDIA_PORT", voice.port())
        .with("LAW", Law::Mu.payload_type())
        .with("LAW_NAME", Law::Mu.name())
        .pausing_ms(ring_ms)
        .play(site)
}

fn originate(site: &Site, key: &str, body: &Value) -> Answer {
    let key = format!("Idempotency-Key: {key}\r\n");
    ask(site.http(), "POST", "/v1/calls", &key, &body.to_string())
}

fn stage(site: &Site, call: &str) -> String {
    let answer = ask(site.http(), "GET", &format!("/v1/calls/{call}"), "", "");
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body["stage"].as_str().unwrap().to_owned()
}

/// Alice rings first, hears ringback, and then Bob; both hear the other's tone and nothing else. Asked again with the
/// same key it is the same call, and DELETE ends it.
#[test]
fn and_each_hears_the_other() {
    let site = Plan::new("click").with(TOKEN_SETTING).start();
    let (mut alice_voice, mut bob_voice) = (Voice::new(Law::Mu, ALICE_HZ), Voice::new(Law::Mu, BOB_HZ));
    let mut alice = phone(&site, "alice", &alice_voice, 300);
    let mut bob = phone(&site, "bob", &bob_voice, 1_000);
    let body = json!({ "from": "alice", "to": "bob", "reference": "ticket-7", "auto_answer": true });
    let made = originate(&site, "k1", &body);
    assert_eq!(made.status, 201, "{made:?}\n{}", site.story());
    let call = made.body["call"].as_str().unwrap().to_owned();
    assert!(
        made.head.contains(&format!("location: /v1/calls/{call}")),
        "{}",
        made.head
    );
    assert_eq!(
        made.body["origin"],
        json!({ "kind": "api", "reference": "ticket-7" })
    );
    wait_for("Alice is called", || {
        (stage(&site, &call) == "calling").then_some(())
    });
    let again = originate(&site, "k1", &body);
    assert_eq!((again.status, again.body["call"].as_str()), (200, Some(&*call)));
    assert!(again.head.contains("idempotent-replayed: true"), "{}", again.head);
    let other = originate(&site, "k1", &json!({ "from": "bob", "to": "alice" }));
    assert_eq!(other.status, 422, "{other:?}");

    let alice_to = alice.description().0;
    alice_voice.talk_to(alice_to);
    let bob_to = bob.description().0;
    bob_voice.talk_to(bob_to);
    wait_for("they talk", || (stage(&site, &call) == "talking").then_some(()));
    // And it rings no more.
    alice_voice.listen().assert_is(BOB_HZ, &[ALICE_HZ, 440.0, 480.0]);
    bob_voice.listen().assert_is(ALICE_HZ, &[BOB_HZ, 440.0, 480.0]);
    let ended = ask(site.http(), "DELETE", &format!("/v1/calls/{call}"), "", "");
    assert_eq!(ended.status, 204, "{ended:?}");
    alice.assert_done();
    bob.assert_done();
    let (_, alice_packets) = alice_voice.end();
    let (_, bob_packets) = bob_voice.end();
    // Alice heard it ring before.
    assert!(alice_packets > bob_packets, "{alice_packets} and {bob_packets}");
    let invite = alice.messages();
    assert!(invite.contains("Answer-Mode: Auto"), "{invite}");

    let detail = site.only_call();
    assert_eq!(detail["call"], call.as_str());
    assert_eq!(
        detail["origin"],
        json!({ "kind": "api", "reference": "ticket-7" })
    );
    assert_eq!(
        (&detail["answered_by"], &detail["status"], &detail["reason"]),
        (&"bob".into(), &200.into(), &"ended by an operator".into()),
        "{detail:#}"
    );
    assert_eq!(detail["callee_media"]["tx_packets"], bob_packets, "{detail:#}");
    let over = ask(site.http(), "GET", &format!("/v1/calls/{call}"), "", "");
    assert_eq!(over.body["stage"], "ended");
    assert_eq!(over.body["detail"], detail);
    let gone = ask(site.http(), "DELETE", &format!("/v1/calls/{call}"), "", "");
    assert_eq!(gone.status, 404, "it is over");
}

/// Ended while the first phone rings: it is cancelled, and the second is never disturbed.
#[test]
fn or_it_is_ended_before_anybody_answered() {
    let site = Plan::new("click-cancel").with(TOKEN_SETTING).start();
    let port = free_ports(2);
    register(&site, "alice", port, false);
    let mut alice = crate::sipp::agent("agent_is_cancelled", port).play(&site);
    let bob_port = free_ports(2);
    register(&site, "bob", bob_port, false);
    let made = originate(&site, "k2", &json!({ "from": "alice", "to": "bob" }));
    let call = made.body["call"].as_str().unwrap().to_owned();
    wait_for("Alice's phone rings", || {
        (alice.received("INVITE") == 1 && stage(&site, &call) == "calling").then_some(())
    });
    // The 180 may still be on its way.
    std::thread::sleep(Duration::from_millis(200));
    let ended = ask(site.http(), "DELETE", &format!("/v1/calls/{call}"), "", "");
    assert_eq!(ended.status, 204);
    alice.assert_done();
    let detail = site.only_call();
    assert_eq!(
        (&detail["status"], &detail["rung"]),
        (&487.into(), &json!(["alice"])),
        "{detail:#}"
    );
}

/// The controller is killed while they talk, and asked again with the same key by who did not hear its answer: it is the
/// call that there is.
#[test]
fn and_once_though_the_controller_was_killed() {
    let mut site = Plan::new("click-killed").with(TOKEN_SETTING).start();
    let (mut alice_voice, mut bob_voice) = (Voice::new(Law::Mu, ALICE_HZ), Voice::new(Law::Mu, BOB_HZ));
    let mut phones = Vec::new();
    for (user, voice) in [("alice", &alice_voice), ("bob", &bob_voice)] {
        let port = free_ports(2);
        register(&site, user, port, false);
        let phone = Sipp::new("agent").at(port).argument("-aa").with_audio(voice);
        phones.push(phone.play(&site));
    }
    let body = json!({ "from": "alice", "to": "bob", "reference": "ticket-8" });
    let made = originate(&site, "k8", &body);
    assert_eq!(made.status, 201, "{made:?}");
    let call = made.body["call"].as_str().unwrap().to_owned();
    alice_voice.talk_to(phones[0].description().0);
    bob_voice.talk_to(phones[1].description().0);
    wait_for("they talk", || (stage(&site, &call) == "talking").then_some(()));
    site.kill_controld();
    bob_voice.listen().assert_is(ALICE_HZ, &[BOB_HZ]);
    site.start_controld_again();
    wait_for("they talk on", || {
        (stage(&site, &call) == "talking").then_some(())
    });
    let again = originate(&site, "k8", &body);
    assert_eq!(
        (again.status, again.body["call"].as_str()),
        (200, Some(&*call)),
        "{again:?}"
    );
    alice_voice.listen().assert_is(BOB_HZ, &[ALICE_HZ, 440.0, 480.0]);
    bob_voice.listen().assert_is(ALICE_HZ, &[BOB_HZ, 440.0, 480.0]);
    let ended = ask(site.http(), "DELETE", &format!("/v1/calls/{call}"), "", "");
    assert_eq!(ended.status, 204, "{ended:?}");
    for phone in &mut phones {
        phone.assert_done();
        assert_eq!(phone.received("INVITE"), 1, "rung once");
    }
    alice_voice.end();
    bob_voice.end();
    let detail = site.only_call();
    assert_eq!(
        detail["origin"],
        json!({ "kind": "api", "reference": "ticket-8" }),
        "{detail:#}"
    );
    let after = originate(&site, "k8", &body);
    assert_eq!(after.body["call"], call.as_str(), "{after:?}");
}
