//! Each impairment by itself, measured at the receiver against what the link was told.

use netem::{Counters, Delivery, Link, Loss, Netem, limits};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

const COUNT: u32 = 50_000;

fn alice() -> SocketAddr {
    "10.0.0.1:4000".parse().expect("an address")
}

fn bob() -> SocketAddr {
    "10.0.0.2:5000".parse().expect("an address")
}

#[allow(
    clippy::disallowed_methods,
    reason = "the origin of virtual time; only differences count"
)]
fn origin() -> Instant {
    Instant::now()
}

/// Sends `COUNT` numbered datagrams of 4 bytes, 1 ms apart, and returns the deliveries in order.
fn run(link: Link) -> (Vec<Delivery>, Counters) {
    let mut net = Netem::new(99);
    net.set_link(alice().ip(), bob().ip(), link);
    let start = origin();
    let mut seen = Vec::new();
    for index in 0..COUNT {
        let now = start + Duration::from_millis(1) * index;
        net.send(now, alice(), bob(), &index.to_be_bytes());
        seen.extend(std::iter::from_fn(|| net.poll(now)));
    }
    while let Some(due) = net.poll_timeout() {
        seen.extend(net.poll(due));
    }
    assert_eq!(net.in_flight(), 0);
    (seen, net.counters())
}

fn numbers(seen: &[Delivery]) -> Vec<u32> {
    seen.iter()
        .map(|delivery| u32::from_be_bytes(delivery.bytes[..].try_into().expect("four bytes were sent")))
        .collect()
}

#[test]
fn a_default_link_delivers_everything_at_once_and_in_order() {
    let (seen, counters) = run(Link::default());
    assert_eq!(numbers(&seen), (0..COUNT).collect::<Vec<_>>());
    assert!(
        seen.iter()
            .all(|delivery| delivery.arrived_at == delivery.sent_at)
    );
    let all = u64::from(COUNT);
    assert_eq!(
        counters,
        Counters {
            sent: all,
            delivered: all,
            ..Counters::default()
        }
    );
}

#[test]
fn independent_losses_have_their_rate_and_no_memory() {
    let (seen, counters) = run(Link {
        loss: Loss::Bernoulli(0.10),
        ..Link::default()
    });
    let (rate, burst) = losses(&numbers(&seen));
    assert!((rate - 0.10).abs() < 0.005, "lost {rate}");
    // Independent losses run 1 / (1 - p) long.
    assert!((burst - 1.0 / 0.9).abs() < 0.05, "mean burst {burst}");
    assert_eq!(counters.delivered + counters.lost, counters.sent);
}

#[test]
fn bursts_have_their_rate_and_their_length() {
    let (seen, _) = run(Link {
        loss: Loss::bursts(0.10, 5.0),
        ..Link::default()
    });
    let (rate, burst) = losses(&numbers(&seen));
    assert!((rate - 0.10).abs() < 0.015, "lost {rate}");
    assert!((burst - 5.0).abs() < 0.5, "mean burst {burst}");
}

/// The share lost and the mean length of a run of losses.
fn losses(arrived: &[u32]) -> (f64, f64) {
    let lost = COUNT as usize - arrived.len();
    let inner = arrived.windows(2).filter(|pair| pair[1] != pair[0] + 1).count();
    let outer = usize::from(arrived.first() != Some(&0)) + usize::from(arrived.last() != Some(&(COUNT - 1)));
    (
        lost as f64 / f64::from(COUNT),
        lost as f64 / (inner + outer) as f64,
    )
}

#[test]
fn jitter_spreads_over_its_range_without_reordering() {
    let (delay, jitter) = (Duration::from_millis(30), Duration::from_millis(10));
    let (seen, _) = run(Link {
        delay,
        jitter,
        ..Link::default()
    });
    assert_eq!(
        numbers(&seen),
        (0..COUNT).collect::<Vec<_>>(),
        "jitter changed the order"
    );
    let taken: Vec<Duration> = seen
        .iter()
        .map(|delivery| delivery.arrived_at - delivery.sent_at)
        .collect();
    let (least, most) = (
        taken.iter().min().expect("some"),
        taken.iter().max().expect("some"),
    );
    assert!(*least >= delay && *least < delay + jitter / 2, "{least:?}");
    assert!(
        *most <= delay + jitter && *most > delay + jitter * 9 / 10,
        "{most:?}"
    );
}

#[test]
fn held_back_datagrams_are_overtaken() {
    let (seen, counters) = run(Link {
        reorder: 0.05,
        ..Link::default()
    });
    let seen = numbers(&seen);
    let late = seen.windows(2).filter(|pair| pair[1] < pair[0]).count() as f64 / f64::from(COUNT);
    assert!((late - 0.05).abs() < 0.01, "{late} arrived late");
    assert_eq!((seen.len(), counters.lost), (COUNT as usize, 0));
    assert!((counters.held_back as f64 / f64::from(COUNT) - 0.05).abs() < 0.005);
}

#[test]
fn doubles_are_the_same_bytes_again() {
    let (seen, counters) = run(Link {
        duplicate: 0.10,
        ..Link::default()
    });
    let mut seen = numbers(&seen);
    let extra = seen.len() - COUNT as usize;
    assert_eq!(extra as u64, counters.duplicated);
    assert!(
        (extra as f64 / f64::from(COUNT) - 0.10).abs() < 0.005,
        "{extra} doubles"
    );
    seen.dedup();
    assert_eq!(seen.len(), COUNT as usize);
}

#[test]
fn a_limited_link_paces_queues_and_drops_what_does_not_fit() {
    // 100 bytes take 10 ms; the queue holds five of them.
    let link = Link {
        rate_bps: Some(80_000),
        queue_bytes: 500,
        ..Link::default()
    };
    let mut net = Netem::new(1);
    net.set_default_link(link);
    let start = origin();
    for _ in 0..20 {
        net.send(start, alice(), bob(), &[0; 100]);
    }
    let mut arrivals = Vec::new();
    while let Some(due) = net.poll_timeout() {
        arrivals.extend(
            net.poll(due)
                .map(|delivery| (delivery.arrived_at - start).as_millis()),
        );
    }
    assert_eq!(arrivals, [10, 20, 30, 40, 50]);
    assert_eq!(net.counters().queue_full, 15);
    // Once drained, it carries again.
    net.send(start + Duration::from_secs(1), alice(), bob(), &[0; 100]);
    assert_eq!(net.poll_timeout(), Some(start + Duration::from_millis(1_010)));
}

#[test]
fn more_in_flight_than_the_limit_is_dropped_and_counted() {
    let mut net = Netem::new(1);
    net.set_default_link(Link {
        delay: Duration::from_secs(1),
        ..Link::default()
    });
    let start = origin();
    for _ in 0..limits::IN_FLIGHT_MAX + 3 {
        net.send(start, alice(), bob(), &[]);
    }
    assert_eq!(
        (net.in_flight(), net.counters().overflow),
        (limits::IN_FLIGHT_MAX, 3)
    );
}

#[test]
fn a_cut_drops_one_direction_until_it_heals() {
    let mut net = Netem::new(1);
    let start = origin();
    net.cut(alice().ip(), bob().ip());
    net.send(start, alice(), bob(), b"cut");
    net.send(start, bob(), alice(), b"open");
    assert_eq!(net.poll(start).expect("the other direction").bytes, b"open");
    assert!(net.poll(start).is_none());
    net.heal(alice().ip(), bob().ip());
    net.send(start, alice(), bob(), b"healed");
    assert_eq!(net.poll(start).expect("healed").bytes, b"healed");

    net.partition(&[alice().ip()], &[bob().ip()]);
    net.send(start, alice(), bob(), b"");
    net.send(start, bob(), alice(), b"");
    assert!(net.poll(start).is_none());
    assert_eq!(net.counters().cut, 3);
    net.heal_all();
    net.send(start, bob(), alice(), b"again");
    assert!(net.poll(start).is_some());
}
