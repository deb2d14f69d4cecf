//! A session outlives its controller while media flows, and nobody's silent session stays for ever.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test needs one instant and may fail where it stands"
)]

use std::time::{Duration, Instant, SystemTime};

use media_engine::{
    command::{Command, EngineEvent, EventKind, SessionKey},
    graph::{Owner, Patch},
    host::{EndReason, Events, HOST_TOKEN, Happening, Host, HostConfig, Interface, InterfaceAddress},
    refusal::{Code, Refusal},
    spec::Name,
};
use rtp::time::Now;

const LEASE: Duration = Duration::from_secs(30);

struct World {
    host: Host,
    now: Now,
}

impl World {
    fn new() -> Self {
        let now = Now {
            mono: Instant::now(),
            wall: SystemTime::UNIX_EPOCH,
        };
        let local = "127.0.0.1".parse().unwrap();
        let addresses = vec![InterfaceAddress {
            bind: local,
            advertise: local,
        }];
        let interface = Interface {
            name: "lan".into(),
            addresses,
            port_min: 10_000,
            port_max: 10_099,
            dscp: 0,
        };
        let config = HostConfig {
            interfaces: vec![interface],
            orphan_max: LEASE * 10,
            ..HostConfig::default()
        };
        Self {
            host: Host::new(config, "boot", 1, now).unwrap(),
            now,
        }
    }

    fn pass(&mut self, time: Duration) -> Vec<(usize, Command)> {
        self.now.mono += time;
        self.now.wall += time;
        while self.host.poll_timeout().is_some_and(|at| at <= self.now.mono) {
            self.host.handle_timeout(self.now);
        }
        self.orders()
    }

    fn orders(&mut self) -> Vec<(usize, Command)> {
        std::iter::from_fn(|| self.host.poll_order()).collect()
    }

    fn create(&mut self, session: &str, controller: &str) -> SessionKey {
        let patch = Patch {
            session: session.into(),
            owner: owner(controller, 1),
            if_revision: Some(0),
            replace: false,
            put_transports: vec![],
            remove_transports: vec![],
            put_nodes: vec![],
            remove_nodes: vec![],
            put_edges: vec![],
            remove_edges: vec![],
            near: None,
            options: None,
        };
        let prepared = self.host.prepare(self.now, patch).unwrap();
        self.host
            .commit(self.now, prepared)
            .commit
            .expect("a new session is a change")
            .session
    }

    fn silent(&mut self, session: SessionKey) -> Vec<(usize, Command)> {
        let event = EngineEvent {
            session,
            subject: None,
            at: self.now.wall,
            kind: EventKind::Silent,
        };
        self.host.engine_event(self.now, event);
        self.orders()
    }

    fn happened(&self) -> Vec<(Name, Happening)> {
        match self.host.events_after("boot", 0, None, |_| true, 100) {
            Events::After(events, _) => events
                .into_iter()
                .map(|event| (event.session, event.kind))
                .collect(),
            Events::Lost(reason) => panic!("{reason}"),
        }
    }
}

fn owner(controller: &str, epoch: u64) -> Owner {
    Owner {
        controller: controller.into(),
        epoch,
    }
}

#[test]
fn an_orphan_lives_while_media_flows_and_ends_when_it_is_silent() {
    let mut world = World::new();
    world.host.hello(world.now, &"c".into(), Some(LEASE)).unwrap();
    let key = world.create("s", "c");
    assert!(
        world.pass(LEASE * 5).is_empty(),
        "a connected controller's lease does not run"
    );
    assert!(world.silent(key).is_empty(), "an owned session may be silent");

    world.host.disconnected(world.now, &"c".into());
    let orders = world.pass(LEASE);
    assert!(
        matches!(orders[..], [(0, Command::Orphaned(k, true))] if k == key),
        "{orders:?}"
    );
    assert!(world.host.list(None, "", 9)[0].orphaned);

    let orders = world.silent(key);
    assert!(
        matches!(orders[..], [(0, Command::End(k, HOST_TOKEN))] if k == key),
        "{orders:?}"
    );
    world.host.ended(world.now, key);
    assert_eq!(
        world.happened(),
        [("s".into(), Happening::SessionEnded(EndReason::Orphaned))]
    );
    assert!(world.host.list(None, "", 9).is_empty());
}

#[test]
fn a_controller_that_comes_back_owns_its_sessions_again() {
    let mut world = World::new();
    let key = world.create("s", "c");
    assert_eq!(world.pass(LEASE).len(), 1);
    world.host.hello(world.now, &"c".into(), None).unwrap();
    let orders = world.orders();
    assert!(
        matches!(orders[..], [(0, Command::Orphaned(k, false))] if k == key),
        "{orders:?}"
    );
    assert!(world.silent(key).is_empty());
    assert!(!world.host.list(None, "", 9)[0].orphaned);
}

#[test]
fn the_hard_cap_ends_an_orphan_that_still_talks() {
    let mut world = World::new();
    let key = world.create("s", "c");
    world.pass(LEASE);
    let orders = world.pass(LEASE * 10);
    assert!(
        matches!(orders[..], [(0, Command::End(k, HOST_TOKEN))] if k == key),
        "{orders:?}"
    );
    world.host.ended(world.now, key);
    assert_eq!(
        world.happened(),
        [("s".into(), Happening::SessionEnded(EndReason::OrphanCap))]
    );
    assert_eq!(world.host.poll_timeout(), None, "nothing is left to wait for");
}

#[test]
fn adopting_fences_the_old_owner() {
    let mut world = World::new();
    let key = world.create("s", "c1");
    let name: Name = "s".into();
    let refused = world.host.adopt(world.now, &name, &owner("c2", 1)).unwrap_err();
    assert!(
        matches!(
            refused,
            Refusal::StaleEpoch {
                current: 1,
                given: 1,
                ..
            }
        ),
        "{refused}"
    );
    assert_eq!(world.host.adopt(world.now, &name, &owner("c2", 2)), Ok((0, key)));

    let refused = world.host.delete(world.now, &name, &owner("c1", 1)).unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    let refused = world.host.delete(world.now, &name, &owner("c2", 1)).unwrap_err();
    assert!(
        refused.to_string().contains("another instance has adopted it"),
        "{refused}"
    );
    assert_eq!(world.host.delete(world.now, &name, &owner("c2", 2)), Ok((0, key)));
    let kind = Happening::OwnerChanged {
        controller: "c2".into(),
        epoch: 2,
    };
    assert_eq!(world.happened(), [("s".into(), kind)]);
}

#[test]
fn an_adopted_orphan_is_one_no_longer() {
    let mut world = World::new();
    let key = world.create("s", "gone");
    world.pass(LEASE);
    world
        .host
        .adopt(world.now, &"s".into(), &owner("heir", 2))
        .unwrap();
    let orders = world.orders();
    assert!(
        matches!(orders[..], [(0, Command::Orphaned(k, false))] if k == key),
        "{orders:?}"
    );
    let orders = world.pass(LEASE);
    assert!(
        matches!(orders[..], [(0, Command::Orphaned(k, true))] if k == key),
        "the heir's lease counts: {orders:?}"
    );
}

/// What revives a lease gives the controller back what it owns, whatever becomes of the request.
#[test]
fn an_adoption_that_is_refused_revives_the_lease_all_the_same() {
    let mut world = World::new();
    let own = world.create("own", "c1");
    let orders = world.pass(LEASE);
    assert!(
        matches!(orders[..], [(0, Command::Orphaned(k, true))] if k == own),
        "{orders:?}"
    );
    let refused = world.host.adopt(world.now, &"never was".into(), &owner("c1", 2));
    assert_eq!(refused, Err(Refusal::UnknownSession("never was".into())));
    let orders = world.orders();
    assert!(
        matches!(orders[..], [(0, Command::Orphaned(k, false))] if k == own),
        "{orders:?}"
    );
}

#[test]
fn events_of_another_life_cannot_be_resumed() {
    let world = World::new();
    let lost = world.host.events_after("an earlier boot", 0, None, |_| true, 9);
    assert!(matches!(lost, Events::Lost(why) if why.contains("restarted")));
}
