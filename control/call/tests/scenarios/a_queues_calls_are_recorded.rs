use call_control::{MediaInput, RecordKind};
use proto::mediad::v1 as pb;

use crate::world::{World, config};

fn recording() -> (World, usize, usize) {
    let mut config = config();
    config.queues[0].record = true;
    let mut world = World::with(config);
    let alice = world.registered("alice", "wonder");
    let customer = world.phone("customer");
    (world, alice, customer)
}

fn finalised(world: &mut World, recording: &str) {
    finalised_segment(world, recording, 1);
}

fn finalised_segment(world: &mut World, recording: &str, segment: u32) {
    let done = pb::RecordingFinalised {
        recording: recording.to_owned(),
        segment,
        path: format!("{recording}.wav"),
        duration_ms: 1_000,
        size_bytes: 16_044,
        sha256: "c0ffee".to_owned(),
        ..pb::RecordingFinalised::default()
    };
    let event = pb::Event {
        session: recording.to_owned(),
        node: "recording".to_owned(),
        kind: Some(pb::event::Kind::RecordingFinalised(done)),
        ..pb::Event::default()
    };
    let at = world.clocks();
    let (host, event) = ("m1".into(), Box::new(event));
    world
        .controller
        .handle_media(at, MediaInput::Event { host, event });
}

fn channels(of: &[(&str, u32)]) -> Vec<(String, u32)> {
    of.iter()
        .map(|(name, channel)| ((*name).to_owned(), *channel))
        .collect()
}

#[test]
fn and_the_detail_says_where() {
    let (mut world, alice, customer) = recording();
    world.call(customer, "support");
    world.run_ms(500);
    assert!(world.media.recorded().is_empty(), "nobody talks yet");
    world.run_ms(1_500);
    assert_eq!(
        world.media.recorded(),
        channels(&[("caller", 0), ("callee-1", 1)]),
        "{}",
        world.story()
    );
    assert_eq!(world.heard().len(), 2, "{}", world.story());
    let call = world.controller.live(world.clocks()).calls[0].call.clone();
    let at = world.clocks();
    assert!(world.controller.pause_recording(at, &call, true));
    world.run_ms(100);
    let masked = |world: &World| {
        let session = world.media.sessions.values().next().unwrap();
        matches!(&session.nodes["recording"], pb::node::Kind::Recorder(recorder) if recorder.paused)
    };
    assert!(masked(&world), "{}", world.story());
    let at = world.clocks();
    assert!(world.controller.pause_recording(at, &call, false));
    // On hold it goes on: one file for one call.
    let now = world.now;
    world.phones[alice].reinvite(now, sdp::Direction::SendOnly);
    world.run_ms(100);
    assert!(!masked(&world), "{}", world.story());
    assert_eq!(world.media.recorded().len(), 2, "{}", world.story());
    world.hang_up(customer);
    world.run_ms(100);
    assert!(world.details().is_empty(), "it waits for the file");
    finalised(&mut world, &call);
    world.run_ms(100);
    let recordings = world.detail().recordings;
    assert_eq!(recordings.len(), 1, "{recordings:?}");
    let file = &recordings[0];
    assert_eq!(
        (
            &*file.path,
            &*file.host,
            file.segment,
            file.duration_ms,
            file.size_bytes
        ),
        (&*format!("{call}.wav"), "m1", 1, 1_000, 16_044)
    );
    assert_eq!((&*file.sha256, &*file.problem), ("c0ffee", ""));
    assert_eq!(world.acknowledged, [(call.clone(), 1)]);
    let recorded = world.at("journal Recorded");
    assert!(recorded < world.at("journal CallDetail"), "{}", world.story());
    assert!(
        !world.controller.pause_recording(world.clocks(), &call, true),
        "it is over"
    );
    world.assert_nothing_left();
}

#[test]
fn or_without_when_it_does_not_come() {
    for can_record in [true, false] {
        let (mut world, _, customer) = recording();
        world.media.no_recorders = !can_record;
        world.call(customer, "support");
        world.run_ms(2_000);
        assert_eq!(world.heard().len(), 2, "the call goes on\n{}", world.story());
        world.hang_up(customer);
        world.run_ms(7_000);
        let recordings = world.detail().recordings;
        let problem = if can_record {
            "the media host did not tell of it within 5 s after the call"
        } else {
            "no recorders here"
        };
        assert_eq!(recordings.len(), 1, "it is told that there is none");
        assert_eq!((&*recordings[0].path, &*recordings[0].problem), ("", problem));
        assert_eq!(world.controller.counters().recordings_missing, 1);
        let told = |record: &&call_control::Record| matches!(&record.kind, RecordKind::Recorded { .. });
        assert_eq!(world.records.iter().filter(told).count(), 1);
        assert!(world.acknowledged.is_empty());
        world.assert_nothing_left();
    }
}

#[test]
fn one_that_comes_late_is_added() {
    let (mut world, _, customer) = recording();
    world.call(customer, "support");
    world.run_ms(2_000);
    let call = world.controller.live(world.clocks()).calls[0].call.clone();
    world.hang_up(customer);
    world.run_ms(7_000);
    let mut detail = world.detail();
    assert_eq!(detail.recordings[0].path, "");
    finalised(&mut world, &call);
    world.run_ms(10);
    assert_eq!(world.acknowledged, [(call.clone(), 1)]);
    // What reads the journal puts it where it belongs.
    let last = world.records.last().unwrap().kind.clone();
    let RecordKind::Recorded { call: of, file } = last else {
        panic!("{last:?}")
    };
    assert_eq!(of, call);
    detail.take_recording(file);
    assert_eq!(detail.recordings.len(), 1);
    assert_eq!(detail.recordings[0].path, format!("{call}.wav"));
    world.assert_nothing_left();
}

/// Killed while the media host wrote: the one after it hears of the file, and the call has it.
#[test]
fn a_restart_loses_none() {
    let (mut world, alice, customer) = recording();
    world.call(customer, "support");
    world.run_ms(2_000);
    let call = world.controller.live(world.clocks()).calls[0].call.clone();
    world.restart();
    world.run_ms(1_000);
    assert_eq!(
        world.media.recorded(),
        channels(&[("caller", 0), ("callee-1", 1)]),
        "it goes on\n{}",
        world.story()
    );
    let _ = alice;
    world.hang_up(customer);
    world.run_ms(100);
    // Again: it ended, and the file is not told of yet.
    world.restart();
    world.run_ms(100);
    assert!(
        world.details().is_empty(),
        "it waits for the file\n{}",
        world.story()
    );
    finalised(&mut world, &call);
    finalised(&mut world, &call);
    world.run_ms(100);
    let recordings = world.detail().recordings;
    assert_eq!(recordings.len(), 1, "{recordings:?}");
    assert_eq!(recordings[0].path, format!("{call}.wav"));
    assert_eq!(world.acknowledged.len(), 2, "told twice, and answered twice");
    world.assert_nothing_left();
}

/// Another life of the media host, or another host, begins a file of its own.
#[test]
fn a_call_that_moves_has_a_file_for_each_place() {
    let (mut world, alice, customer) = recording();
    world.call(customer, "support");
    world.run_ms(2_000);
    let call = world.controller.live(world.clocks()).calls[0].call.clone();
    world.restart_media_host(true);
    world.run_ms(2_000);
    let segment = |world: &World| {
        let session = world.media.sessions.values().next().unwrap();
        match &session.nodes["recording"] {
            pb::node::Kind::Recorder(recorder) => recorder.segment,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(segment(&world), 2, "{}", world.story());
    // What it wrote in the life before was mended.
    finalised(&mut world, &call);
    world.hang_up(alice);
    world.run_ms(100);
    assert!(world.details().is_empty(), "the second is not there yet");
    finalised_segment(&mut world, &call, 2);
    world.run_ms(100);
    let segments: Vec<u32> = world
        .detail()
        .recordings
        .iter()
        .map(|file| file.segment)
        .collect();
    assert_eq!(segments, [1, 2]);
    let _ = customer;
    world.assert_nothing_left();
}
