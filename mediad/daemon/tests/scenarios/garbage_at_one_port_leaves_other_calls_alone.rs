//! A flood of garbage and forged RTP at one call's port: that call goes on with whom it knows, the others notice
//! nothing, and the drops are counted by reason.

use std::{
    net::UdpSocket,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Instant,
};

use proto::mediad::v1 as pb;

use crate::support::{Daemon, PATIENCE, Party, call, converse, may_share, ports};

const PACKETS: usize = 100;

async fn flooded(backend: &str) {
    let backend = format!("io.backend={backend}");
    let daemon = Daemon::start(&[&backend]);
    let mut media = daemon.media().await;
    let mut calls = Vec::new();
    for name in ["victim", "bystander"] {
        let (a, b) = (Party::new(440.0), Party::new(1_000.0));
        let reply = media
            .apply(call(name, Some(a.addr()), Some(b.addr())))
            .await
            .unwrap();
        calls.push((a, b, ports(&reply.into_inner())));
    }
    // The victim's parties are known before the flood begins.
    let target = calls[0].2[0];
    let [victim, bystander] = &mut calls[..] else {
        panic!("two calls")
    };
    converse((&mut victim.0, victim.2[0]), (&mut victim.1, victim.2[1]), 10);

    let stop = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&stop);
    let flood = thread::spawn(move || {
        let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut forged = Party::new(2_000.0);
        let mut state = 1u32;
        while !told.load(Ordering::Relaxed) {
            for len in [0, 1, 3, 11, 12, 40, 172, 1_400] {
                let garbage: Vec<u8> = (0..len)
                    .map(|_| {
                        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                        (state >> 24) as u8
                    })
                    .collect();
                let _ = stranger.send_to(&garbage, target);
            }
            forged.say(target);
        }
    });
    for _ in 0..2 {
        converse(
            (&mut bystander.0, bystander.2[0]),
            (&mut bystander.1, bystander.2[1]),
            PACKETS / 2,
        );
        converse(
            (&mut victim.0, victim.2[0]),
            (&mut victim.1, victim.2[1]),
            PACKETS / 2,
        );
    }
    stop.store(true, Ordering::Relaxed);
    flood.join().unwrap();

    assert_eq!(
        (bystander.0.heard.len(), bystander.1.heard.len()),
        (PACKETS, PACKETS)
    );
    // The flood may fill the victim's own socket queue; whatever gets through is its party and nobody else.
    assert_eq!(
        victim.0.heard.len(),
        PACKETS + 10,
        "the other way does not share the queue"
    );
    assert!(
        victim.1.heard.len() <= PACKETS + 10 && victim.1.share(2_000.0) < 0.01,
        "the forger is not heard"
    );
    assert!(bystander.0.share(1_000.0) > 0.98 && bystander.1.share(440.0) > 0.98);
    assert!(victim.0.share(1_000.0) > 0.98);
    // Once what is left of the flood has run off, the victim is as before.
    victim.1.heard.clear();
    let since = Instant::now();
    while victim.1.heard.is_empty() {
        assert!(since.elapsed() < PATIENCE, "the victim is deaf after the flood");
        converse((&mut victim.0, victim.2[0]), (&mut victim.1, victim.2[1]), 1);
    }
    victim.1.heard.clear();
    converse(
        (&mut victim.0, victim.2[0]),
        (&mut victim.1, victim.2[1]),
        PACKETS / 2,
    );
    assert_eq!(victim.1.heard.len(), PACKETS / 2);
    assert!(victim.1.share(440.0) > 0.98);
    let request = pb::DescribeRequest {
        session: "victim".into(),
    };
    let described = media
        .describe(request)
        .await
        .unwrap()
        .into_inner()
        .description
        .unwrap();
    let drops = |reason: pb::DropReason| {
        let drops = &described.transport_stats[0].drops;
        drops
            .iter()
            .find(|drop| drop.reason == i32::from(reason))
            .map_or(0, |drop| drop.packets)
    };
    assert!(drops(pb::DropReason::Malformed) > 0, "{described:?}");
    assert!(
        drops(pb::DropReason::WrongSource) + drops(pb::DropReason::Probation) > 0,
        "{described:?}"
    );
    assert!(described.transport_stats[0].refused.is_some());
}

#[tokio::test]
async fn over_epoll() {
    flooded("mmsg").await;
}

#[tokio::test]
async fn over_io_uring() {
    flooded("uring").await;
}

#[tokio::test]
async fn over_shared_sockets() {
    if may_share() {
        flooded("shared").await;
    }
}
