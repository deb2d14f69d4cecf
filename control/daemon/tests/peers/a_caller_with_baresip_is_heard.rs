//! baresip on both sides of a call: Alice (700 Hz) calls Bob (1 100 Hz) with her password.

use serde_json::Value;

use crate::{
    baresip::{Baresip, Codec, Phone},
    program::{free_ports, wait_for},
    sipp::{Sipp, register},
    site::{Plan, Site},
    voice::{Law, Voice},
};

fn between(name: &str, alice: Baresip, bob: Baresip) -> (Site, Phone, Phone) {
    between_at(Plan::new(name), alice, bob)
}

fn between_at(plan: Plan, alice: Baresip, bob: Baresip) -> (Site, Phone, Phone) {
    let site = plan.with_all_codecs().start();
    let bob = bob.start(&site);
    let alice = alice.that_only_calls().start(&site);
    alice.dial("bob");
    site.wait_for_call("talking");
    bob.await_sound();
    alice.await_sound();
    bob.listen().assert_is(700.0, &[1_100.0]);
    alice.listen().assert_is(1_100.0, &[700.0]);
    (site, alice, bob)
}

/// Alice hangs up; the record of the call, and that each used its codec.
fn end(site: &Site, alice: &Phone, bob: &Phone, codecs: [Codec; 2]) -> Value {
    alice.hang_up();
    let call = site.only_call_ended("bob", "caller");
    assert_eq!(
        (&call["caller_codec"], &call["callee_codec"]),
        (&codecs[0].name().into(), &codecs[1].name().into()),
        "{call:#}"
    );
    alice.assert_speaks();
    bob.assert_speaks();
    for side in ["caller_media", "callee_media"] {
        let count = |key: &str| call[side][key].as_u64().unwrap();
        assert!(count("rx_packets") > 80 && count("tx_packets") > 80, "{call:#}");
        assert!(call[side]["mos"].as_f64().unwrap() > 3.0, "{call:#}");
    }
    call
}

fn call(name: &str, transport: &'static str, codecs: [Codec; 2]) {
    let alice = Baresip::of("alice", codecs[0], 700.0).over(transport);
    let bob = Baresip::of("bob", codecs[1], 1_100.0).over(transport);
    let (site, alice, bob) = between(name, alice, bob);
    let contacts = site.page("/v1/registrations").to_string();
    let transports = contacts.matches(&format!("\"source\":\"{transport}:")).count();
    assert_eq!(transports, 2, "{contacts}");
    end(&site, &alice, &bob, codecs);
}

#[test]
fn in_g711() {
    call("callers-pcmu", "udp", [Codec::Pcmu, Codec::Pcmu]);
}

#[test]
fn in_g722() {
    call("callers-g722", "udp", [Codec::G722, Codec::G722]);
}

#[test]
fn in_opus() {
    call("callers-opus", "tcp", [Codec::Opus, Codec::Opus]);
}

#[test]
fn in_opus_by_who_has_g711() {
    call("callers-opus-pcmu", "udp", [Codec::Opus, Codec::Pcmu]);
}

#[test]
fn in_g711_by_who_has_opus() {
    call("callers-pcma-opus", "tcp", [Codec::Pcma, Codec::Opus]);
}

#[test]
fn in_g722_by_who_has_opus_over_tls() {
    call("callers-tls", "tls", [Codec::G722, Codec::Opus]);
}

/// What each phone says of itself is what the record says of its leg.
fn assert_suites(call: &Value, phones: [(&Phone, bool); 2]) {
    for (number, (phone, is_encrypted)) in phones.into_iter().enumerate() {
        let suites = phone.suites();
        assert_eq!(!suites.is_empty(), is_encrypted, "{suites:?}\n{}", phone.story());
        let told = &call["legs"][number]["srtp"];
        assert_eq!(told, suites.first().map_or("", String::as_str), "{call:#}");
    }
}

#[test]
fn encrypted_on_both_sides() {
    let codecs = [Codec::Pcma, Codec::Opus];
    // Who insists on SRTP takes no offer that would do without.
    let plan = Plan::new("callers-srtp").with("media.srtp=required");
    let (site, alice, bob) = between_at(
        plan,
        Baresip::of("alice", codecs[0], 700.0).over("tls").encrypting(),
        Baresip::of("bob", codecs[1], 1_100.0).over("tls").encrypting(),
    );
    let call = end(&site, &alice, &bob, codecs);
    assert_suites(&call, [(&alice, true), (&bob, true)]);
}

#[test]
fn encrypted_on_one_side_only() {
    let codecs = [Codec::G722, Codec::G722];
    let (site, alice, bob) = between(
        "callers-srtp-one",
        Baresip::of("alice", codecs[0], 700.0).over("tls").encrypting(),
        Baresip::of("bob", codecs[1], 1_100.0),
    );
    let call = end(&site, &alice, &bob, codecs);
    assert_suites(&call, [(&alice, true), (&bob, false)]);
}

#[test]
fn and_holds_and_comes_back() {
    let codecs = [Codec::Opus, Codec::Pcma];
    let (site, alice, bob) = between(
        "callers-hold",
        Baresip::of("alice", codecs[0], 700.0),
        Baresip::of("bob", codecs[1], 1_100.0),
    );
    alice.order("hold", "");
    bob.listen().assert_is_music(&[700.0, 1_100.0]);
    alice.order("resume", "");
    bob.listen().assert_is(700.0, &[1_100.0]);
    // She is sent his voice again, but this phone plays nothing any more to who has been holding.
    end(&site, &alice, &bob, codecs);
}

/// Alice hands Bob over to Carol (500 Hz), who has sipp; he hears ringback and then her.
#[test]
fn and_transfers_the_other_party() {
    let codecs = [Codec::Pcmu, Codec::Opus];
    let (site, alice, bob) = between(
        "callers-transfer",
        Baresip::of("alice", codecs[0], 700.0),
        Baresip::of("bob", codecs[1], 1_100.0),
    );
    let (carol_port, mut carol_voice) = (free_ports(2), Voice::new(Law::A, 500.0));
    register(&site, "carol", carol_port, false);
    let mut carol = Sipp::new("agent")
        .at(carol_port)
        .until_told()
        .with_audio(&carol_voice)
        .play(&site);
    alice.order("transfer", &format!("sip:carol@{}", site.udp.ip()));
    let (carol_to, _) = carol.description();
    bob.listen().assert_is_ringback();
    carol.go_on();
    carol_voice.talk_to(carol_to);
    carol_voice.listen().assert_is(1_100.0, &[500.0, 700.0]);
    bob.listen().assert_is(500.0, &[700.0, 1_100.0]);
    let call = site.wait_for_call("talking");
    bob.hang_up();
    carol.assert_done();
    carol_voice.end();
    let told = site.only_call();
    assert_eq!(told["call"], call["call"]);
    let legs: Vec<&str> = told["legs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|leg| leg["user"].as_str().unwrap_or("stranger"))
        .collect();
    assert_eq!(legs, ["alice", "bob", "carol"], "{told:#}");
}

/// Alice asks Carol (500 Hz) first, and then puts her and Bob together.
#[test]
fn and_transfers_the_other_party_after_asking() {
    let (site, alice, bob) = between(
        "callers-attended",
        Baresip::of("alice", Codec::Opus, 700.0),
        Baresip::of("bob", Codec::Pcmu, 1_100.0),
    );
    let (carol_port, mut carol_voice) = (free_ports(2), Voice::new(Law::A, 500.0));
    register(&site, "carol", carol_port, false);
    let mut carol = Sipp::new("agent_is_moved")
        .at(carol_port)
        .with_audio(&carol_voice)
        .play(&site);
    alice.order("hold", "");
    bob.listen().assert_is_music(&[700.0, 1_100.0]);
    alice.dial("carol");
    let carol_to = carol.description().0;
    carol_voice.talk_to(carol_to);
    carol_voice.listen().assert_is(700.0, &[500.0, 1_100.0]);
    bob.listen().assert_is_music(&[700.0, 1_100.0]);
    let [call_id, to_tag, from_tag] = alice.dialog_with("bob");
    alice.order(
        "transfer",
        &format!(
            "<sip:bob@{}?Replaces={}%3Bto-tag%3D{to_tag}%3Bfrom-tag%3D{from_tag}>",
            site.udp.ip(),
            call_id.replace('@', "%40"),
        ),
    );
    // Bob's call goes on, with her in it: she is told of another place for her audio.
    wait_for("she is told", || {
        (carol.description().0 != carol_to).then_some(())
    });
    carol_voice.talk_to(carol.description().0);
    wait_for("one call is left", || {
        (site.list("/v1/calls").len() == 1).then_some(())
    });
    carol_voice.listen().assert_is(1_100.0, &[500.0, 700.0]);
    bob.listen().assert_is(500.0, &[700.0, 1_100.0]);
    bob.hang_up();
    carol.assert_done();
    carol_voice.end();
    let calls = site.assert_nothing_left(2);
    assert!(calls.iter().all(|call| call["status"] == 200), "{calls:#?}");
}
