use call_control::{HostView, MediaInput, config::MediaHost, domain::AgentState};
use proto::mediad::v1 as pb;
use sip::{
    message::Method,
    stack::{DialogRequest, SessionTimerConfig},
};
use std::time::Duration;

use crate::world::World;

fn talking() -> (World, usize, usize) {
    let mut world = World::new();
    let alice = world.registered("alice", "wonder");
    let customer = world.phone("customer");
    world.call(customer, "support");
    world.run_ms(2_000);
    assert_eq!(world.heard().len(), 2);
    (world, alice, customer)
}

fn tell(world: &mut World, node: &str, kind: pb::event::Kind) {
    let session = world.media.sessions.keys().next().unwrap().clone();
    let event = pb::Event {
        session,
        node: node.into(),
        kind: Some(kind),
        ..pb::Event::default()
    };
    let at = world.clocks();
    world.controller.handle_media(
        at,
        MediaInput::Event {
            host: "m1".into(),
            event: Box::new(event),
        },
    );
    world.run_ms(100);
}

#[test]
fn when_both_parties_are_silent_it_ends() {
    let silent = || pb::event::Kind::MediaTimeout(pb::MediaTimeout::default());
    let (mut world, alice, customer) = talking();
    tell(&mut world, "caller", silent());
    tell(
        &mut world,
        "caller",
        pb::event::Kind::MediaStarted(pb::MediaStarted::default()),
    );
    tell(&mut world, "callee-1", silent());
    assert_eq!(world.heard().len(), 2, "one silent party is no reason");
    tell(&mut world, "caller", silent());
    assert!(
        world.phones[alice].dialog.is_none() && world.phones[customer].dialog.is_none(),
        "{}",
        world.story()
    );
    assert!(world.detail().reason.contains("neither party"));
    world.assert_nothing_left();
}

#[test]
fn its_lease_is_renewed_for_as_long_as_it_lasts() {
    let (mut world, _, customer) = talking();
    // Both phones refresh the session when they are asked to.
    world.run_ms(3_600_000);
    assert_eq!(world.agent("alice"), AgentState::Talking, "{}", world.story());
    assert_eq!(world.heard().len(), 2);
    assert!(world.count("UPDATE") > 0);
    world.hang_up(customer);
    world.assert_nothing_left();
}

#[test]
fn a_phone_without_update_is_refreshed_by_a_re_invite() {
    let mut world = World::new();
    let alice = world.phone_with("alice", |config| {
        config.methods.retain(|method| *method != Method::Update)
    });
    let now = world.now;
    world.phones[alice].register(now, "wonder", 300);
    let customer = world.phone("customer");
    world.run_ms(100);
    world.call(customer, "support");
    world.run_ms(3_600_000);
    assert_eq!(world.agent("alice"), AgentState::Talking, "{}", world.story());
    assert_eq!(world.heard().len(), 2, "{}", world.story());
    assert!(world.count("server>alice INVITE") > 1);
    world.hang_up(customer);
    world.assert_nothing_left();
}

#[test]
fn a_re_invite_without_offer_is_answered_with_ours() {
    let (mut world, alice, customer) = talking();
    for phone in [alice, customer] {
        let now = world.now;
        world.phones[phone].ask_for_offer(now);
        world.run_ms(200);
        assert_eq!(world.phones[phone].statuses, [200], "{}", world.story());
        assert_eq!(world.heard().len(), 2, "{}", world.story());
    }
    world.hang_up(customer);
    world.assert_nothing_left();
}

#[test]
fn the_longest_call_ends() {
    let mut config = crate::world::config();
    config.calls.duration_max_s = 600;
    let mut world = World::with(config);
    world.registered("alice", "wonder");
    let customer = world.phone("customer");
    world.call(customer, "support");
    world.run_ms(670_000);
    assert!(world.phones[customer].dialog.is_none());
    assert_eq!(world.detail().reason, "the call is too long");
    world.assert_nothing_left();
}

#[test]
fn it_can_be_ended_from_outside() {
    let (mut world, alice, customer) = talking();
    let at = world.clocks();
    let call = world.controller.live(at).calls[0].call.clone();
    assert!(!world.controller.end_call(at, "1-0000", "no such call"));
    assert!(world.controller.end_call(at, &call, "ended by a supervisor"));
    assert!(!world.controller.end_call(at, &call, "again"));
    world.run_ms(100);
    assert!(world.phones[alice].dialog.is_none() && world.phones[customer].dialog.is_none());
    assert_eq!(world.detail().reason, "ended by a supervisor");
    world.assert_nothing_left();
}

#[test]
fn options_and_update_in_it_are_answered() {
    let (mut world, alice, customer) = talking();
    for method in [Method::Options, Method::Update] {
        let now = world.now;
        world.phones[alice].send(now, DialogRequest::new(method));
        world.run_ms(100);
    }
    assert_eq!(
        world.count("server>alice SIP/2.0 200"),
        3,
        "and the REGISTER\n{}",
        world.story()
    );
    world.hang_up(customer);
    world.assert_nothing_left();
}

#[test]
fn a_session_that_no_call_knows_is_deleted() {
    let (mut world, _, customer) = talking();
    let known = world.media.sessions.keys().next().unwrap().clone();
    let stray = world.media.sessions[&known].clone();
    world.media.sessions.insert("77-left-over".into(), stray);
    let at = world.clocks();
    let sessions = world.media.found();
    world.controller.handle_media(
        at,
        MediaInput::Sessions {
            host: "m1".into(),
            sessions,
        },
    );
    world.run_ms(100);
    assert_eq!(world.media.sessions.keys().collect::<Vec<_>>(), [&known]);
    world.hang_up(customer);
    world.assert_nothing_left();
}

#[test]
fn a_host_that_refuses_it_at_first_is_passed_over() {
    let mut config = crate::world::config();
    config.media.hosts.insert(
        0,
        MediaHost {
            name: "full".into(),
            address: "http://10.0.0.3:7000".into(),
        },
    );
    let mut world = World::with(config);
    let at = world.clocks();
    world.controller.handle_media(
        at,
        MediaInput::HostUp {
            host: "full".into(),
            boot_id: "x".into(),
        },
    );
    world.registered("alice", "wonder");
    let customer = world.phone("customer");
    world.call(customer, "support");
    world.run_ms(2_000);
    assert_eq!(world.phones[customer].statuses, [180, 200], "{}", world.story());
    let sessions = |hosts: &[HostView]| hosts.iter().map(|host| host.sessions).collect::<Vec<_>>();
    assert_eq!(sessions(&world.controller.live(world.clocks()).hosts), [0, 1]);
    world.hang_up(customer);
    world.run_ms(100);
    assert_eq!(world.detail().host, "m1");
    world.assert_nothing_left();
}

#[test]
fn a_phone_that_wants_longer_session_intervals_gets_them() {
    let mut world = World::new();
    let longer = SessionTimerConfig {
        interval: Duration::from_secs(7_200),
        min_se: Duration::from_secs(3_600),
    };
    let alice = world.phone_with("alice", |config| config.session_timer = Some(longer));
    let now = world.now;
    world.phones[alice].register(now, "wonder", 300);
    let customer = world.phone("customer");
    world.run_ms(100);
    world.call(customer, "support");
    world.run_ms(2_000);
    assert_eq!(world.count("alice>server SIP/2.0 422"), 1, "{}", world.story());
    assert_eq!(world.phones[customer].statuses, [180, 200], "{}", world.story());
    world.hang_up(customer);
    world.assert_nothing_left();
}
