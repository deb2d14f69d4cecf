//! kill -9 under traffic, restart at once, new calls at once: no new party hears anybody of the calls before, though
//! they all talk on. A controller that asks for a call's port gets it back.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use proto::mediad::v1::{self as pb, transport};
use tonic::Code;

use crate::support::{Daemon, PATIENCE, Party, call, converse, free_ports, may_share, ports};

const PORTS: u16 = 128;
const CALLS: usize = 5;
const OLD_HZ: f64 = 2_000.0;

async fn restarted(backend: &str) {
    let backend = format!("io.backend={backend}");
    let port_min = free_ports(PORTS);
    let mut daemon = Daemon::start_on(port_min, PORTS, &[&backend]);
    let mut media = daemon.media().await;
    let mut old: Vec<(Party, SocketAddr)> = Vec::new();
    let mut first_call = None;
    for number in 0..CALLS {
        let (a, b) = (Party::new(OLD_HZ), Party::new(OLD_HZ));
        let reply = media
            .apply(call(&format!("old-{number}"), Some(a.addr()), Some(b.addr())))
            .await
            .unwrap();
        let at = ports(&reply.into_inner());
        first_call.get_or_insert((a.addr(), b.addr(), at[0], at[1]));
        old.extend([(a, at[0]), (b, at[1])]);
    }
    let noisy: Vec<SocketAddr> = old.iter().map(|(_, port)| *port).collect();
    let quiet = Arc::new(AtomicBool::new(false));
    let hush = Arc::clone(&quiet);
    let talking = thread::spawn(move || {
        while !hush.load(Ordering::Relaxed) {
            old.iter_mut().for_each(|(party, port)| party.say(*port));
            thread::sleep(Duration::from_millis(10));
            old.iter_mut().for_each(|(party, _)| party.listen());
        }
        old
    });

    daemon.kill();
    let daemon = Daemon::start_on(port_min, PORTS, &[&backend, "media.scout_ms=60"]);
    let mut media = daemon.media().await;
    // A controller that restores a call asks for its ports by number: those it gets, noisy or not.
    let (a, b, a_port, b_port) = first_call.unwrap();
    let mut restored = call("old-0", Some(a), Some(b));
    for (transport, port) in restored.put_transports.iter_mut().zip([a_port, b_port]) {
        let Some(transport::Kind::Udp(udp)) = &mut transport.kind else {
            panic!("udp")
        };
        udp.requested_port = port.port().into();
    }
    // The kernel may let go of a killed process's sockets a little later (io_uring).
    let since = Instant::now();
    let reply = loop {
        match media.apply(restored.clone()).await {
            Ok(reply) => break reply.into_inner(),
            Err(status) => assert!(
                status.code() == Code::ResourceExhausted && since.elapsed() < PATIENCE,
                "{}",
                status.message()
            ),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert_eq!(ports(&reply), [a_port, b_port]);

    // As many new calls as the range has room for beside the old ports.
    let room = usize::from(PORTS) / 2 - noisy.len();
    let mut calls = Vec::new();
    for number in 0..room / 2 {
        let (a, b) = (Party::new(440.0), Party::new(1_000.0));
        let request = call(&format!("new-{number}"), Some(a.addr()), Some(b.addr()));
        let at = ports(&media.apply(request).await.unwrap().into_inner());
        for port in &at {
            assert!(!noisy.contains(port), "{port} still gets packets of an old call");
        }
        calls.push((a, b, at));
    }
    let full = media.apply(call("one too many", None, None)).await.unwrap_err();
    assert_eq!(full.code(), Code::ResourceExhausted, "{}", full.message());
    for (a, b, at) in calls.iter_mut().take(3) {
        converse((a, at[0]), (b, at[1]), 40);
        assert_eq!((a.heard.len(), b.heard.len()), (40, 40));
    }
    for (a, b, _) in &mut calls {
        a.listen();
        b.listen();
        assert!(
            a.share(OLD_HZ) < 0.001 && b.share(OLD_HZ) < 0.001,
            "a stranger is heard"
        );
    }
    for (a, b, _) in calls.iter().take(3) {
        assert!(a.share(1_000.0) > 0.98 && b.share(440.0) > 0.98);
    }
    quiet.store(true, Ordering::Relaxed);
    let old = talking.join().unwrap();
    assert!(
        old[0].0.heard.len() > 10 && old[0].0.share(OLD_HZ) > 0.9,
        "the restored call goes on"
    );
    let described = media
        .describe(pb::DescribeRequest {
            session: "old-0".into(),
        })
        .await
        .unwrap()
        .into_inner();
    assert!(
        described
            .description
            .unwrap()
            .transport_stats
            .iter()
            .all(|t| t.rx_packets > 0)
    );
}

#[tokio::test]
async fn over_epoll() {
    restarted("mmsg").await;
}

#[tokio::test]
async fn over_io_uring() {
    restarted("uring").await;
}

#[tokio::test]
async fn over_shared_sockets() {
    if may_share() {
        restarted("shared").await;
    }
}
