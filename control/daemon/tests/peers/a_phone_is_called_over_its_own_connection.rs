//! A phone over TCP whose Contact nobody can connect to, as behind a NAT: what it registered over is what it is called over.

use crate::{
    sipp::{Sipp, registration},
    site::Site,
    voice::{Law, Voice},
};

/// Where nobody listens.
const NOWHERE: u16 = 9;

#[test]
fn a_phone_is_called_over_its_own_connection() {
    let site = Site::start("own-connection");
    let (mut alice_voice, mut bob_voice) = (Voice::new(Law::Mu, 700.0), Voice::new(Law::A, 1_100.0));
    let bob = registration(&site, "bob", NOWHERE, true)
        .over_tcp()
        .with_audio(&bob_voice)
        .then_answering("agent")
        .play(&site);
    site.wait_for_agent("bob", "ready");
    let alice = Sipp::new("caller_with_password")
        .user("alice")
        .with("CALLED", "bob")
        .proving_for("bob@127.0.0.1")
        .pausing_ms(2_500)
        .with_audio(&alice_voice);
    let mut alice = alice.play(&site);
    let (alice_to, bob_to) = (alice.description().0, bob.description().0);
    alice_voice.talk_to(alice_to);
    bob_voice.talk_to(bob_to);
    alice.assert_done();
    alice_voice.end();
    bob_voice.end();
    alice_voice.assert_heard(alice_to, 1_100.0, &[700.0]);
    bob_voice.assert_heard(bob_to, 700.0, &[1_100.0]);

    // The whole call came this way: nothing was opened towards the phone, nor towards anybody else.
    for request in ["INVITE", "ACK", "BYE"] {
        assert_eq!(bob.received(request), 1, "{request}\n{}", bob.messages());
    }
    let connections = ["accepted", "opened", "broken"];
    let counts = connections.map(|what| site.figure(&format!("controld_tcp_{what}_total ")));
    assert_eq!(counts, [1, 0, 0], "{connections:?}\n{}", site.story());
    assert_eq!(site.registrations("bob"), 1, "it is still there");
    site.only_call_ended("bob", "caller");
}
