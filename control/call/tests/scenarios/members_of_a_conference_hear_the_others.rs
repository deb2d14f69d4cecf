use std::collections::BTreeSet;

use call_control::MediaInput;
use proto::mediad::v1 as pb;
use sdp::Direction;
use sip::{message::Method, stack::DialogRequest};

use crate::world::{World, config};

/// Everybody in `names` hears everybody else in it, and nobody itself.
fn all(names: &[&'static str]) -> BTreeSet<(&'static str, &'static str)> {
    let pairs = names.iter().flat_map(|a| names.iter().map(|b| (*a, *b)));
    pairs.filter(|(a, b)| a != b).collect()
}

fn join(world: &mut World, name: &'static str) -> usize {
    let phone = world.phone(name);
    world.call(phone, "room-7");
    world.run_ms(200);
    assert_eq!(world.phones[phone].statuses, [200], "{}", world.story());
    phone
}

#[test]
fn three_two_and_three_without_being_asked() {
    let mut world = World::new();
    let dora = join(&mut world, "dora");
    assert_eq!(world.heard(), BTreeSet::new(), "alone");
    join(&mut world, "emil");
    assert_eq!(world.heard(), all(&["dora", "emil"]), "{}", world.story());
    join(&mut world, "fred");
    assert_eq!(world.heard(), all(&["dora", "emil", "fred"]), "{}", world.story());
    assert_eq!(world.media.sessions.len(), 1);
    world.hang_up(dora);
    world.run_ms(200);
    assert_eq!(world.heard(), all(&["emil", "fred"]), "{}", world.story());
    world.call(dora, "room-7");
    world.run_ms(200);
    assert_eq!(world.heard(), all(&["dora", "emil", "fred"]), "{}", world.story());
    assert!(!world.story().contains("server>emil INVITE"), "{}", world.story());
    for phone in 0..3 {
        world.hang_up(phone);
        world.run_ms(100);
    }
    assert!(world.media.sessions.is_empty(), "the last one takes it along");
    let details = world.details();
    assert_eq!(details.len(), 4);
    for detail in &details {
        assert_eq!((detail.status, detail.room.as_deref()), (200, Some("room-7")));
        // What the media host counted, also of those who left before the others.
        let counted = detail.caller_media.as_ref().map(|media| media.rx_packets);
        assert_eq!(counted, Some(500), "{detail:?}");
    }
    world.assert_nothing_left();
}

#[test]
fn and_are_recorded_without_figures_where_the_media_host_tells_none() {
    let mut world = World::new();
    let (dora, emil) = (join(&mut world, "dora"), join(&mut world, "emil"));
    world.media.loses_events = true;
    world.hang_up(dora);
    world.run_ms(1_000);
    assert_eq!(world.details().len(), 0, "it may still come");
    world.run_ms(10_000);
    let details = world.details();
    assert_eq!(details.len(), 1);
    assert!(details[0].caller_media.is_none(), "{:?}", details[0]);
    world.hang_up(emil);
    world.run_ms(200);
    assert_eq!(world.details().len(), 2);
    world.assert_nothing_left();
}

#[test]
fn in_their_own_room_and_their_own_codec() {
    let mut config = config();
    config.media.codecs = ["opus", "G722", "PCMU", "PCMA"].map(str::to_owned).into();
    let mut world = World::with(config);
    let codecs = [sdp::Codec::opus(None), sdp::Codec::g722(), sdp::Codec::pcma()];
    for (name, codec) in ["dora", "emil", "fred"].into_iter().zip(codecs) {
        let phone = world.phone(name);
        world.phones[phone].codecs = vec![codec.clone()];
        world.call(phone, "room-7");
        world.run_ms(200);
        assert_eq!(world.phones[phone].codec(), codec.name, "{}", world.story());
    }
    let gina = world.phone("gina");
    world.call(gina, "room-8");
    world.run_ms(200);
    assert_eq!(world.heard(), all(&["dora", "emil", "fred"]), "{}", world.story());
    assert_eq!(world.media.sessions.len(), 2);
    for phone in 0..4 {
        world.hang_up(phone);
    }
    world.assert_nothing_left();
}

/// RFC 3261 §13.2.1: the 200 holds our offer, the ACK the answer.
#[test]
fn though_one_made_no_offer() {
    let mut world = World::new();
    let dora = join(&mut world, "dora");
    let emil = world.phone("emil");
    let now = world.now;
    world.phones[emil].call(now, "room-7", false);
    world.run_ms(200);
    assert_eq!(world.heard(), all(&["dora", "emil"]), "{}", world.story());
    let now = world.now;
    world.phones[emil].ask_for_offer(now);
    world.run_ms(200);
    assert_eq!(world.phones[emil].statuses, [200], "{}", world.story());
    assert_eq!(world.heard(), all(&["dora", "emil"]), "{}", world.story());
    world.hang_up(dora);
    world.hang_up(emil);
    world.assert_nothing_left();
}

/// A phone that holds may play music; that is nothing for a meeting.
#[test]
fn but_not_who_is_muted_or_holds() {
    let mut world = World::new();
    let (dora, emil) = (join(&mut world, "dora"), join(&mut world, "emil"));
    let now = world.now;
    world.phones[dora].reinvite(now, Direction::SendOnly);
    world.run_ms(200);
    assert_eq!(world.phones[dora].statuses, [200], "{}", world.story());
    assert_eq!(world.heard(), BTreeSet::new(), "{}", world.story());
    let now = world.now;
    world.phones[dora].reinvite(now, Direction::SendRecv);
    world.run_ms(200);
    assert_eq!(world.heard(), all(&["dora", "emil"]), "{}", world.story());

    let live = world.controller.live(world.clocks()).conferences.remove(0);
    assert_eq!((live.room.as_str(), live.members.len()), ("room-7", 2));
    let call = live
        .members
        .iter()
        .find(|member| member.from.contains("emil"))
        .unwrap()
        .call
        .clone();
    let at = world.clocks();
    assert!(world.controller.mute_member(at, &call, true));
    world.run_ms(100);
    assert_eq!(
        world.heard(),
        BTreeSet::from([("dora", "emil")]),
        "{}",
        world.story()
    );
    let at = world.clocks();
    assert!(world.controller.mute_member(at, &call, false));
    world.run_ms(100);
    assert_eq!(world.heard(), all(&["dora", "emil"]));
    // Kicked out.
    let at = world.clocks();
    assert!(world.controller.end_call(at, &call, "told to"));
    world.run_ms(200);
    assert!(world.phones[emil].dialog.is_none(), "{}", world.story());
    assert!(
        !world.controller.mute_member(world.clocks(), &call, true),
        "it is gone"
    );
    world.phones[dora].send(world.now, DialogRequest::new(Method::Options));
    world.hang_up(dora);
    world.assert_nothing_left();
}

/// What stood before stands: who takes a new offer back, because its media host is slow, has not left.
#[test]
fn and_one_who_takes_a_new_offer_back_stays() {
    let mut world = World::new();
    let (dora, _) = (join(&mut world, "dora"), join(&mut world, "emil"));
    let now = world.now;
    world.media.silent = true;
    world.phones[dora].reinvite(now, Direction::SendOnly);
    world.run_ms(500);
    let now = world.now;
    world.phones[dora].cancel(now);
    world.run_ms(100);
    assert_eq!(world.phones[dora].statuses, [487], "{}", world.story());
    assert!(world.phones[dora].dialog.is_some(), "{}", world.story());
    assert_eq!(world.count("server>dora BYE"), 0, "{}", world.story());
    world.media.silent = false;
    world.run_ms(20_000);
    let now = world.now;
    world.phones[dora].reinvite(now, Direction::SendRecv);
    world.run_ms(1_000);
    assert_eq!(world.heard(), all(&["dora", "emil"]), "{}", world.story());
    for phone in 0..2 {
        world.hang_up(phone);
        world.run_ms(100);
    }
    world.assert_nothing_left();
}

#[test]
fn as_many_as_there_may_be() {
    let mut config = config();
    config.conferences.members_max = 2;
    config.conferences.count_max = 1;
    let mut world = World::with(config);
    let (dora, emil) = (join(&mut world, "dora"), join(&mut world, "emil"));
    for (name, room, status) in [
        ("fred", "room-7", 486),
        ("gina", "room-8", 503),
        ("hugo", "room-", 404),
    ] {
        let phone = world.phone(name);
        world.call(phone, room);
        world.run_ms(200);
        assert_eq!(world.phones[phone].statuses, [status], "{room}");
    }
    world.hang_up(dora);
    world.hang_up(emil);
    world.assert_nothing_left();
}

#[test]
fn until_their_media_host_is_lost_or_refuses() {
    let mut world = World::new();
    let (dora, emil) = (join(&mut world, "dora"), join(&mut world, "emil"));
    world.media.fail = Some("out of ports");
    let fred = world.phone("fred");
    world.call(fred, "room-7");
    world.run_ms(200);
    assert_eq!(world.phones[fred].statuses, [503], "{}", world.story());
    assert_eq!(world.heard(), all(&["dora", "emil"]), "the others stay");
    world.media.fail = None;
    world.lose_media_host();
    world.run_ms(200);
    world.call(fred, "room-8");
    world.run_ms(5_000);
    assert_eq!(world.phones[fred].statuses, [503], "{}", world.story());
    world.run_ms(6_000);
    for phone in [dora, emil] {
        assert!(world.phones[phone].dialog.is_none(), "{}", world.story());
    }
    world.assert_nothing_left();
}

/// Sounds tell of who comes and goes; a media host that has none of them changes nothing else.
#[test]
fn and_who_comes_and_goes() {
    for prompts in [vec!["come", "go"], vec![]] {
        let mut config = config();
        config.conferences.join_prompt = "come".to_owned();
        config.conferences.leave_prompt = "go".to_owned();
        let mut world = World::with(config);
        let has_sounds = !prompts.is_empty();
        world.media.prompts = prompts;
        let heard = |world: &World, phone: usize| {
            let mut sounds = world.questions_to(phone);
            sounds.dedup();
            sounds
        };
        let expected = |sound: &str| {
            if has_sounds {
                vec![format!("prompt:{sound}")]
            } else {
                Vec::new()
            }
        };
        let dora = join(&mut world, "dora");
        assert!(heard(&world, dora).is_empty(), "alone");
        let emil = join(&mut world, "emil");
        assert_eq!(world.heard(), all(&["dora", "emil"]), "{}", world.story());
        for phone in [dora, emil] {
            assert_eq!(heard(&world, phone), expected("come"), "{}", world.story());
        }
        world.run_ms(11_000);
        assert!(heard(&world, dora).is_empty(), "it is over\n{}", world.story());
        let fred = join(&mut world, "fred");
        world.run_ms(11_000);
        world.hang_up(emil);
        world.run_ms(200);
        assert_eq!(heard(&world, dora), expected("go"), "{}", world.story());
        assert_eq!(world.heard(), all(&["dora", "fred"]), "{}", world.story());
        world.hang_up(dora);
        world.hang_up(fred);
        world.assert_nothing_left();
    }
}

/// Tones tell of who comes and goes as well, instead of prompts and where the media host lacks them.
#[test]
fn and_tones_of_who_comes_and_goes() {
    for prompt in ["", "come"] {
        let mut config = config();
        config.conferences.join_prompt = prompt.to_owned();
        config.conferences.join_tone = true;
        config.conferences.leave_tone = true;
        let mut world = World::with(config);
        world.media.prompts = Vec::new();
        let dora = join(&mut world, "dora");
        assert!(world.questions_to(dora).is_empty(), "alone");
        let emil = join(&mut world, "emil");
        assert_eq!(world.heard(), all(&["dora", "emil"]), "{}", world.story());
        for phone in [dora, emil] {
            assert_eq!(world.questions_to(phone), ["tone:join"], "{}", world.story());
        }
        world.run_ms(11_000);
        assert!(
            world.questions_to(dora).is_empty(),
            "it is over\n{}",
            world.story()
        );
        let fred = join(&mut world, "fred");
        assert_eq!(world.questions_to(dora), ["tone:join"], "{}", world.story());
        world.run_ms(11_000);
        world.hang_up(emil);
        world.run_ms(200);
        assert_eq!(world.questions_to(dora), ["tone:leave"], "{}", world.story());
        assert_eq!(world.heard(), all(&["dora", "fred"]), "{}", world.story());
        world.hang_up(dora);
        world.hang_up(fred);
        world.assert_nothing_left();
    }
}

/// One whose phone lost its power is asked whether it is there, and leaves.
#[test]
fn one_who_fell_silent_is_asked_whether_it_is_there() {
    let mut world = World::new();
    let (dora, emil) = (join(&mut world, "dora"), join(&mut world, "emil"));
    world.phones[emil].dead = true;
    let (session, media) = world.media.sessions.iter().next().unwrap();
    let node = media
        .nodes
        .keys()
        .rfind(|node| node.starts_with("member-"))
        .unwrap();
    let event = pb::Event {
        session: session.clone(),
        node: node.clone(),
        kind: Some(pb::event::Kind::MediaTimeout(pb::MediaTimeout::default())),
        ..pb::Event::default()
    };
    let (at, host) = (world.clocks(), "m1".into());
    let event = Box::new(event);
    world
        .controller
        .handle_media(at, MediaInput::Event { host, event });
    world.run_ms(40_000);
    assert_eq!(world.details().len(), 1, "{}", world.story());
    assert!(world.phones[dora].talks(), "{}", world.story());
    world.hang_up(dora);
    world.assert_nothing_left();
}

/// It is asked now and then, not as fast as it answers; and whoever left is gone with the next thing that it takes.
#[test]
fn a_media_host_that_refuses_what_is_wanted_is_not_asked_without_end() {
    let mut world = World::new();
    let phones = ["dora", "emil", "fred"].map(|name| {
        let phone = world.phone(name);
        world.call(phone, "room-7");
        world.run_ms(200);
        phone
    });
    world.media.fail = Some("not now");
    world.hang_up(phones[0]);
    let before = world.controller.counters().media_commands;
    world.run_ms(30_000);
    let asked = world.controller.counters().media_commands - before;
    assert!((1..5).contains(&asked), "{asked} commands");
    world.media.fail = None;
    world.run_ms(60_000);
    let session = world.media.sessions.values().next().unwrap();
    let endpoints = session.nodes.values();
    let endpoints = endpoints.filter(|node| matches!(node, pb::node::Kind::Endpoint(_)));
    assert_eq!(endpoints.count(), 2, "{}", world.story());
    for phone in &phones[1..] {
        world.hang_up(*phone);
    }
    world.assert_nothing_left();
}
