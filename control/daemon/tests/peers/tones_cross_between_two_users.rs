//! Signalling by sipp, audio by the test: so that every packet of both parties is looked at.

use crate::{
    program::free_ports,
    sipp::{Playing, Sipp, register},
    site::Site,
    voice::{Law, Voice},
};

/// Alice calls Bob with her password; each hears the other's tone, in the law it asked for, and nothing else.
fn alice_calls_bob(name: &str, tcp: bool, alice_law: Law, bob_law: Law) {
    let site = Site::start(name);
    let bob_port = free_ports(2);
    register(&site, "bob", bob_port, tcp);
    let (mut alice_voice, mut bob_voice) = (Voice::new(alice_law, 700.0), Voice::new(bob_law, 1_100.0));
    let bob = Sipp::new("agent").at(bob_port).with_audio(&bob_voice);
    let mut bob = over(bob, tcp).play(&site);
    let alice = Sipp::new("caller_with_password")
        .user("alice")
        .with("CALLED", "bob")
        .proving_for("bob@127.0.0.1")
        .pausing_ms(2_000);
    let mut alice = over(alice.with_audio(&alice_voice), tcp).play(&site);

    let (alice_to, bob_to) = (port_at(&alice, &site, alice_law), bob.description().0);
    alice_voice.talk_to(alice_to);
    bob_voice.talk_to(bob_to);
    alice.assert_done();
    bob.assert_done();
    let ((alice_sent, alice_heard), (bob_sent, bob_heard)) = (alice_voice.end(), bob_voice.end());
    alice_voice.assert_heard(alice_to, 1_100.0, &[700.0]);
    bob_voice.assert_heard(bob_to, 700.0, &[1_100.0]);

    let call = site.only_call_ended("bob", "caller");
    let codecs = (&call["caller_codec"], &call["callee_codec"]);
    assert_eq!(codecs, (&alice_law.name().into(), &bob_law.name().into()));
    // What the media host counted is what the sockets saw; at the end of a call a few packets find it closed.
    for (side, sent, heard) in [
        ("caller_media", alice_sent, alice_heard),
        ("callee_media", bob_sent, bob_heard),
    ] {
        let count = |key: &str| call[side][key].as_u64().unwrap() as usize;
        assert_eq!(count("tx_packets"), heard, "{side}: {call:#}");
        assert!(
            (sent - 30..=sent).contains(&count("rx_packets")),
            "{side}: sent {sent}, {call:#}"
        );
    }
    // 2 s are 100 packets, of which a busy machine sends some before the other side is there, or not at all.
    assert!(
        alice_heard >= 50 && bob_heard >= 50,
        "{alice_heard}, {bob_heard} packets"
    );
}

fn over(phone: Sipp, tcp: bool) -> Sipp {
    if tcp { phone.over_tcp() } else { phone }
}

/// Where a party's audio goes, and that the answer on the wire holds the law it asked for.
fn port_at(phone: &Playing, site: &Site, law: Law) -> std::net::SocketAddr {
    let (to, formats) = phone.description();
    assert_eq!(formats.first(), Some(&law.payload_type()), "{}", site.story());
    to
}

#[test]
fn over_udp_in_one_law() {
    alice_calls_bob("tones-udp", false, Law::Mu, Law::Mu);
}

#[test]
fn over_tcp_in_two_laws() {
    alice_calls_bob("tones-tcp", true, Law::A, Law::Mu);
}
