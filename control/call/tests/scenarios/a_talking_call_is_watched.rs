use call_control::{HostView, MediaInput, config::MediaHost, domain::AgentState};
use proto::mediad::v1 as pb;
use sdp::Direction;
use sip::{
    message::{Method, StatusCode},
    stack::{DialogRequest, SessionTimerConfig},
};
use std::time::{Duration, UNIX_EPOCH};

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

fn unix_us(world: &World) -> u64 {
    let since = world.clocks().wall.duration_since(UNIX_EPOCH).unwrap();
    since.as_micros() as u64
}

fn tell(world: &mut World, node: &str, kind: pb::event::Kind) {
    let session = world.media.sessions.keys().next().unwrap().clone();
    let event = pb::Event {
        session,
        node: node.into(),
        kind: Some(kind),
        time_unix_us: unix_us(world),
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

/// Of who was silent on a media host that is lost the next one tells nothing but that it is silent again.
#[test]
fn who_was_silent_on_a_lost_media_host_is_not_silent_on_the_next() {
    let silent = || pb::event::Kind::MediaTimeout(pb::MediaTimeout::default());
    for killed in [false, true] {
        let (mut world, alice, customer) = talking();
        tell(&mut world, "caller", silent());
        world.lose_media_host();
        world.restart_media_host(true);
        world.run_ms(2_000);
        if killed {
            world.restart();
            world.run_ms(500);
        }
        tell(&mut world, "callee-1", silent());
        assert!(
            world.phones[alice].talks() && world.phones[customer].talks(),
            "{}",
            world.story()
        );
        tell(&mut world, "caller", silent());
        assert!(world.phones[alice].dialog.is_none(), "{}", world.story());
        world.assert_nothing_left();
    }
}

/// Who fell silent and is heard again while no controller is there: the media host tells when it was heard last.
#[test]
fn who_is_heard_again_while_the_controller_is_away_is_not_silent() {
    let silent = || pb::event::Kind::MediaTimeout(pb::MediaTimeout::default());
    for is_heard in [true, false] {
        let (mut world, alice, customer) = talking();
        let before = unix_us(&world);
        world.run_ms(1_000);
        tell(&mut world, "caller", silent());
        let last_rx = if is_heard { unix_us(&world) } else { before };
        world.media.last_rx.insert("caller".to_owned(), last_rx);
        world.restart();
        world.run_ms(500);
        tell(&mut world, "callee-1", silent());
        assert_eq!(
            (world.phones[alice].talks(), world.phones[customer].talks()),
            (is_heard, is_heard),
            "{}",
            world.story()
        );
        if is_heard {
            tell(&mut world, "caller", silent());
            assert!(world.phones[alice].dialog.is_none(), "{}", world.story());
        }
        world.assert_nothing_left();
    }
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

/// Who is on hold sends nothing, and who holds neither: that is no reason to end their call.
#[test]
fn but_not_ended_while_both_are_on_hold() {
    let silent = || pb::event::Kind::MediaTimeout(pb::MediaTimeout::default());
    let (mut world, alice, customer) = talking();
    for phone in [alice, customer] {
        let now = world.now;
        world.phones[phone].reinvite(now, Direction::Inactive);
        world.run_ms(100);
    }
    tell(&mut world, "caller", silent());
    tell(&mut world, "callee-1", silent());
    assert!(
        world.phones[alice].talks() && world.phones[customer].talks(),
        "{}",
        world.story()
    );
    for phone in [alice, customer] {
        let now = world.now;
        world.phones[phone].reinvite(now, Direction::SendRecv);
        world.run_ms(100);
    }
    assert_eq!(world.heard().len(), 2, "{}", world.story());
    tell(&mut world, "caller", silent());
    assert!(
        world.phones[alice].dialog.is_none(),
        "alice was silent since\n{}",
        world.story()
    );
    world.assert_nothing_left();
}

/// Phones that say they know UPDATE and do not, and such as have no time just then.
#[test]
fn a_refresh_that_is_refused_is_made_by_a_re_invite() {
    for status in [405, 500, 503] {
        let (mut world, alice, customer) = talking();
        let status = StatusCode::new(status).unwrap();
        for phone in [alice, customer] {
            world.phones[phone].balks.push_back(status);
        }
        world.run_ms(3_600_000);
        assert!(world.phones[alice].balks.is_empty(), "it was refreshed");
        assert_eq!(world.heard().len(), 2, "{status:?}\n{}", world.story());
        assert!(world.count("server>alice INVITE") > 1, "{}", world.story());
        world.hang_up(customer);
        world.assert_nothing_left();
    }
}

/// A phone that lost its power says nothing, and no audio comes: it is asked whether it is there.
#[test]
fn a_party_that_falls_silent_is_asked_whether_it_is_there() {
    for is_dead in [false, true] {
        let (mut world, alice, customer) = talking();
        world.phones[alice].dead = is_dead;
        tell(
            &mut world,
            "callee-1",
            pb::event::Kind::MediaTimeout(pb::MediaTimeout::default()),
        );
        assert_eq!(world.count("server>alice OPTIONS"), 1, "{}", world.story());
        world.run_ms(40_000);
        assert_eq!(world.phones[customer].talks(), !is_dead, "{}", world.story());
        if is_dead {
            assert_eq!(world.detail().reason, "a party does not answer any more");
        } else {
            world.hang_up(customer);
        }
        world.assert_nothing_left();
    }
}

/// Who holds need not send anything: it is asked from time to time, so that nobody listens to music for ever.
#[test]
fn a_hold_ends_when_who_holds_is_gone() {
    let (mut world, alice, customer) = talking();
    let now = world.now;
    world.phones[alice].reinvite(now, Direction::Inactive);
    world.run_ms(100);
    tell(
        &mut world,
        "callee-1",
        pb::event::Kind::MediaTimeout(pb::MediaTimeout::default()),
    );
    assert_eq!(world.count("server>alice OPTIONS"), 0, "{}", world.story());
    world.run_ms(200_000);
    assert!(world.count("server>alice OPTIONS") > 2, "{}", world.story());
    assert!(world.phones[customer].talks(), "{}", world.story());
    world.phones[alice].dead = true;
    world.run_ms(100_000);
    assert!(!world.phones[customer].talks(), "{}", world.story());
    world.assert_nothing_left();
}

/// A phone that leaves refreshing to us, and knows no UPDATE for it.
fn old_phone(world: &mut World, name: &'static str) -> usize {
    world.phone_with(name, |config| {
        config.methods.retain(|method| *method != Method::Update);
        config.extensions.retain(|extension| *extension != "timer");
    })
}

/// When the phone, which called, is sent an INVITE: its session is refreshed.
fn refreshed_at(world: &World, name: &str) -> Option<u64> {
    let line = format!("server>{name} INVITE");
    let told = world.trace.iter().find(|told| told.contains(&line))?;
    told.split_whitespace().next()?.parse().ok()
}

/// The phone offers in the same moment, and that leads to nothing. The session is refreshed when that is over.
#[test]
fn a_refresh_that_cannot_go_out_is_made_a_little_later() {
    for to in ["bob", "room-7"] {
        let begin = || {
            let mut world = World::new();
            let dora = old_phone(&mut world, "dora");
            world.registered("bob", "builder");
            world.call(dora, to);
            world.run_ms(2_000);
            assert!(world.phones[dora].talks(), "{}", world.story());
            (world, dora)
        };
        let (mut calm, _) = begin();
        calm.run_ms(1_000_000);
        let due = refreshed_at(&calm, "dora").unwrap();
        let mut held_up = 0;
        for before_ms in 3..10 {
            let (mut world, dora) = begin();
            let passed_ms = (world.now - world.start).as_millis() as u64;
            world.run_ms(due - before_ms - passed_ms);
            world.media.fail = Some("not now");
            let now = world.now;
            world.phones[dora].reinvite(now, Direction::SendOnly);
            world.run_ms(100);
            world.media.fail = None;
            assert!(
                matches!(world.phones[dora].statuses[..], [491 | 500]),
                "{}",
                world.story()
            );
            world.run_ms(20_000);
            let at = refreshed_at(&world, "dora");
            assert!(at.is_some(), "{before_ms} ms\n{}", world.story());
            held_up += usize::from(at != Some(due));
            world.run_ms(3_600_000);
            assert!(world.phones[dora].talks(), "{before_ms} ms\n{}", world.story());
            world.hang_up(dora);
            world.assert_nothing_left();
        }
        assert!(held_up > 0, "they never met");
    }
}
