use std::time::Duration;

use call_control::{Config, RecordKind, domain::AgentState};
use sip::{
    auth::HashKind,
    message::{HeaderName, StatusCode},
};

use crate::world::{World, config};

#[test]
fn a_wrong_password_is_refused_and_counted() {
    let mut world = World::new();
    let alice = world.phone("alice");
    let now = world.now;
    world.phones[alice].register(now, "rabbit", 300);
    world.run_ms(100);
    assert_eq!(world.phones[alice].registered, Some(401), "{}", world.story());
    assert_eq!(world.controller.counters().authentication_failures, 1);
    assert_eq!(world.controller.counters().bindings, 0);
    assert_eq!(world.agent("alice"), AgentState::Away);
    world.assert_nothing_left();
}

/// An old phone fails at an algorithm that it does not know: it is offered those of its account.
#[test]
fn by_the_algorithms_of_its_account() {
    let mut config = config();
    config.accounts[0].digest = vec!["MD5".into()];
    let mut world = World::with(config);
    for (user, hash, offered) in [
        ("alice", HashKind::Md5, 1),
        ("bob", HashKind::Sha256, 2),
        ("mallory", HashKind::Sha256, 2),
    ] {
        let phone = world.phone(user);
        world.phones[phone].hash = hash;
        let now = world.now;
        world.phones[phone].register(now, "wrong", 300);
        world.run_ms(100);
        let refusal = world.phones[phone].registration.as_ref().unwrap();
        let challenges = refusal.headers.www_authenticate().unwrap();
        assert_eq!(challenges.len(), offered, "{user}: {challenges:?}");
    }
    let alice = world.phone("alice");
    world.phones[alice].hash = HashKind::Md5;
    let now = world.now;
    world.phones[alice].register(now, "wonder", 300);
    world.run_ms(100);
    assert_eq!(world.phones[alice].registered, Some(200), "{}", world.story());
}

#[test]
fn another_ones_address_is_forbidden() {
    let mut world = World::new();
    let mallory = world.phone("mallory");
    let now = world.now;
    world.phones[mallory].register(now, "x", 300);
    world.run_ms(100);
    assert_eq!(
        world.phones[mallory].registered,
        Some(401),
        "no such account, told like a wrong password"
    );
}

/// By who keeps the clock of the machine right, or by a machine that slept: no phone has to prove itself twice for that,
/// and a registration lasts as long as it says.
#[test]
fn a_wall_clock_that_is_set_changes_nothing() {
    for hour in [3_600, -3_600] {
        let mut world = World::new();
        let alice = world.phone("alice");
        let now = world.now;
        world.phones[alice].register(now, "wonder", 300);
        // It has the challenge, and its answer is on its way.
        world.run_ms(11);
        world.clock_set_s = hour;
        world.run_ms(100);
        assert_eq!(world.phones[alice].registered, Some(200), "{}", world.story());
        let customer = world.phone("customer");
        world.call(customer, "support");
        world.run_ms(10_000);
        world.clock_set_s = 0;
        world.run_ms(10_000);
        assert_eq!(world.heard().len(), 2, "{}", world.story());
        world.hang_up(customer);
        world.run_ms(1_000);
        assert_eq!(world.agent("alice"), AgentState::WrapUp, "{}", world.story());
        world.run_ms(1_500);
        assert_eq!(world.agent("alice"), AgentState::Ready, "{}", world.story());
        let detail = world.detail();
        let times = (detail.wait_ms, detail.talk_ms);
        assert!(
            (900..1_200).contains(&times.0) && (18_500..19_500).contains(&times.1),
            "{times:?}"
        );
        let ends = world.now + Duration::from_secs(270);
        while world.now < ends {
            assert_eq!(world.controller.counters().bindings, 1, "{}", world.story());
            world.run_ms(10_000);
        }
        world.run_ms(20_000);
        assert_eq!(world.controller.counters().bindings, 0, "{}", world.story());
        world.assert_nothing_left();
    }
}

#[test]
fn a_registration_lasts_as_long_as_it_says() {
    let mut world = World::new();
    let alice = world.registered("alice", "wonder");
    let contact = world.phones[alice]
        .registration
        .as_ref()
        .unwrap()
        .headers
        .contacts()
        .unwrap();
    assert_eq!(contact[0].address().unwrap().expires(), Some(300));
    world.run_ms(299_000);
    assert_eq!(
        (world.controller.counters().bindings, world.agent("alice")),
        (1, AgentState::Ready)
    );
    world.run_ms(2_000);
    assert_eq!(
        (world.controller.counters().bindings, world.agent("alice")),
        (0, AgentState::Away)
    );
    let expired = world
        .records
        .iter()
        .any(|record| matches!(record.kind, RecordKind::Unregistered { expired: true, .. }));
    assert!(expired, "{}", world.story());
}

#[test]
fn a_refresh_extends_it_and_does_not_end_a_pause() {
    let mut world = World::new();
    let alice = world.registered("alice", "wonder");
    let at = world.clocks();
    world.controller.agent_pause(at, "alice", "lunch").unwrap();
    world.run_ms(200_000);
    let now = world.now;
    world.phones[alice].register(now, "wonder", 300);
    world.run_ms(200_000);
    assert_eq!(world.controller.counters().bindings, 1);
    assert_eq!(world.agent("alice"), AgentState::Paused("lunch".into()));
}

#[test]
fn too_short_a_time_is_refused_and_too_long_a_one_is_cut() {
    let mut world = World::new();
    let alice = world.phone("alice");
    let now = world.now;
    world.phones[alice].register(now, "wonder", 10);
    world.run_ms(100);
    assert_eq!(world.phones[alice].registered, Some(423));
    let least = world.phones[alice]
        .registration
        .as_ref()
        .unwrap()
        .headers
        .min_expires()
        .unwrap();
    assert_eq!(least, Some(60));
    let now = world.now;
    world.phones[alice].register(now, "wonder", 1_000_000);
    world.run_ms(100);
    let contacts = world.phones[alice]
        .registration
        .as_ref()
        .unwrap()
        .headers
        .contacts()
        .unwrap();
    assert_eq!(contacts[0].address().unwrap().expires(), Some(3_600));
}

#[test]
fn several_devices_register_and_all_are_removed_at_once() {
    let mut world = World::new();
    let desk = world.registered("alice", "wonder");
    let _mobile = world.registered("alice", "wonder");
    assert_eq!(world.controller.counters().bindings, 2);
    let now = world.now;
    world.phones[desk].register_as(now, "wonder", "*");
    world.run_ms(100);
    assert_eq!(world.phones[desk].registered, Some(200));
    assert_eq!(
        (world.controller.counters().bindings, world.agent("alice")),
        (0, AgentState::Away)
    );
}

/// RFC 3261 §10.3: datagrams overtake each other.
#[test]
fn a_request_that_was_overtaken_changes_nothing() {
    let mut world = World::new();
    let alice = world.phone("alice");
    world.phones[alice].knows_gruu = true;
    for _ in 0..2 {
        let now = world.now;
        world.phones[alice].register(now, "wonder", 300);
        world.run_ms(100);
        assert_eq!(world.phones[alice].registered, Some(200), "{}", world.story());
    }
    for contact in [
        "*",
        "<sip:alice@10.0.1.1:5060>;expires=0",
        "<sip:alice@10.0.1.1:5060>",
    ] {
        let now = world.now;
        world.phones[alice].register_cseq = 0;
        world.phones[alice].register_as(now, "wonder", contact);
        world.run_ms(100);
        assert_eq!(world.phones[alice].registered, Some(500), "{}", world.story());
        assert_eq!(world.controller.counters().bindings, 1, "{contact}");
    }
}

#[test]
fn more_devices_than_allowed_replace_the_one_heard_longest_ago() {
    let mut config = crate::world::config();
    config.accounts[0].devices_max = 2;
    let mut world = World::with(config);
    for _ in 0..3 {
        world.registered("alice", "wonder");
        world.run_ms(5_000);
    }
    let live = world.controller.live(world.clocks());
    let contacts: Vec<&str> = live
        .registrations
        .iter()
        .map(|binding| binding.contact.as_str())
        .collect();
    assert_eq!(contacts, ["sip:alice@10.0.1.2:5060", "sip:alice@10.0.1.3:5060"]);
}

#[test]
fn an_old_nonce_is_renewed_without_asking_anybody() {
    let mut world = World::new();
    let alice = world.phone("alice");
    let now = world.now;
    // The 401 comes, but the phone's answer to it takes longer than a nonce lives.
    world.phones[alice].register(now, "wonder", 300);
    world.run_ms(8);
    world.now += Duration::from_secs(400);
    world.run_ms(1_000);
    assert_eq!(world.phones[alice].registered, Some(200), "{}", world.story());
}

/// RFC 7616 §3.4.6. Its proxy rewrites the Request-URI: what it proves is for another one.
#[test]
fn a_proof_for_another_address_is_no_wrong_password() {
    let mut world = World::new();
    let alice = world.phone("alice");
    world.phones[alice].rewritten = Some(("sip:example.com", "sip:10.0.0.1"));
    let now = world.now;
    world.phones[alice].register(now, "wonder", 300);
    world.run_ms(100);
    assert_eq!(world.phones[alice].registered, Some(400), "{}", world.story());
    assert_eq!(world.controller.counters().authentication_failures, 0);
    world.reconfigure(Config {
        digest_any_uri: true,
        ..config()
    });
    world.registers(alice, "wonder");
}

#[test]
fn a_path_is_kept_and_used() {
    let mut world = World::new();
    let alice = world.phone("alice");
    let now = world.now;
    world.phones[alice].path = Some("<sip:10.0.1.2:5060;lr>");
    world.phones[alice].register(now, "wonder", 300);
    let edge = world.phone("edge");
    let customer = world.phone("customer");
    world.run_ms(100);
    let registration = world.phones[alice].registration.as_ref().unwrap();
    assert_eq!(registration.status, StatusCode::OK);
    assert_eq!(
        registration.headers.get(HeaderName::Path),
        Some(&b"<sip:10.0.1.2:5060;lr>"[..])
    );
    world.call(customer, "alice");
    world.run_ms(200);
    assert_eq!(
        (world.phones[edge].rung, world.phones[alice].rung),
        (1, 0),
        "{}",
        world.story()
    );
    let invite = world.phones[edge].invited_by.as_ref().unwrap();
    assert_eq!(invite.uri_text(), "sip:alice@10.0.1.1:5060");
    assert_eq!(
        invite.headers.get(HeaderName::Route),
        Some(&b"<sip:10.0.1.2:5060;lr>"[..])
    );
}

#[test]
fn a_phone_behind_a_nat_is_reached_where_it_was_heard() {
    let mut config = crate::world::config();
    config.registration.keepalive = call_control::config::Keepalive::Off;
    let mut world = World::with(config);
    let alice = world.phone("alice");
    let now = world.now;
    world.phones[alice].register_as(now, "wonder", "<sip:alice@192.168.1.7:5062>");
    world.run_ms(100);
    assert_eq!(world.phones[alice].registered, Some(200), "{}", world.story());
    let customer = world.phone("customer");
    world.call(customer, "support");
    world.run_ms(500);
    assert_eq!(world.phones[alice].rung, 1, "{}", world.story());
    let invite = world.phones[alice].invited_by.as_ref().unwrap();
    assert_eq!(
        invite.uri_text(),
        "sip:alice@192.168.1.7:5062",
        "the Contact as it was registered"
    );
    let now = world.now;
    world.phones[customer].cancel(now);
    world.assert_nothing_left();
}

/// Who sets it back makes nobody's registration longer, who restarts or not.
#[test]
fn for_as_long_as_was_granted_whatever_the_clock_says() {
    let mut world = World::new();
    world.registered("alice", "wonder");
    world.run_ms(100_000);
    world.clock_set_s = -3_600;
    world.restart();
    world.run_ms(290_000);
    assert_eq!(world.controller.counters().bindings, 1, "{}", world.story());
    world.run_ms(11_000);
    assert_eq!(world.controller.counters().bindings, 0, "{}", world.story());
}

/// Nor shorter, if that was seen while it was running.
#[test]
fn nor_does_a_clock_that_is_set_forward_end_it() {
    let mut world = World::new();
    world.registered("alice", "wonder");
    world.run_ms(100_000);
    world.clock_set_s = 3_600;
    world.registered("bob", "builder");
    world.restart();
    world.run_ms(190_000);
    assert_eq!(world.controller.counters().bindings, 2, "{}", world.story());
    world.run_ms(11_000);
    assert_eq!(world.controller.counters().bindings, 1, "{}", world.story());
}
