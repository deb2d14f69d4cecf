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
    let done = pb::RecordingFinalised {
        recording: recording.to_owned(),
        segment: 1,
        path: format!("{recording}.wav"),
        duration_ms: 1_000,
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
    let path = format!("{call}.wav");
    assert_eq!(world.detail().recording.as_deref(), Some(path.as_str()));
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
        assert_eq!(world.detail().recording, None);
        let problems = world.records.iter().filter(
            |record| matches!(&record.kind, RecordKind::Recorded { problem, .. } if !problem.is_empty()),
        );
        assert_eq!(problems.count(), usize::from(!can_record));
        world.assert_nothing_left();
    }
}
