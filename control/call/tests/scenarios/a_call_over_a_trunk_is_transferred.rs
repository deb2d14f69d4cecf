use std::collections::BTreeSet;

use call_control::{Config, domain::AgentState, trunk::Health};
use sip::message::{HeaderName, StatusCode};

use crate::{
    phone::Behaviour,
    world::{World, config},
};

const TRUNKS: &str = r#"
    [[trunks]]
    name = "a"
    targets = [{ uri = "sip:10.0.1.3:5060" }]
    sources = ["10.0.1.3"]
    probe_s = 0
    calls_max = 1
    rx_called = [{ pattern = "+442070.", set = "support" }]
    [[trunks]]
    name = "b"
    targets = [{ uri = "sip:10.0.1.4:5060" }]
    probe_s = 0
    [dialplan]
    rewrite = [{ pattern = "00.", strip = 2, prefix = "+" }]
    routes = [{ pattern = "+.", trunks = ["a", "b"] }]
"#;

struct Town {
    world: World,
    alice: usize,
    carol: usize,
    /// Carriers.
    a: usize,
    b: usize,
}

fn town() -> Town {
    town_with(TRUNKS)
}

fn town_with(trunks: &str) -> Town {
    let trunks: Config = toml::from_str(trunks).unwrap();
    let mut world = World::with(Config {
        trunks: trunks.trunks,
        dialplan: trunks.dialplan,
        ..config()
    });
    let alice = world.registered("alice", "wonder");
    let carol = world.registered("carol", "singer");
    let (a, b) = (world.phone("a"), world.phone("b"));
    Town {
        world,
        alice,
        carol,
        a,
        b,
    }
}

fn refer(world: &mut World, phone: usize, to: &str) {
    let now = world.now;
    world.phones[phone].refer(now, to);
}

fn both(a: &'static str, b: &'static str) -> BTreeSet<(&'static str, &'static str)> {
    BTreeSet::from([(a, b), (b, a)])
}

/// Calls that each trunk has now.
fn calls(world: &World) -> Vec<usize> {
    world
        .controller
        .trunks_live()
        .iter()
        .map(|trunk| trunk.calls)
        .collect()
}

/// Alice called out over trunk a, and brings that party to Carol.
#[test]
fn by_who_called_out_to_a_colleague() {
    let Town {
        mut world,
        alice,
        carol,
        a,
        ..
    } = town();
    world.call(alice, "0049301234");
    world.run_ms(3_000);
    assert_eq!(world.heard(), both("alice", "a"), "{}", world.story());
    // What a colleague's phone answers says nothing of the carrier.
    for status in [StatusCode::SERVICE_UNAVAILABLE, StatusCode::REQUEST_TIMEOUT] {
        world.behave(carol, Behaviour::Refuse(status));
        refer(&mut world, alice, "sip:carol@example.com");
        world.run_ms(2_000);
        assert_eq!(world.heard(), both("alice", "a"), "back again\n{}", world.story());
        let live = world.controller.trunks_live().remove(0);
        assert_eq!((live.calls, live.tx_failures), (1, 0), "{}", world.story());
        assert_ne!(live.targets[0].1, Health::Down);
    }
    world.behave(carol, Behaviour::Answer(500));
    refer(&mut world, alice, "sip:carol@example.com");
    world.run_ms(2_000);
    assert_eq!(world.heard(), both("carol", "a"), "{}", world.story());
    let invite = world.phones[carol].invited_by.clone().unwrap();
    assert!(
        invite.uri_text().starts_with(b"sip:carol@"),
        "{:?}",
        invite.uri_text()
    );
    assert_eq!(
        calls(&world),
        [1, 0],
        "it is still over the trunk\n{}",
        world.story()
    );
    // And may go on to the other carrier: over the first there is only one call at a time.
    refer(&mut world, carol, "sip:0049305678@example.com");
    world.run_ms(3_000);
    assert_eq!(world.heard(), both("a", "b"), "{}", world.story());
    assert_eq!(calls(&world), [1, 1], "{}", world.story());
    world.hang_up(a);
    world.run_ms(1_000);
    assert_eq!(calls(&world), [0, 0], "{}", world.story());
    let detail = world.detail();
    assert_eq!(detail.callee_trunk.as_deref(), Some("a"));
    assert_eq!(
        (detail.caller_trunk, detail.answered_by),
        (None, None),
        "{:?}",
        detail.legs
    );
    world.assert_nothing_left();
}

/// An agent brings a carrier's customer to a number outside, which the customer could not have called.
#[test]
fn by_an_agent_to_a_number_outside() {
    for (answers, rings) in [(true, false), (false, false), (false, true)] {
        let Town {
            mut world,
            alice,
            a,
            b,
            ..
        } = town();
        let now = world.now;
        world.phones[a].call(now, "+442070999", true);
        world.run_ms(2_000);
        assert_eq!(world.heard(), both("a", "alice"), "{}", world.story());
        match (answers, rings) {
            (true, _) => {}
            (false, true) => world.behave(b, Behaviour::Ring),
            (false, false) => world.behave(b, Behaviour::Refuse(StatusCode::BUSY_HERE)),
        }
        refer(&mut world, alice, "sip:0049305678@example.com");
        world.run_ms(70_000);
        assert_eq!(world.phones[b].rung, 1, "{}", world.story());
        if answers {
            assert_eq!(world.heard(), both("a", "b"), "{}", world.story());
            assert_eq!(
                (calls(&world), world.agent("alice")),
                (vec![1, 1], AgentState::Ready)
            );
        } else {
            assert_eq!(world.heard(), both("a", "alice"), "{}", world.story());
            assert_eq!(calls(&world), [1, 0], "{}", world.story());
        }
        world.hang_up(a);
        world.run_ms(1_000);
        assert_eq!(calls(&world), [0, 0], "{}", world.story());
        let detail = world.detail();
        assert_eq!(detail.caller_trunk.as_deref(), Some("a"));
        let callee = if answers {
            (Some("b"), None)
        } else {
            (None, Some("alice"))
        };
        let said = (detail.callee_trunk.as_deref(), detail.answered_by.as_deref());
        assert_eq!(said, callee, "{}", world.story());
        world.assert_nothing_left();
    }
}

/// The phone outside is rung again for a new place at the media host, over the same trunk.
#[test]
fn or_loses_its_media_host_while_it_rings() {
    let Town {
        mut world, alice, a, ..
    } = town();
    world.behave(a, Behaviour::Ring);
    world.call(alice, "0049301234");
    world.run_ms(1_000);
    for rung in 2..4 {
        world.lose_media_host();
        world.restart_media_host(false);
        world.run_ms(2_000);
        assert_eq!(world.phones[a].rung, rung, "{}", world.story());
        assert_eq!(calls(&world), [1, 0], "{}", world.story());
    }
    let now = world.now;
    world.phones[alice].cancel(now);
    world.run_ms(1_000);
    assert_eq!(calls(&world), [0, 0], "{}", world.story());
    world.assert_nothing_left();
}

/// Who is brought together by a consultation takes the trunk along.
#[test]
fn by_who_asked_first() {
    let Town {
        mut world,
        alice,
        carol,
        a,
        b,
    } = town();
    // Carol's second phone calls out over the other carrier.
    let other = world.registered("carol", "singer");
    world.behave(other, Behaviour::Refuse(StatusCode::BUSY_HERE));
    world.call(alice, "carol");
    world.run_ms(3_000);
    assert_eq!(world.heard(), both("alice", "carol"), "{}", world.story());
    world.call(other, "0049301234");
    world.run_ms(3_000);
    let (replaces, _) = world.phones[other].replaces();
    refer(
        &mut world,
        carol,
        &format!("sip:x@example.com?Replaces={replaces}"),
    );
    world.run_ms(2_000);
    assert_eq!(world.heard(), both("alice", "a"), "{}", world.story());
    assert_eq!(calls(&world), [1, 0], "{}", world.story());
    assert_eq!(world.phones[b].rung, 0);
    world.hang_up(alice);
    world.run_ms(1_000);
    assert_eq!(calls(&world), [0, 0], "{}", world.story());
    let header = HeaderName::Reason;
    assert!(world.phones[a].bye.as_ref().unwrap().headers.contains(header));
    world.assert_nothing_left();
}

/// Two came by trunk a: one to alice's queue, one to her other line. She joins them.
#[test]
fn who_came_by_it_counts_for_it_in_another_call_too() {
    for restarts in [false, true] {
        let trunks = TRUNKS
            .replace("calls_max = 1", "calls_max = 2")
            .replace(r#"["10.0.1.3"]"#, r#"["10.0.1.3", "10.0.1.5"]"#)
            .replace(
                r#"set = "support" }"#,
                r#"set = "support" }, { pattern = "+442071.", set = "alice" }"#,
            );
        let Town {
            mut world, alice, a, ..
        } = town_with(&trunks);
        let c = world.phone("c");
        let line = world.registered("alice", "wonder");
        world.behave(line, Behaviour::Refuse(StatusCode::BUSY_HERE));
        world.call(a, "+442070123");
        world.run_ms(3_000);
        assert_eq!(world.heard(), both("a", "alice"), "{}", world.story());
        world.behave(line, Behaviour::Answer(100));
        world.behave(alice, Behaviour::Refuse(StatusCode::BUSY_HERE));
        world.call(c, "+442071123");
        world.run_ms(3_000);
        assert_eq!(calls(&world), [2, 0], "{}", world.story());
        let (replaces, _) = world.phones[line].replaces();
        refer(
            &mut world,
            alice,
            &format!("sip:x@example.com?Replaces={replaces}"),
        );
        world.run_ms(3_000);
        assert_eq!(world.heard(), both("a", "c"), "{}", world.story());
        if restarts {
            world.restart();
            world.run_ms(3_000);
        }
        assert_eq!(calls(&world), [2, 0], "both talk; {}", world.story());
        world.hang_up(a);
        world.run_ms(3_000);
        assert_eq!(calls(&world), [0, 0], "{}", world.story());
        world.assert_nothing_left();
    }
}

/// Carol takes the place of who came by trunk a, and talks to alice.
#[test]
fn who_came_by_it_and_has_left_counts_no_more() {
    let Town {
        mut world,
        alice,
        carol,
        a,
        ..
    } = town();
    world.call(a, "+442070123");
    world.run_ms(3_000);
    assert_eq!(calls(&world), [1, 0], "{}", world.story());
    let (_, header) = world.phones[a].replaces();
    let now = world.now;
    world.phones[carol].call_with(now, "alice", true, |request| {
        request.headers.push(HeaderName::Replaces, &header).unwrap();
        request.headers.push(HeaderName::Require, "replaces").unwrap();
    });
    world.run_ms(1_000);
    assert_eq!(world.heard(), both("alice", "carol"), "{}", world.story());
    assert_eq!(calls(&world), [0, 0], "{}", world.story());
    world.restart();
    world.run_ms(1_000);
    assert_eq!(calls(&world), [0, 0], "{}", world.story());
    world.hang_up(alice);
    world.run_ms(1_000);
    assert_eq!(calls(&world), [0, 0], "{}", world.story());
    world.assert_nothing_left();
}

/// With the rights of who asked, who is gone by then; and whom nobody takes goes back to the queue.
#[test]
fn after_a_restart_too() {
    for is_taken in [true, false] {
        let Town {
            mut world, alice, a, ..
        } = town();
        let customer = world.phone("customer");
        world.call(customer, "support");
        world.run_ms(3_000);
        assert_eq!(world.heard(), both("customer", "alice"), "{}", world.story());
        world.behave(a, Behaviour::Ring);
        refer(&mut world, alice, "sip:0049301234@example.com");
        world.run_ms(2_000);
        assert_eq!(world.phones[a].rung, 1, "{}", world.story());
        world.restart();
        let answer = if is_taken {
            Behaviour::Answer(500)
        } else {
            Behaviour::Refuse(StatusCode::BUSY_HERE)
        };
        world.behave(a, answer);
        world.phones[alice].register(world.now, "wonder", 300);
        world.run_ms(4_000);
        let with = if is_taken { "a" } else { "alice" };
        assert_eq!(world.heard(), both("customer", with), "{}", world.story());
        assert_eq!(calls(&world), [usize::from(is_taken), 0], "{}", world.story());
        world.hang_up(customer);
        world.assert_nothing_left();
    }
}
