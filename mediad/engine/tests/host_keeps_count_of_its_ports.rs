//! Whatever sequence of edits, refusals, taken ports and ends: every port is in one place, and all come back.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test needs one instant and may fail where it stands"
)]

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    time::{Duration, Instant, SystemTime},
};

use media_engine::{
    command::SessionKey,
    graph::{Owner, Patch},
    host::{Host, HostConfig, Interface, InterfaceAddress},
    spec::{RtcpMode, SourcePolicy, TransportKind, TransportSpec, UdpSpec},
};
use proptest::prelude::*;
use rtp::time::Now;

const PAIRS: usize = 12;

#[derive(Debug, Clone)]
enum Step {
    /// Put transports into a session, remove others; bind fails for the first `taken` of them.
    Edit {
        session: u8,
        put: Vec<u8>,
        remove: Vec<u8>,
        taken: u8,
        commit: bool,
    },
    Delete {
        session: u8,
    },
    Ended,
    Wait {
        seconds: u8,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let few = || prop::collection::vec(0u8..4, 0..3);
    prop_oneof![
        4 => (0u8..4, few(), few(), 0u8..3, any::<bool>()).prop_map(|(session, put, remove, taken, commit)| {
            Step::Edit { session, put, remove, taken, commit }
        }),
        2 => (0u8..4).prop_map(|session| Step::Delete { session }),
        2 => Just(Step::Ended),
        1 => (0u8..40).prop_map(|seconds| Step::Wait { seconds }),
    ]
}

fn host(now: Now) -> Host {
    let local = "127.0.0.1".parse().unwrap();
    let interface = Interface {
        name: "lan".into(),
        addresses: vec![InterfaceAddress {
            bind: local,
            advertise: local,
        }],
        port_min: 10_000,
        port_max: 10_000 + 2 * PAIRS as u16 - 1,
        dscp: 0,
    };
    Host::new(
        HostConfig {
            interfaces: vec![interface],
            ..HostConfig::default()
        },
        "boot",
        5,
        now,
    )
    .unwrap()
}

fn owner() -> Owner {
    Owner {
        controller: "c".into(),
        epoch: 1,
    }
}

fn patch(session: u8, put: &[u8], remove: &[u8]) -> Patch {
    let transport = |id: &u8| TransportSpec {
        id: format!("t{id}").as_str().into(),
        kind: TransportKind::Udp(UdpSpec {
            interface: "".into(),
            family: None,
            rtcp: RtcpMode::Separate,
            requested_port: None,
            remote: None,
            remote_rtcp: None,
            source: SourcePolicy::Learn,
            dscp: None,
            security: None,
        }),
    };
    Patch {
        session: format!("s{session}").as_str().into(),
        owner: owner(),
        if_revision: None,
        replace: false,
        put_transports: put.iter().map(|id| transport(id).into()).collect(),
        remove_transports: remove.iter().map(|id| format!("t{id}").as_str().into()).collect(),
        put_nodes: vec![],
        remove_nodes: vec![],
        put_edges: vec![],
        remove_edges: vec![],
        near: None,
        options: None,
    }
}

/// What the test believes: the ports of every session in service, and of those not yet let go.
#[derive(Default)]
struct Model {
    sessions: BTreeMap<u8, Vec<SocketAddr>>,
    ending: Vec<(SessionKey, usize)>,
}

proptest! {
    #[test]
    fn ports_are_never_lost_or_doubled(steps in prop::collection::vec(step(), 1..60)) {
        let mut now = Now { mono: Instant::now(), wall: SystemTime::UNIX_EPOCH };
        let mut host = host(now);
        let mut model = Model::default();
        for step in steps {
            match step {
                Step::Edit { session, put, remove, taken, commit } => {
                    if let Some(addresses) = edit(&mut host, now, patch(session, &put, &remove), taken, commit) {
                        model.sessions.insert(session, addresses);
                    }
                }
                Step::Delete { session } => {
                    let name = format!("s{session}").as_str().into();
                    if let Ok((_, key)) = host.delete(now, &name, &owner()) {
                        let ports = model.sessions.remove(&session).expect("the model has it too");
                        model.ending.push((key, ports.len()));
                    }
                }
                Step::Ended => {
                    if let Some((key, _)) = model.ending.pop() {
                        host.ended(now, key);
                    }
                }
                Step::Wait { seconds } => now.mono += Duration::from_secs(seconds.into()),
            }
            check(&host, now, &model)?;
        }
        for (session, _) in std::mem::take(&mut model.sessions) {
            let (_, key) = host.delete(now, &format!("s{session}").as_str().into(), &owner()).unwrap();
            host.ended(now, key);
        }
        for (key, _) in model.ending {
            host.ended(now, key);
        }
        prop_assert_eq!(host.status(now).interfaces[0].used, 0);
        let worker = host.status(now).workers[0];
        prop_assert_eq!((worker.sessions, worker.endpoints), (0, 0));
        // After every quarantine the whole range can be had again.
        now.mono += Duration::from_secs(100);
        let all: Vec<u8> = (0..PAIRS as u8).collect();
        let got = edit(&mut host, now, patch(9, &all, &[]), 0, true);
        prop_assert_eq!(got.map(|ports| ports.len()), Some(PAIRS));
    }
}

/// One edit as the daemon does it. Gives the session's addresses if it was carried out.
fn edit(host: &mut Host, now: Now, patch: Patch, taken: u8, commit: bool) -> Option<Vec<SocketAddr>> {
    let mut prepared = host.prepare(now, patch).ok()?;
    for _ in 0..taken {
        if prepared.wants().is_empty() {
            break;
        }
        if host.rebind(now, &mut prepared, 0).is_err() {
            host.abort(now, prepared);
            return None;
        }
    }
    if !commit {
        host.abort(now, prepared);
        return None;
    }
    Some(
        host.commit(now, prepared)
            .applied
            .locals
            .iter()
            .map(|local| local.rtp)
            .collect(),
    )
}

fn check(host: &Host, now: Now, model: &Model) -> Result<(), TestCaseError> {
    let state = &host.status(now).interfaces[0];
    let mut in_service: Vec<_> = model.sessions.values().flatten().collect();
    let ending: usize = model.ending.iter().map(|(_, ports)| ports).sum();
    prop_assert_eq!(state.used, in_service.len() + ending);
    prop_assert_eq!(state.used + state.quarantined + state.foreign + state.free, PAIRS);
    in_service.sort();
    in_service.dedup();
    prop_assert_eq!(in_service.len() + ending, state.used, "a port is in two sessions");
    Ok(())
}
