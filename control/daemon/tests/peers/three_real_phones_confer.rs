//! Three phones of different makers, each with a codec of its own, in one room.

use crate::{
    baresip::{Baresip, Codec},
    program::wait_for,
    sipp::Sipp,
    site::Plan,
    voice::{Law, Sound, Voice},
};

/// Each of `said` is a good part of it, nothing of the others is in it.
#[track_caller]
fn assert_holds(sound: &Sound, said: &[f64], others: &[f64]) {
    for hz in said {
        let share = sound.around(*hz);
        let least = 0.6 / said.len() as f64;
        assert!(share > least, "{hz} Hz to {share:.3}, not to {least:.3}");
    }
    sound.assert_lacks(others);
}

#[test]
fn three_then_two_then_three() {
    let site = Plan::new("confer").with_all_codecs().start();
    let alice = Baresip::of("alice", Codec::G722, 500.0)
        .that_only_calls()
        .start(&site);
    let bob = Baresip::of("bob", Codec::Opus, 800.0)
        .that_only_calls()
        .start(&site);
    let mut voice = Voice::new(Law::Mu, 1_200.0);
    let mut sipp = Sipp::new("caller")
        .with("USER", "customer")
        .with("CALLED", "room-7")
        .with_audio(&voice)
        .until_told()
        .play(&site);
    voice.talk_to(sipp.description().0);
    alice.dial("room-7");
    bob.dial("room-7");
    let members = |count: usize| {
        let members = wait_for(&format!("{count} are in the room"), || {
            let room = site.list("/v1/conferences").into_iter().next()?;
            let members = room["members"].as_array()?.clone();
            (members.len() == count).then_some(members)
        });
        let mut codecs: Vec<String> = members
            .iter()
            .map(|member| member["codec"].as_str().unwrap().to_owned())
            .collect();
        codecs.sort();
        codecs
    };
    let all_hear_each_other = || {
        assert_eq!(members(3), ["G722", "PCMU", "opus"]);
        assert_holds(&voice.listen(), &[500.0, 800.0], &[1_200.0]);
        assert_holds(&alice.listen(), &[800.0, 1_200.0], &[500.0]);
        assert_holds(&bob.listen(), &[500.0, 1_200.0], &[800.0]);
    };
    all_hear_each_other();
    bob.hang_up();
    assert_eq!(members(2), ["G722", "PCMU"]);
    voice.listen().assert_is(500.0, &[800.0, 1_200.0]);
    alice.listen().assert_is(1_200.0, &[500.0, 800.0]);
    bob.dial("room-7");
    all_hear_each_other();

    alice.assert_speaks();
    bob.assert_speaks();
    assert_eq!(site.sent("INVITE"), 0, "nobody is asked anything");
    alice.hang_up();
    bob.hang_up();
    sipp.go_on();
    sipp.assert_done();
    voice.end();
    for call in site.assert_nothing_left(4) {
        assert_eq!(
            (&call["room"], &call["status"]),
            (&"room-7".into(), &200.into()),
            "{call:#}"
        );
    }
    assert!(site.list("/v1/conferences").is_empty());
}
