use sdp::MediaKind;
use sip::message::Method;

use crate::world::World;

/// Lines of the last description that a phone got, with whether they are on.
fn lines(world: &World, phone: usize) -> Vec<(MediaKind, bool)> {
    let remote = world.phones[phone].remote.as_ref().unwrap();
    let line = |media: &sdp::Media| (media.kind.clone(), !media.is_rejected());
    remote.media().iter().map(line).collect()
}

/// RFC 3264 §8: however often we offer, video has its place, switched off, and audio the one after it.
#[test]
fn of_a_phone_that_offered_video_first() {
    let mut world = World::new();
    let alice = world.registered("alice", "wonder");
    let carol = world.registered("carol", "singer");
    let dora = world.phone_with("dora", |config| {
        config.methods.retain(|method| *method != Method::Update);
    });
    world.phones[dora].films = true;
    world.call(dora, "carol");
    world.run_ms(2_000);
    let expected = [(MediaKind::Video, false), (MediaKind::Audio, true)];
    assert_eq!(lines(&world, dora), expected, "the answer\n{}", world.story());
    assert_eq!(world.heard().len(), 2, "{}", world.story());
    // It is asked to refresh the session, or told of another media host, by offers of ours.
    for round in 1..4 {
        world.lose_media_host();
        world.restart_media_host(false);
        world.run_ms(3_000);
        assert_eq!(world.count("server>dora INVITE"), round, "{}", world.story());
        assert_eq!(lines(&world, dora), expected, "{}", world.story());
        assert_eq!(world.heard().len(), 2, "{}", world.story());
    }
    let now = world.now;
    world.phones[dora].ask_for_offer(now);
    world.run_ms(200);
    assert_eq!(lines(&world, dora), expected, "{}", world.story());
    // Into a room, and there again.
    let now = world.now;
    world.phones[carol].refer(now, "sip:room-7@example.com");
    world.run_ms(1_000);
    assert_eq!(lines(&world, dora), expected, "{}", world.story());
    world.lose_media_host();
    world.restart_media_host(false);
    world.run_ms(3_000);
    assert_eq!(lines(&world, dora), expected, "{}", world.story());
    world.hang_up(dora);
    assert_eq!(world.phones[alice].rung, 0);
    world.assert_nothing_left();
}
