//! Each fault, put between engine and judge, has to be found, and called what it is.

use sim::{
    Run, run,
    sabotage::{Fault, Sabotage},
};

/// Runs worlds with the fault until one has a chance to strike, and gives what was said.
fn caught(fault: Fault, countdown: u32) -> String {
    for seed in 1..=30 {
        let config = Run {
            seed,
            sabotage: Some(Sabotage::new(fault, countdown)),
            ..Run::default()
        };
        if let Err(failure) = run(config) {
            return failure.violation;
        }
    }
    panic!("{fault:?} was not noticed in 30 worlds");
}

fn is_called(fault: Fault, countdown: u32, words: &[&str]) {
    let said = caught(fault, countdown);
    assert!(
        words.iter().any(|word| said.contains(word)),
        "{fault:?} was called: {said}"
    );
}

#[test]
fn a_packet_to_the_wrong_phone() {
    is_called(Fault::WrongListener, 100, &["a packet goes to"]);
}

#[test]
fn a_repeated_frame_or_packet() {
    // A repeated digit shows when the audio behind it wants the same number.
    is_called(Fault::RepeatedFrame, 100, &["sent twice", "carries"]);
    is_called(Fault::RepeatedPacket, 100, &["carries"]);
}

#[test]
fn a_broken_line() {
    is_called(Fault::SequenceGap, 100, &["numbers moved", "a gap of"]);
    is_called(Fault::TimestampBack, 100, &["timestamp"]);
    is_called(Fault::OtherSsrc, 100, &["was not promised"]);
}

#[test]
fn audio_that_nobody_spoke_or_agreed_to() {
    is_called(Fault::DamagedPayload, 100, &["that no phone spoke"]);
    is_called(Fault::OtherPayloadType, 100, &["was not agreed"]);
}

#[test]
fn silence_where_somebody_speaks() {
    is_called(
        Fault::Silence,
        50,
        &["nothing of", "misses frame", "counts", "that it flows"],
    );
}

#[test]
fn a_digit_that_is_not_told() {
    is_called(Fault::LostDigit, 2, &["digit"]);
}

#[test]
fn an_edge_that_was_not_asked_for() {
    is_called(Fault::ExtraEdge, 3, &["does not let it hear"]);
}

#[test]
fn a_key_that_was_not_told() {
    is_called(Fault::UntoldKey, 2, &["what no key opens that was told"]);
}

#[test]
fn an_event_that_is_skipped() {
    is_called(Fault::SkippedEvent, 1, &["event", "events are lost"]);
}

#[test]
fn a_session_that_is_never_let_go() {
    is_called(
        Fault::LeakedSession,
        0,
        &["the host still has", "still sends", "sends"],
    );
}
