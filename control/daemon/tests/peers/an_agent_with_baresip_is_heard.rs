use crate::{
    baresip::{Baresip, Codec},
    sipp::Sipp,
    site::Plan,
    voice::{Law, Voice},
};

/// A customer (700 Hz) with sipp reaches Alice (1 100 Hz) by the queue.
fn call(name: &str, agent: Codec, law: Law) {
    let site = Plan::new(name).with_all_codecs().start();
    let phone = Baresip::of("alice", agent, 1_100.0).start(&site);
    site.wait_for_agent("alice", "ready");
    let mut voice = Voice::new(law, 700.0);
    let mut caller = Sipp::new("caller")
        .with("USER", "customer")
        .with("CALLED", "support")
        .with_audio(&voice)
        .until_told()
        .play(&site);
    let (to, _) = caller.description();
    voice.talk_to(to);
    site.wait_for_call("talking");
    voice.listen().assert_is(1_100.0, &[700.0]);
    phone.listen().assert_is(700.0, &[1_100.0]);
    caller.go_on();
    caller.assert_done();
    voice.end();
    let told = site.only_call();
    assert_eq!(
        (&told["answered_by"], &told["ended_by"]),
        (&"alice".into(), &"caller".into())
    );
    let codecs = (&told["caller_codec"], &told["callee_codec"]);
    assert_eq!(codecs, (&law.name().into(), &agent.name().into()), "{told:#}");
    phone.assert_speaks();
}

#[test]
fn in_the_law_of_its_caller() {
    call("baresip-pcmu", Codec::Pcmu, Law::Mu);
}

#[test]
fn in_another_law_than_its_caller() {
    call("baresip-pcma", Codec::Pcma, Law::Mu);
}

#[test]
fn in_wideband() {
    call("baresip-g722", Codec::G722, Law::A);
}

#[test]
fn in_opus() {
    call("baresip-opus", Codec::Opus, Law::Mu);
}
