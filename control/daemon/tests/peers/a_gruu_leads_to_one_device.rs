//! Addresses of one device (RFC 5627) with phones that are not ours: both kinds, asked for by sipp, called by baresip. Another
//! device of the same user does not ring. (baresip 1.0 says what it is and asks for no such address.)

use crate::{
    baresip::{Baresip, Codec, Phone},
    program::free_ports,
    sipp::{Sipp, register},
    site::{Plan, Site},
    voice::{Law, Voice},
};

const INSTANCE: &str = "urn:uuid:00000000-0000-1000-8000-00a0c91e6bf6";

/// The address of this kind that the last registration in these messages was given.
fn gruu(messages: &str, kind: &str) -> String {
    let start = format!("{kind}=\"");
    let (_, rest) = messages
        .rsplit_once(&start)
        .unwrap_or_else(|| panic!("no {kind} in\n{messages}"));
    rest.split('"').next().unwrap().to_owned()
}

/// Bob (1 100 Hz), who calls.
fn bob(site: &Site) -> Phone {
    Baresip::of("bob", Codec::Pcmu, 1_100.0)
        .that_only_calls()
        .start(site)
}

fn call(name: &str, kind: &str) {
    let site = Plan::new(name).with_all_codecs().start();
    let bob = bob(&site);
    let (port, other_port) = (free_ports(2), free_ports(2));
    let registered = Sipp::new("register_device")
        .user("alice")
        .with("CONTACT_PORT", port)
        .with("INSTANCE", INSTANCE)
        .proving_for("127.0.0.1")
        .run(&site);
    register(&site, "alice", other_port, false);
    assert_eq!(site.registrations("alice"), 2);
    let gruu = gruu(&registered.messages(), kind);
    let mut voice = Voice::new(Law::Mu, 700.0);
    // Which it also gives as its Contact: ACK and BYE come all the same.
    let alice = Sipp::new("agent").at(port).with("CONTACT", &gruu);
    let mut alice = alice.with_audio(&voice).play(&site);
    // Nobody is at the port that a domain without one stands for.
    let at = gruu.replace("@127.0.0.1", &format!("@{}", site.udp));
    bob.order("dial", &at);
    voice.talk_to(alice.description().0);
    voice.listen().assert_is(1_100.0, &[700.0]);
    bob.listen().assert_is(700.0, &[1_100.0]);
    bob.hang_up();
    alice.assert_done();
    voice.end();
    let asked = site.story();
    let elsewhere = format!("start=INVITE sip:alice@127.0.0.1:{other_port}");
    assert!(!asked.contains(&elsewhere), "only this device rings\n{asked}");
    site.only_call_ended("alice", "caller");
}

#[test]
fn by_its_public_address() {
    call("gruu-public", "pub-gruu");
}

#[test]
fn by_a_temporary_address() {
    call("gruu-temporary", "temp-gruu");
}
