use crate::{
    program::{free_ports, wait_for},
    sipp::{Sipp, register},
    site::Site,
    voice::{Law, Voice},
};

/// A customer (700 Hz) calls Bob (1 100 Hz), who says something before he answers.
#[test]
fn before_the_answer() {
    let site = Site::start("early");
    let (mut voice, mut bob_voice) = (Voice::new(Law::A, 700.0), Voice::new(Law::Mu, 1_100.0));
    let bob_port = free_ports(2);
    register(&site, "bob", bob_port, false);
    let mut bob = Sipp::new("agent_is_heard_early")
        .at(bob_port)
        .until_told()
        .with_audio(&bob_voice)
        .play(&site);
    let mut caller = Sipp::new("caller")
        .with("USER", "customer")
        .with("CALLED", "bob")
        .until_told()
        .with_audio(&voice)
        .play(&site);
    bob_voice.talk_to(bob.description().0);
    voice.talk_to(caller.description().0);
    voice.listen().assert_is(1_100.0, &[700.0]);
    assert_eq!(caller.received("SIP/2.0 183"), 1);
    assert_eq!(caller.received("SIP/2.0 200"), 0, "it rings still");
    assert_eq!(site.wait_for_call("ringing")["user"], "bob");
    bob.go_on();
    site.wait_for_call("talking");
    voice.listen().assert_is(1_100.0, &[700.0]);
    bob_voice.listen().assert_is(700.0, &[1_100.0]);
    caller.go_on();
    caller.assert_done();
    bob.assert_done();
    voice.end();
    bob_voice.end();
    let call = site.only_call();
    assert!(
        call["wait_ms"].as_u64().unwrap() >= 1_600,
        "he rang for a while: {call:#}"
    );
}

/// The customer puts Bob on hold and takes him back; he hears our music, not what the customer's phone goes on to send.
#[test]
fn on_hold() {
    let site = Site::start("hold-music");
    let (mut voice, mut bob_voice) = (Voice::new(Law::A, 900.0), Voice::new(Law::Mu, 1_100.0));
    let bob_port = free_ports(2);
    register(&site, "bob", bob_port, false);
    let mut bob = Sipp::new("agent").at(bob_port).with_audio(&bob_voice).play(&site);
    let mut caller = Sipp::new("caller_holds")
        .with("USER", "customer")
        .with("CALLED", "bob")
        .with("WANTED2", "recvonly")
        .with("WANTED3", "sendrecv")
        .until_told()
        .with_audio(&voice)
        .play(&site);
    bob_voice.talk_to(bob.description().0);
    voice.talk_to(caller.description().0);
    site.wait_for_call("talking");
    bob_voice.listen().assert_is(900.0, &[1_100.0]);
    caller.go_on();
    wait_for("the hold is agreed", || (caller.sent("ACK") == 2).then_some(()));
    bob_voice.listen().assert_is_music(&[900.0, 1_100.0]);
    caller.go_on();
    wait_for("its end too", || (caller.sent("ACK") == 3).then_some(()));
    bob_voice.listen().assert_is(900.0, &[1_100.0]);
    voice.listen().assert_is(1_100.0, &[900.0]);
    caller.go_on();
    caller.assert_done();
    bob.assert_done();
    voice.end();
    bob_voice.end();
    assert_eq!(site.only_call()["status"], 200);
    assert_eq!(bob.received("INVITE"), 1, "he is asked nothing");
}
