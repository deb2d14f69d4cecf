use std::collections::BTreeSet;

use call_control::Config;
use sip::{
    message::Method,
    stack::{Content, DialogRequest},
};

use crate::world::{World, config};

fn with_pin() -> Config {
    let mut config = config();
    config.conferences.pins = [("room-7".to_owned(), "1234".to_owned())].into();
    config
}

/// Dials the room and is answered.
fn dial(world: &mut World, name: &'static str) -> usize {
    let phone = world.phone(name);
    world.call(phone, "room-7");
    world.run_ms(200);
    assert_eq!(world.phones[phone].statuses, [200], "{}", world.story());
    phone
}

fn all(names: &[&'static str]) -> BTreeSet<(&'static str, &'static str)> {
    let pairs = names.iter().flat_map(|a| names.iter().map(|b| (*a, *b)));
    pairs.filter(|(a, b)| a != b).collect()
}

#[test]
fn typed_as_events_or_by_info() {
    let mut world = World::with(with_pin());
    let (dora, emil) = (dial(&mut world, "dora"), dial(&mut world, "emil"));
    assert_eq!(world.heard(), BTreeSet::new(), "{}", world.story());
    for phone in [dora, emil] {
        assert_eq!(world.questions_to(phone), ["tone:dial-us"], "{}", world.story());
    }
    world.press(dora, "1");
    assert!(world.questions_to(dora).is_empty(), "who types is asked no more");
    world.press(dora, "234");
    assert_eq!(world.heard(), BTreeSet::new(), "alone inside\n{}", world.story());
    for digit in "1234".chars() {
        let now = world.now;
        let content = Content::new(
            "application/dtmf-relay",
            format!("Signal={digit}\r\nDuration=160\r\n"),
        );
        world.phones[emil].send(now, DialogRequest::new(Method::Info).with_content(content));
        world.run_ms(200);
    }
    assert_eq!(world.heard(), all(&["dora", "emil"]), "{}", world.story());
    // The other room is open.
    let fred = world.phone("fred");
    world.call(fred, "room-8");
    world.run_ms(200);
    assert!(world.questions_to(fred).is_empty());
    for phone in [dora, emil, fred] {
        world.hang_up(phone);
    }
    world.assert_nothing_left();
}

#[test]
fn who_types_another_is_asked_again_and_then_sent_away() {
    let mut world = World::with(with_pin());
    let (dora, emil) = (dial(&mut world, "dora"), dial(&mut world, "emil"));
    world.press(dora, "1234");
    world.press(emil, "9999");
    assert_eq!(world.questions_to(emil), ["tone:dial-us"], "{}", world.story());
    world.press(emil, "12#");
    assert_eq!(world.questions_to(emil), ["tone:dial-us"], "{}", world.story());
    world.press(emil, "1234");
    assert_eq!(
        world.heard(),
        all(&["dora", "emil"]),
        "the third try\n{}",
        world.story()
    );
    let fred = dial(&mut world, "fred");
    for _ in 0..3 {
        assert!(world.phones[fred].talks(), "{}", world.story());
        world.press(fred, "4321");
    }
    assert!(world.phones[fred].dialog.is_none(), "{}", world.story());
    assert_eq!(world.detail().reason, "no right PIN was typed");
    assert_eq!(world.heard(), all(&["dora", "emil"]), "{}", world.story());
    world.hang_up(dora);
    world.hang_up(emil);
    world.assert_nothing_left();
}

#[test]
fn who_types_nothing_is_sent_away_too() {
    let mut world = World::with(with_pin());
    let dora = dial(&mut world, "dora");
    world.run_ms(25_000);
    assert!(world.phones[dora].talks());
    world.run_ms(6_000);
    assert!(world.phones[dora].dialog.is_none(), "{}", world.story());
    assert_eq!(world.detail().reason, "no right PIN was typed");
    world.assert_nothing_left();
}

#[test]
fn also_after_a_restart() {
    let mut world = World::with(with_pin());
    let (dora, emil) = (dial(&mut world, "dora"), dial(&mut world, "emil"));
    world.press(dora, "1234");
    world.press(emil, "12");
    world.restart();
    world.run_ms(500);
    assert_eq!(world.heard(), BTreeSet::new(), "{}", world.story());
    assert_eq!(world.questions_to(emil), ["tone:dial-us"], "{}", world.story());
    world.press(emil, "1234");
    assert_eq!(world.heard(), all(&["dora", "emil"]), "{}", world.story());
    world.hang_up(dora);
    world.hang_up(emil);
    world.assert_nothing_left();
}

/// By a prompt, if the media host has it.
#[test]
fn and_is_asked_by_a_prompt() {
    for (prompts, asked) in [(vec!["pin"], "prompt:pin"), (vec![], "tone:dial-us")] {
        let mut config = with_pin();
        config.conferences.pin_prompt = "pin".to_owned();
        let mut world = World::with(config);
        world.media.prompts = prompts;
        let dora = dial(&mut world, "dora");
        assert_eq!(world.questions_to(dora), [asked], "{}", world.story());
        world.press(dora, "1234");
        assert!(world.questions_to(dora).is_empty());
        world.hang_up(dora);
        world.assert_nothing_left();
    }
}
