use std::collections::BTreeSet;

use call_control::config::MediaHost;
use sip::message::StatusCode;

use crate::world::{World, config};

fn all(names: &[&'static str]) -> BTreeSet<(&'static str, &'static str)> {
    let pairs = names.iter().flat_map(|a| names.iter().map(|b| (*a, *b)));
    pairs.filter(|(a, b)| a != b).collect()
}

/// Three in one room, and another media host if wanted.
fn three(other: bool) -> World {
    let mut config = config();
    config.media.hosts.push(MediaHost {
        name: "m2".into(),
        address: "http://10.0.0.3:7000".into(),
    });
    let mut world = World::with(config);
    for name in ["dora", "emil", "fred"] {
        let phone = world.phone(name);
        world.call(phone, "room-7");
        world.run_ms(200);
    }
    if other {
        world.add_media_host();
    }
    assert_eq!(world.heard(), all(&["dora", "emil", "fred"]), "{}", world.story());
    world
}

#[test]
fn to_another_which_every_member_is_told() {
    let mut world = three(true);
    world.lose_media_host();
    world.run_ms(1_000);
    assert_eq!(world.heard(), all(&["dora", "emil", "fred"]), "{}", world.story());
    assert_eq!(world.other_media.as_ref().unwrap().sessions.len(), 1);
    for name in ["dora", "emil", "fred"] {
        assert_eq!(
            world.count(&format!("server>{name} INVITE")),
            1,
            "{}",
            world.story()
        );
    }
    let live = world.controller.live(world.clocks());
    assert_eq!(live.conferences[0].host, "m2");
    assert_eq!(world.controller.counters().calls_replaced, 3);
    let gina = world.phone("gina");
    world.call(gina, "room-7");
    world.run_ms(200);
    assert_eq!(
        world.heard(),
        all(&["dora", "emil", "fred", "gina"]),
        "{}",
        world.story()
    );
    // The journal knows where it is.
    world.restart();
    world.host_is_up("m2");
    world.run_ms(1_000);
    assert_eq!(
        world.heard(),
        all(&["dora", "emil", "fred", "gina"]),
        "{}",
        world.story()
    );
    for phone in 0..4 {
        world.hang_up(phone);
    }
    world.run_ms(200);
    assert!(
        world.details().iter().all(|detail| detail.host == "m2"),
        "{:?}",
        world.details()
    );
    world.assert_nothing_left();
}

#[test]
fn or_to_the_same_one_restarted_which_nobody_is_told() {
    let mut world = three(false);
    world.restart_media_host(true);
    world.run_ms(1_000);
    assert_eq!(world.heard(), all(&["dora", "emil", "fred"]), "{}", world.story());
    assert!(!world.story().contains("server>emil INVITE"), "{}", world.story());
    for phone in 0..3 {
        world.hang_up(phone);
    }
    world.assert_nothing_left();
}

/// Lost again before anybody has answered where it is, and once more while the controller is killed.
#[test]
fn and_who_followed_to_a_place_that_is_gone_is_told_of_the_newer_one() {
    for is_killed in [false, true] {
        let mut world = three(false);
        world.swallow.push(("SIP/2.0 200", 3));
        world.restart_media_host(false);
        world.run_ms(100);
        assert_eq!(world.swallow, [("SIP/2.0 200", 0)], "their answers are lost");
        world.lose_media_host();
        world.restart_media_host(false);
        if is_killed {
            world.run_ms(100);
            world.restart();
        }
        world.run_ms(3_000);
        assert_eq!(
            world.heard(),
            all(&["dora", "emil", "fred"]),
            "{is_killed}\n{}",
            world.story()
        );
        for name in ["dora", "emil", "fred"] {
            let told = world.count(&format!("server>{name} INVITE"));
            // The first one is repeated, unless who sent it is gone.
            assert_eq!(
                told,
                if is_killed { 2 } else { 3 },
                "{is_killed}\n{}",
                world.story()
            );
        }
        for phone in 0..3 {
            world.hang_up(phone);
        }
        world.assert_nothing_left();
    }
}

#[test]
fn who_comes_or_goes_meanwhile_is_not_forgotten() {
    let mut world = three(false);
    world.lose_media_host();
    world.run_ms(1_000);
    let gina = world.phone("gina");
    world.call(gina, "room-7");
    world.hang_up(0);
    world.run_ms(1_000);
    world.add_media_host();
    world.run_ms(2_000);
    assert_eq!(world.heard(), all(&["emil", "fred", "gina"]), "{}", world.story());
    assert_eq!(world.count("server>gina INVITE"), 0, "its answer says it");
    for phone in 1..4 {
        world.hang_up(phone);
    }
    world.assert_nothing_left();
}

#[test]
fn a_busy_member_is_told_later() {
    let mut world = three(true);
    world.phones[0].balks.push_back(StatusCode::SERVICE_UNAVAILABLE);
    world.lose_media_host();
    world.run_ms(1_000);
    assert!(!world.heard().contains(&("dora", "emil")), "{}", world.story());
    assert!(
        world.heard().is_superset(&all(&["emil", "fred"])),
        "{}",
        world.story()
    );
    world.run_ms(3_000);
    assert_eq!(world.heard(), all(&["dora", "emil", "fred"]), "{}", world.story());
    for phone in 0..3 {
        world.hang_up(phone);
    }
    world.assert_nothing_left();
}

#[test]
fn without_another_it_ends_and_says_so() {
    let mut world = three(false);
    world.lose_media_host();
    world.run_ms(9_000);
    assert!(world.phones.iter().all(|phone| phone.talks()), "kept for a while");
    world.run_ms(2_000);
    let details = world.details();
    assert_eq!(details.len(), 3, "{}", world.story());
    for detail in details {
        assert!(detail.reason.contains("connection refused"), "{detail:?}");
    }
    assert_eq!(world.count("server>emil BYE"), 1, "{}", world.story());
    world.restart_media_host(true);
    world.run_ms(500);
    world.call(0, "room-7");
    world.run_ms(500);
    assert!(world.phones[0].talks(), "another one\n{}", world.story());
    world.hang_up(0);
    world.assert_nothing_left();
}
