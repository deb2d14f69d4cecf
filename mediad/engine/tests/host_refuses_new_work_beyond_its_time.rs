//! A host whose workers have no time left refuses new sessions, names its load and what to do, and takes them again at once.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test needs one instant and may fail where it stands"
)]

use std::time::{Duration, Instant, SystemTime};

use media_engine::{
    api,
    command::Command,
    graph::Owner,
    host::{Busy, EffortRange, Host, HostConfig, Interface, InterfaceAddress, Taking, Tuning},
    refusal::{Code, Refusal},
};
use proto::mediad::v1 as pb;
use rtp::time::Now;

fn host(workers: usize, now: Now) -> Host {
    host_with(workers, now, Some(Duration::from_millis(40)))
}

fn host_with(workers: usize, now: Now, late_after: Option<Duration>) -> Host {
    let local = "127.0.0.1".parse().unwrap();
    let interface = Interface {
        name: "lan".into(),
        addresses: vec![InterfaceAddress {
            bind: local,
            advertise: local,
        }],
        port_min: 10_000,
        port_max: 10_999,
        dscp: 0,
    };
    let config = HostConfig {
        interfaces: vec![interface],
        workers,
        late_after,
        ..HostConfig::default()
    };
    Host::new(config, "boot", 1, now).unwrap()
}

/// A session with one endpoint, near another; the worker it is placed on.
fn create(host: &mut Host, now: Now, session: &str, near: &str) -> Result<usize, Refusal> {
    let format = pb::PayloadFormat {
        codec: pb::Codec::Pcmu.into(),
        ..pb::PayloadFormat::default()
    };
    let transport = pb::Transport {
        id: "t".into(),
        kind: Some(pb::transport::Kind::Udp(pb::UdpTransport::default())),
    };
    let endpoint = pb::Node {
        id: "a".into(),
        kind: Some(pb::node::Kind::Endpoint(pb::Endpoint {
            transport: "t".into(),
            formats: vec![format],
            ..pb::Endpoint::default()
        })),
    };
    let apply = pb::ApplyRequest {
        session: session.into(),
        owner: Some(pb::Owner {
            controller: "c".into(),
            epoch: 1,
        }),
        put_transports: vec![transport],
        put_nodes: vec![endpoint],
        placement: Some(pb::Placement {
            near_session: near.into(),
        }),
        ..pb::ApplyRequest::default()
    };
    let prepared = host.prepare(now, api::apply(&apply).unwrap())?;
    let worker = prepared.worker();
    host.commit(now, prepared);
    Ok(worker)
}

fn end(host: &mut Host, now: Now, session: &str) {
    let owner = Owner {
        controller: "c".into(),
        epoch: 1,
    };
    let (_, key) = host.delete(now, &session.into(), &owner).unwrap();
    host.ended(now, key);
}

fn now() -> Now {
    Now {
        mono: Instant::now(),
        wall: SystemTime::UNIX_EPOCH,
    }
}

/// So busy without encoding anything.
fn relaying(media: f32) -> Busy {
    Busy { media, opus: 0.0 }
}

/// So busy, nearly all of it with encoding Opus.
fn encoding(media: f32) -> Busy {
    Busy {
        media,
        opus: media * 0.9,
    }
}

/// The efforts that workers are told, in order.
fn told(host: &mut Host) -> Vec<(usize, u8)> {
    std::iter::from_fn(|| host.poll_order())
        .filter_map(|(worker, command)| match command {
            Command::OpusComplexity(complexity) => Some((worker, complexity)),
            _ => None,
        })
        .collect()
}

#[test]
fn a_busy_host_refuses_and_recovers_with_the_next_measurement() {
    let now = now();
    let mut host = host(1, now);
    create(&mut host, now, "first", "").unwrap();
    host.worker_busy(0, relaying(0.93), 0.0);
    let refusal = create(&mut host, now, "second", "").unwrap_err();
    assert_eq!(refusal.code(), Code::ResourceExhausted);
    let text = refusal.to_string();
    assert!(
        text.contains("93 %") && text.contains("90 %") && text.contains("another host"),
        "{text}"
    );
    assert_eq!(host.status(now).sessions, 1, "nothing has happened");
    // What is there is edited all the same.
    create(&mut host, now, "first", "").unwrap();
    host.worker_busy(0, relaying(0.4), 0.0);
    create(&mut host, now, "second", "").unwrap();
}

#[test]
fn what_came_since_the_measurement_counts_when_half_of_the_time_is_used() {
    let now = now();
    let mut host = host(1, now);
    for n in 0..10 {
        create(&mut host, now, &format!("idle-{n}"), "").unwrap();
    }
    host.worker_busy(0, relaying(0.6), 0.0);
    // Ten endpoints are 60 %: five more are more than 90 %.
    let taken = (0..20).take_while(|n| create(&mut host, now, &format!("new-{n}"), "").is_ok());
    assert_eq!(taken.count(), 5);
    // They turned out to be cheap.
    host.worker_busy(0, relaying(0.62), 0.0);
    create(&mut host, now, "another", "").unwrap();
}

#[test]
fn work_that_ended_while_it_was_measured_is_not_taken_for_that_of_the_few_who_stay() {
    let now = now();
    let mut host = host(1, now);
    for n in 0..40 {
        create(&mut host, now, &format!("gone-{n}"), "").unwrap();
    }
    host.worker_busy(0, relaying(0.7), 0.0);
    for n in 1..40 {
        end(&mut host, now, &format!("gone-{n}"));
    }
    // Of the last second, in which the forty were there, though only one is left.
    host.worker_busy(0, relaying(0.7), 0.0);
    for n in 0..10 {
        create(&mut host, now, &format!("new-{n}"), "").unwrap();
    }
}

#[test]
fn a_session_goes_where_there_is_time_even_when_another_is_asked_for() {
    let now = now();
    let mut host = host(2, now);
    let worker = create(&mut host, now, "first", "").unwrap();
    host.worker_busy(worker, relaying(0.95), 0.0);
    assert_eq!(create(&mut host, now, "second", "first").unwrap(), 1 - worker);
    host.worker_busy(1 - worker, relaying(0.95), 0.0);
    assert!(matches!(
        create(&mut host, now, "third", "first"),
        Err(Refusal::Overloaded { .. })
    ));
    host.worker_busy(worker, relaying(0.3), 0.0);
    assert_eq!(create(&mut host, now, "third", "first").unwrap(), worker);
}

#[test]
fn a_worker_that_gets_busy_with_opus_makes_less_effort_before_it_refuses() {
    let now = now();
    let mut host = host(1, now);
    for n in 0..10 {
        create(&mut host, now, &format!("there-{n}"), "").unwrap();
    }
    host.worker_busy(0, encoding(0.6), 0.0);
    assert_eq!(told(&mut host), [], "it has time");
    // Ten take 60 %: of five more it would have no time for the effort it makes, and does not wait to find out.
    for n in 0..5 {
        create(&mut host, now, &format!("new-{n}"), "").unwrap();
    }
    let efforts = told(&mut host);
    let [.., (0, last)] = efforts[..] else {
        panic!("{efforts:?}");
    };
    assert!(last < 5 && efforts.is_sorted_by(|a, b| a.1 > b.1), "{efforts:?}");
    assert_eq!(host.status(now).workers[0].opus_complexity, last);
    // How many it takes is told by the least effort, and is not more than that leaves time for.
    let more = (0..100).take_while(|n| create(&mut host, now, &format!("more-{n}"), "").is_ok());
    let all = 15 + more.count();
    let least = codecs::opus::encoding_ns(160, 0) as f32 / codecs::opus::encoding_ns(160, 5) as f32;
    let each = 0.06 * (0.1 + 0.9 * least);
    assert!(
        (0.8..0.9 + each).contains(&(all as f32 * each)),
        "{all} of {each} each at the least effort"
    );
    assert_eq!(told(&mut host).last().map(|(_, effort)| *effort), Some(0));
}

#[test]
fn a_worker_that_is_late_for_long_refuses_and_says_why() {
    let now = now();
    let mut host = host(1, now);
    create(&mut host, now, "first", "").unwrap();
    // A hiccup of four seconds: nothing changes.
    for late in [[0.5; 8], [0.0; 8]].concat() {
        assert_eq!(host.worker_busy(0, relaying(0.5), late), None);
    }
    create(&mut host, now, "second", "").unwrap();
    // It goes on for long: half busy is more than it can do.
    let taking: Vec<Taking> = (0..20)
        .filter_map(|_| host.worker_busy(0, relaying(0.5), 0.34))
        .collect();
    let [Taking::Less(max)] = taking[..] else {
        panic!("{taking:?}");
    };
    assert!((0.4..0.5).contains(&max), "{max}");
    let refusal = create(&mut host, now, "third", "").unwrap_err();
    assert_eq!(refusal.code(), Code::ResourceExhausted);
    let text = refusal.to_string();
    let parts = [
        "34 %",
        "worker 0",
        "40 ms (limits.late_ms_max)",
        "50 %",
        "another host",
        "workers.cpus",
    ];
    assert!(parts.iter().all(|part| text.contains(part)), "{text}");
    let worker = host.status(now).workers[0];
    assert_eq!((worker.busy_max, worker.late), (max, 0.34));
    // What is there is edited all the same, and with less to do it takes new sessions at once.
    create(&mut host, now, "first", "").unwrap();
    assert_eq!(host.worker_busy(0, relaying(0.3), 0.0), None);
    create(&mut host, now, "third", "").unwrap();
    // In time for a while, it takes as many as ever.
    let taking: Vec<Taking> = (0..400)
        .filter_map(|_| host.worker_busy(0, relaying(0.3), 0.0))
        .collect();
    assert_eq!(taking, [Taking::AsConfigured]);
    host.worker_busy(0, relaying(0.85), 0.0);
    create(&mut host, now, "fourth", "").unwrap();
}

#[test]
fn new_sessions_go_to_a_worker_that_keeps_its_time_however_busy() {
    let now = now();
    let mut host = host(2, now);
    let late = create(&mut host, now, "first", "").unwrap();
    for _ in 0..20 {
        host.worker_busy(late, relaying(0.3), 0.5);
        host.worker_busy(1 - late, relaying(0.6), 0.0);
    }
    assert_eq!(create(&mut host, now, "second", "").unwrap(), 1 - late);
    assert_eq!(create(&mut host, now, "third", "first").unwrap(), 1 - late);
    host.worker_busy(1 - late, relaying(0.95), 0.0);
    assert!(matches!(
        create(&mut host, now, "fourth", ""),
        Err(Refusal::Late { worker, .. }) if worker == late
    ));
}

#[test]
fn a_worker_that_is_late_for_long_makes_less_effort_before_it_refuses() {
    let now = now();
    let mut host = host(1, now);
    create(&mut host, now, "first", "").unwrap();
    for _ in 0..9 {
        host.worker_busy(0, encoding(0.5), 0.3);
    }
    assert_eq!(told(&mut host), [], "not yet");
    host.worker_busy(0, encoding(0.5), 0.3);
    let efforts = told(&mut host);
    assert!(matches!(efforts[..], [(0, effort)] if effort < 5), "{efforts:?}");
    create(&mut host, now, "second", "").unwrap();
}

#[test]
fn lateness_may_not_matter() {
    let now = now();
    let mut host = host_with(1, now, None);
    for _ in 0..100 {
        assert_eq!(host.worker_busy(0, encoding(0.5), 0.9), None);
    }
    create(&mut host, now, "first", "").unwrap();
    assert_eq!(told(&mut host), []);
}

#[test]
fn bounds_of_the_effort_change_while_sessions_live() {
    let now = now();
    let mut host = host(2, now);
    let effort = EffortRange { most: 2, least: 2 };
    host.tune(Tuning {
        sessions_max: 10,
        busy_percent_max: 90,
        effort,
        quarantine: Duration::ZERO,
        lease: Duration::from_secs(30),
        media_timeout: Duration::from_secs(30),
        orphan_max: Duration::from_secs(30),
        relearn_after: Duration::from_secs(3),
    });
    assert_eq!(told(&mut host), [(0, 2), (1, 2)]);
    create(&mut host, now, "first", "").unwrap();
    host.worker_busy(0, encoding(0.95), 0.0);
    host.worker_busy(1, encoding(0.95), 0.0);
    assert_eq!(told(&mut host), [], "load changes nothing");
    assert!(create(&mut host, now, "second", "").is_err());
}
