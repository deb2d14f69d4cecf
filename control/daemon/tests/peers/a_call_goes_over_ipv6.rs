use std::net::Ipv6Addr;

use crate::{
    program::free_ports,
    sipp::{Sipp, register},
    site::Plan,
    voice::{Law, Voice},
};

/// No address of the other family anywhere: signalling and audio at `::1`.
fn alice_calls_bob(name: &str, tcp: bool) {
    let site = Plan::new(name).over_ipv6().start();
    let ip = Ipv6Addr::LOCALHOST.into();
    let (mut alice_voice, mut bob_voice) = (Voice::on(ip, Law::A, 700.0), Voice::on(ip, Law::Mu, 1_100.0));
    let bob_port = free_ports(2);
    register(&site, "bob", bob_port, tcp);
    let over = |phone: Sipp| if tcp { phone.over_tcp() } else { phone };
    let mut bob = over(Sipp::new("agent").at(bob_port).with_audio(&bob_voice)).play(&site);
    let alice = Sipp::new("caller_with_password")
        .user("alice")
        .with("CALLED", "bob")
        .proving_for("bob@[::1]")
        .pausing_ms(4_000)
        .with_audio(&alice_voice);
    let mut alice = over(alice).play(&site);
    let (alice_to, bob_to) = (alice.description().0, bob.description().0);
    assert!(alice_to.is_ipv6() && bob_to.is_ipv6());
    alice_voice.talk_to(alice_to);
    bob_voice.talk_to(bob_to);
    alice.assert_done();
    bob.assert_done();
    alice_voice.end();
    bob_voice.end();
    alice_voice.assert_heard(alice_to, 1_100.0, &[700.0]);
    bob_voice.assert_heard(bob_to, 700.0, &[1_100.0]);
    site.only_call_ended("bob", "caller");
    for messages in [alice.messages(), bob.messages()] {
        assert!(!messages.contains("127.0.0.1"), "{messages}");
    }
}

#[test]
fn over_udp() {
    alice_calls_bob("ipv6-udp", false);
}

#[test]
fn over_tcp() {
    alice_calls_bob("ipv6-tcp", true);
}
