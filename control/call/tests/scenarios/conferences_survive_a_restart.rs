use std::collections::BTreeSet;

use sdp::Direction;

use crate::world::World;

fn all(names: &[&'static str]) -> BTreeSet<(&'static str, &'static str)> {
    let pairs = names.iter().flat_map(|a| names.iter().map(|b| (*a, *b)));
    pairs.filter(|(a, b)| a != b).collect()
}

fn join(world: &mut World, name: &'static str) -> usize {
    let phone = world.phone(name);
    world.call(phone, "room-7");
    world.run_ms(200);
    phone
}

/// The host had nothing when it was asked: what the dead process had it make came there a moment later.
#[test]
fn a_session_that_was_being_made_anew_is_taken_over() {
    let (mut world, members) = meeting();
    world.restart_media_host(true);
    world.run_ms(0);
    assert_eq!(world.controller.counters().media_pending, 1);
    world.restart();
    world.run_ms(60_000);
    assert_eq!(world.heard(), all(&["dora", "emil", "fred"]), "{}", world.story());
    for member in members {
        world.hang_up(member);
    }
    world.assert_nothing_left();
}

/// Three talk in a room.
fn meeting() -> (World, [usize; 3]) {
    let mut world = World::new();
    let members = ["dora", "emil", "fred"].map(|name| join(&mut world, name));
    assert_eq!(world.heard(), all(&["dora", "emil", "fred"]), "{}", world.story());
    (world, members)
}

#[test]
fn all_hear_each_other_and_nobody_is_asked() {
    let (mut world, members) = meeting();
    let live = world.controller.live(world.clocks()).conferences.remove(0);
    for round in 2..4 {
        world.restart();
        assert_eq!(
            world.heard(),
            all(&["dora", "emil", "fred"]),
            "nobody took the audio away"
        );
        world.run_ms(1_000);
        let story = world.story();
        assert_eq!(world.heard(), all(&["dora", "emil", "fred"]), "{story}");
        let session = world.media.sessions.values().next().unwrap();
        assert_eq!((world.media.sessions.len(), session.epoch), (1, round), "{story}");
        assert_eq!(world.count("server>dora INVITE"), 0, "{story}");
    }
    let now = world.controller.live(world.clocks()).conferences.remove(0);
    assert_eq!((now.room, now.members.len()), ("room-7".to_owned(), 3));
    let calls = |members: &[call_control::MemberLive]| {
        members
            .iter()
            .map(|member| member.call.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(calls(&now.members), calls(&live.members));
    assert!(
        now.age_ms >= live.age_ms + 2_000,
        "{} {}",
        now.age_ms,
        live.age_ms
    );
    // Who comes now comes into the same room.
    let gina = join(&mut world, "gina");
    assert_eq!(
        world.heard(),
        all(&["dora", "emil", "fred", "gina"]),
        "{}",
        world.story()
    );
    for phone in members.into_iter().chain([gina]) {
        world.hang_up(phone);
        world.run_ms(100);
    }
    let details = world.details();
    assert_eq!(details.len(), 4, "{}", world.story());
    for detail in &details {
        assert_eq!((detail.status, detail.room.as_deref()), (200, Some("room-7")));
    }
    assert!(details[0].talk_ms >= 2_000, "{:?}", details[0]);
    assert!(details[3].caller_media.is_some(), "{:?}", details[3]);
    world.assert_nothing_left();
}

#[test]
fn who_held_or_was_muted_still_does() {
    let (mut world, [dora, emil, fred]) = meeting();
    let now = world.now;
    world.phones[dora].reinvite(now, Direction::SendOnly);
    world.run_ms(200);
    let live = world.controller.live(world.clocks()).conferences.remove(0);
    let of_emil = live
        .members
        .iter()
        .find(|member| member.from.contains("emil"))
        .unwrap();
    let call = of_emil.call.clone();
    let at = world.clocks();
    assert!(world.controller.mute_member(at, &call, true));
    world.run_ms(200);
    let heard = BTreeSet::from([("fred", "emil")]);
    assert_eq!(world.heard(), heard, "{}", world.story());
    world.restart();
    world.run_ms(500);
    assert_eq!(world.heard(), heard, "{}", world.story());
    let now = world.now;
    world.phones[dora].reinvite(now, Direction::SendRecv);
    world.run_ms(200);
    let at = world.clocks();
    assert!(world.controller.mute_member(at, &call, false));
    world.run_ms(200);
    assert_eq!(world.heard(), all(&["dora", "emil", "fred"]), "{}", world.story());
    for phone in [dora, emil, fred] {
        world.hang_up(phone);
    }
    world.assert_nothing_left();
}

#[test]
fn who_hung_up_meanwhile_is_missed() {
    let (mut world, [dora, emil, fred]) = meeting();
    world.swallow.push(("BYE", 11));
    world.hang_up(emil);
    world.run_ms(40_000);
    world.swallow.clear();
    world.phones[emil].dialog = None;
    world.restart();
    world.run_ms(1_000);
    assert_eq!(world.heard(), all(&["dora", "fred"]), "{}", world.story());
    assert_eq!(world.details().len(), 1, "{}", world.story());
    world.hang_up(dora);
    world.hang_up(fred);
    world.assert_nothing_left();
}

/// A segment's beginning is enough to go on from.
#[test]
fn from_what_a_new_segment_repeats() {
    let (mut world, members) = meeting();
    let at = world.clocks();
    world.records = world.controller.standing(at);
    world.restart();
    world.run_ms(500);
    assert_eq!(world.heard(), all(&["dora", "emil", "fred"]), "{}", world.story());
    for phone in members {
        world.hang_up(phone);
    }
    world.run_ms(60_000);
    assert_eq!(world.details().len(), 3);
    assert_eq!(world.controller.counters().conferences, 0);
    assert!(world.media.sessions.is_empty());
}

#[test]
fn and_that_of_their_media_host() {
    let (mut world, members) = meeting();
    let heard = world.heard();
    world.media.restart(false);
    world.restart();
    world.run_ms(1_000);
    assert_eq!(world.heard(), heard, "{}", world.story());
    for phone in members {
        world.hang_up(phone);
    }
    world.run_ms(500);
    assert_eq!(world.details().len(), 3);
    world.assert_nothing_left();
}

#[test]
fn killed_at_any_record_each_call_ends_with_one_detail() {
    let script = |world: &mut World| {
        let (dora, emil) = (join(world, "dora"), world.phone("emil"));
        let now = world.now;
        world.phones[emil].call(now, "room-7", false);
        world.run_ms(200);
        let fred = join(world, "fred");
        world.hang_up(dora);
        world.run_ms(200);
        (dora, emil, fred)
    };
    let mut whole = World::new();
    script(&mut whole);
    let count = whole.records.len();
    assert!(count > 10, "{}", whole.story());
    for kept in 0..=count {
        let mut world = World::new();
        let (dora, emil, fred) = script(&mut world);
        world.restart_from(kept);
        world.run_ms(5_000);
        for phone in [dora, emil, fred] {
            if world.phones[phone].talks() {
                world.hang_up(phone);
            }
        }
        world.run_ms(200_000);
        world.assert_each_call_has_one_detail(kept);
    }
}

/// What each of many members costs does not grow with what is known of it.
#[test]
fn of_a_member_only_what_changed_is_written() {
    let (mut world, members) = meeting();
    let call = world.controller.live(world.clocks()).conferences[0].members[1]
        .call
        .clone();
    let before = world.records.len();
    let at = world.clocks();
    assert!(world.controller.mute_member(at, &call, true));
    world.run_ms(500);
    let [record] = &world.records[before..] else {
        panic!("one record\n{}", world.story());
    };
    let text = serde_json::to_string(&record.kind).unwrap();
    let expected = format!(r#"{{"kind":"member_change","call":"{call}","change":{{"is_muted":true}}}}"#);
    assert_eq!(text, expected);
    world.restart();
    world.run_ms(500);
    let live = world.controller.live(world.clocks());
    let muted: Vec<bool> = live.conferences[0]
        .members
        .iter()
        .map(|member| member.muted)
        .collect();
    assert_eq!(muted, [false, true, false], "{}", world.story());
    for phone in members {
        world.hang_up(phone);
    }
    world.assert_nothing_left();
}

/// A peer that has our 100 repeats nothing.
#[test]
fn a_new_offer_that_was_not_answered_is_answered_after_it() {
    let (mut world, [dora, emil, fred]) = meeting();
    world.media.silent = true;
    let now = world.now;
    world.phones[dora].reinvite(now, Direction::Inactive);
    world.run_ms(1_000);
    assert_eq!(world.phones[dora].statuses, [0; 0], "{}", world.story());
    world.media.silent = false;
    world.restart();
    world.run_ms(1_000);
    assert_eq!(world.phones[dora].statuses, [200], "{}", world.story());
    assert_eq!(world.heard(), all(&["emil", "fred"]), "{}", world.story());
    for phone in [dora, emil, fred] {
        world.hang_up(phone);
    }
    world.assert_nothing_left();
}
