//! A party on the inside, IPv4, talks with one on the outside, IPv6: each session chooses its interfaces by name, and
//! peers are told the address that the operator advertises.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use proto::mediad::v1::{self as pb, transport};

use crate::support::{Daemon, Party, call, converse, free_ports, may_share, ports};

const TOLD: &str = "2001:db8::7";

fn on(transport: &mut pb::Transport, interface: &str) {
    let Some(transport::Kind::Udp(udp)) = &mut transport.kind else {
        panic!("udp")
    };
    udp.interface = interface.into();
}

async fn joined(backend: &str) {
    let first = free_ports(32);
    let (middle, last) = (first + 15, first + 31);
    let interfaces = format!(
        "media.interfaces=[{{name='inside', addresses=['127.0.0.1'], port_min={first}, port_max={middle}}}, \
         {{name='outside', addresses=['::1'], advertise=['{TOLD}'], port_min={}, port_max={last}}}]",
        middle + 1
    );
    let daemon = Daemon::start(&[&interfaces, &format!("io.backend={backend}")]);
    let mut media = daemon.media().await;
    let (mut alice, mut bob) = (Party::new(440.0), Party::at(Ipv6Addr::LOCALHOST.into(), 1_000.0));
    let mut request = call("s", Some(alice.addr()), Some(bob.addr()));
    on(&mut request.put_transports[0], "inside");
    on(&mut request.put_transports[1], "outside");
    let at = ports(&media.apply(request).await.unwrap().into_inner());
    assert!(
        (first..=middle).contains(&at[0].port()) && (middle + 1..=last).contains(&at[1].port()),
        "{at:?}"
    );
    assert_eq!(
        (at[0].ip().to_string().as_str(), at[1].ip()),
        ("127.0.0.1", TOLD.parse::<IpAddr>().unwrap())
    );

    let outside = SocketAddr::from((Ipv6Addr::LOCALHOST, at[1].port()));
    converse((&mut alice, at[0]), (&mut bob, outside), 50);
    assert_eq!((alice.heard.len(), bob.heard.len()), (50, 50));
    assert!(alice.share(1_000.0) > 0.98 && alice.share(440.0) < 0.001);
    assert!(bob.share(440.0) > 0.98 && bob.share(1_000.0) < 0.001);
}

#[tokio::test]
async fn over_epoll() {
    joined("mmsg").await;
}

#[tokio::test]
async fn over_io_uring() {
    joined("uring").await;
}

#[tokio::test]
async fn over_shared_sockets() {
    if may_share() {
        joined("shared").await;
    }
}
