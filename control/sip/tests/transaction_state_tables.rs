//! Every state of every transaction machine meets every event; the whole table is a snapshot.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by stopping")]

use sip::transaction::{
    Actions, InviteClient, InviteServer, NonInviteClient, NonInviteServer, Path, Timer, TimerKey, TimerQueue,
    Timing,
};
use std::fmt::Write as _;
use std::time::Duration;

const TIMERS: [Timer; 13] = [
    Timer::A,
    Timer::B,
    Timer::D,
    Timer::E,
    Timer::F,
    Timer::G,
    Timer::H,
    Timer::I,
    Timer::J,
    Timer::K,
    Timer::L,
    Timer::M,
    Timer::Trying,
];

fn path(reliable: bool) -> Path {
    Path {
        timing: Timing::DEFAULT,
        reliable,
    }
}

fn written(actions: Actions) -> String {
    let list: Vec<String> = actions.iter().map(|action| format!("{action:?}")).collect();
    if list.is_empty() {
        "-".to_owned()
    } else {
        list.join(", ")
    }
}

/// An event by name, and what it does to a machine.
type Event<'a, M> = (&'a str, &'a dyn Fn(&mut M) -> Actions);

/// Steps that lead to a state, then each event from there.
fn table<M: Copy, S: std::fmt::Debug>(
    states: &[(&str, M)],
    events: &[Event<'_, M>],
    state: impl Fn(&M) -> S,
) -> String {
    let mut out = String::new();
    for (name, machine) in states {
        writeln!(out, "{name}").unwrap();
        for (event, apply) in events {
            let mut machine = *machine;
            let actions = apply(&mut machine);
            writeln!(
                out,
                "  {event:<16} → {:<12?} {}",
                state(&machine),
                written(actions)
            )
            .unwrap();
        }
    }
    out
}

fn invite_client(reliable: bool) -> String {
    let path = path(reliable);
    let (calling, actions) = InviteClient::start(&path);
    let after = |steps: &[&dyn Fn(&mut InviteClient) -> Actions]| {
        let mut machine = calling;
        for step in steps {
            step(&mut machine);
        }
        machine
    };
    let provisional = |m: &mut InviteClient| m.on_provisional();
    let success = |m: &mut InviteClient| m.on_success(&path);
    let failure = |m: &mut InviteClient| m.on_failure(&path);
    let broken = |m: &mut InviteClient| m.on_transport_error();
    let abandon = |m: &mut InviteClient| m.on_abandon();
    let states = [
        ("Calling", calling),
        ("Proceeding", after(&[&provisional])),
        ("Completed", after(&[&failure])),
        ("Accepted", after(&[&success])),
        ("Terminated", after(&[&broken])),
    ];
    let timers: Vec<_> = TIMERS
        .iter()
        .map(|&timer| {
            (format!("timer {timer:?}"), move |m: &mut InviteClient| {
                m.on_timer(timer)
            })
        })
        .collect();
    let mut events: Vec<Event<'_, InviteClient>> = vec![
        ("1xx", &provisional),
        ("2xx", &success),
        ("3xx-6xx", &failure),
        ("transport error", &broken),
        ("abandon", &abandon),
    ];
    events.extend(timers.iter().map(|(name, apply)| (name.as_str(), apply as _)));
    format!("start: {}\n", written(actions)) + &table(&states, &events, InviteClient::state)
}

fn non_invite_client(reliable: bool) -> String {
    let path = path(reliable);
    let (trying, actions) = NonInviteClient::start(&path);
    let provisional = |m: &mut NonInviteClient| m.on_provisional();
    let last = |m: &mut NonInviteClient| m.on_final(&path);
    let broken = |m: &mut NonInviteClient| m.on_transport_error();
    let after = |step: &dyn Fn(&mut NonInviteClient) -> Actions| {
        let mut machine = trying;
        step(&mut machine);
        machine
    };
    let states = [
        ("Trying", trying),
        ("Proceeding", after(&provisional)),
        ("Completed", after(&last)),
        ("Terminated", after(&broken)),
    ];
    let timers: Vec<_> = TIMERS
        .iter()
        .map(|&timer| {
            let apply = move |m: &mut NonInviteClient| m.on_timer(timer, &path);
            (format!("timer {timer:?}"), apply)
        })
        .collect();
    let mut events: Vec<Event<'_, NonInviteClient>> = vec![
        ("1xx", &provisional),
        ("final", &last),
        ("transport error", &broken),
    ];
    events.extend(timers.iter().map(|(name, apply)| (name.as_str(), apply as _)));
    format!("start: {}\n", written(actions)) + &table(&states, &events, NonInviteClient::state)
}

fn invite_server(reliable: bool) -> String {
    let path = path(reliable);
    let (silent, actions) = InviteServer::start(&path);
    let provisional = |m: &mut InviteServer| m.on_send_provisional();
    let success = |m: &mut InviteServer| m.on_send_success(&path);
    let failure = |m: &mut InviteServer| m.on_send_failure(&path);
    let again = |m: &mut InviteServer| m.on_retransmission();
    let ack = |m: &mut InviteServer| m.on_ack(&path);
    let after = |steps: &[&dyn Fn(&mut InviteServer) -> Actions]| {
        let mut machine = silent;
        for step in steps {
            step(&mut machine);
        }
        machine
    };
    let over = |m: &mut InviteServer| m.on_timer(Timer::L, &path);
    let states = [
        ("Proceeding, silent", silent),
        ("Proceeding, answered", after(&[&provisional])),
        ("Completed", after(&[&failure])),
        ("Confirmed", after(&[&failure, &ack])),
        ("Accepted", after(&[&success])),
        ("Terminated", after(&[&success, &over])),
    ];
    let timers: Vec<_> = TIMERS
        .iter()
        .map(|&timer| {
            let apply = move |m: &mut InviteServer| m.on_timer(timer, &path);
            (format!("timer {timer:?}"), apply)
        })
        .collect();
    let mut events: Vec<Event<'_, InviteServer>> = vec![
        ("INVITE", &again),
        ("ACK", &ack),
        ("send 1xx", &provisional),
        ("send 2xx", &success),
        ("send 3xx-6xx", &failure),
    ];
    events.extend(timers.iter().map(|(name, apply)| (name.as_str(), apply as _)));
    format!("start: {}\n", written(actions)) + &table(&states, &events, InviteServer::state)
}

fn non_invite_server(reliable: bool) -> String {
    let path = path(reliable);
    let (trying, actions) = NonInviteServer::start(&path);
    let provisional = |m: &mut NonInviteServer| m.on_send_provisional();
    let last = |m: &mut NonInviteServer| m.on_send_final(&path);
    let again = |m: &mut NonInviteServer| m.on_retransmission();
    let silent = |m: &mut NonInviteServer| m.on_timer(Timer::F);
    let after = |step: &dyn Fn(&mut NonInviteServer) -> Actions| {
        let mut machine = trying;
        step(&mut machine);
        machine
    };
    let states = [
        ("Trying", trying),
        ("Proceeding", after(&provisional)),
        ("Completed", after(&last)),
        ("Terminated", after(&silent)),
    ];
    let timers: Vec<_> = TIMERS
        .iter()
        .map(|&timer| {
            (format!("timer {timer:?}"), move |m: &mut NonInviteServer| {
                m.on_timer(timer)
            })
        })
        .collect();
    let mut events: Vec<Event<'_, NonInviteServer>> = vec![
        ("request", &again),
        ("send 1xx", &provisional),
        ("send final", &last),
    ];
    events.extend(timers.iter().map(|(name, apply)| (name.as_str(), apply as _)));
    format!("start: {}\n", written(actions)) + &table(&states, &events, NonInviteServer::state)
}

#[test]
fn invite_client_meets_every_event() {
    insta::assert_snapshot!("invite_client_unreliable", invite_client(false));
    insta::assert_snapshot!("invite_client_reliable", invite_client(true));
}

#[test]
fn non_invite_client_meets_every_event() {
    insta::assert_snapshot!("non_invite_client_unreliable", non_invite_client(false));
    insta::assert_snapshot!("non_invite_client_reliable", non_invite_client(true));
}

#[test]
fn invite_server_meets_every_event() {
    insta::assert_snapshot!("invite_server_unreliable", invite_server(false));
    insta::assert_snapshot!("invite_server_reliable", invite_server(true));
}

#[test]
fn non_invite_server_meets_every_event() {
    insta::assert_snapshot!("non_invite_server_unreliable", non_invite_server(false));
    insta::assert_snapshot!("non_invite_server_reliable", non_invite_server(true));
}

/// Four timers each have one owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Key(u64);

impl TimerKey for Key {
    fn owner(&self) -> u64 {
        self.0 / 4
    }
}

#[test]
#[allow(clippy::disallowed_methods, reason = "a starting point for virtual time")]
fn a_timer_queue_gives_timers_in_order_and_forgets_stopped_ones() {
    let start = std::time::Instant::now();
    let at = |ms| start + Duration::from_millis(ms);
    let mut queue = TimerQueue::default();
    for (key, ms) in [(3, 30), (1, 10), (2, 10), (4, 5)] {
        queue.start(Key(key), at(ms));
    }
    queue.start(Key(4), at(20));
    assert!(queue.stop(Key(3)) && !queue.stop(Key(3)));
    assert_eq!(
        (queue.len(), queue.next_due(), queue.due(Key(4))),
        (3, Some(at(10)), Some(at(20)))
    );
    assert_eq!(queue.pop_due(at(9)), None);
    let order: Vec<_> = std::iter::from_fn(|| queue.pop_due(at(25))).collect();
    assert_eq!(order, [1, 2, 4].map(Key));
    for key in 0..10 {
        queue.start(Key(key), at(key));
    }
    queue.stop_all(1);
    let left: Vec<_> = std::iter::from_fn(|| queue.pop_due(at(100))).collect();
    assert_eq!(left, [0, 1, 2, 3, 8, 9].map(Key));
    assert!(queue.is_empty());
}
