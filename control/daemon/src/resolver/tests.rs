use std::{collections::BTreeMap, net::SocketAddr};

use hickory_proto::rr::{
    Name, RData,
    rdata::{A, AAAA, NAPTR, SRV},
};
use sip::stack::{NameHop, Target, Transport};

use super::*;

#[path = "../../tests/scenarios/name_server.rs"]
mod name_server;

use name_server::{NameServer, Zone};

fn server(priority: u16, weight: u16, host: &str) -> Server {
    Server {
        priority,
        weight,
        port: 5060,
        host: host.into(),
    }
}

#[test]
fn priorities_rise_and_weights_share_the_first_place() {
    let servers = vec![
        server(20, 0, "spare"),
        server(10, 60, "big"),
        server(10, 20, "small"),
        server(10, 20, "little"),
        server(10, 0, "none"),
    ];
    let mut first = BTreeMap::new();
    let mut state = 42;
    for _ in 0..10_000 {
        let ordered = in_order(servers.clone(), |below| draw(&mut state, below));
        assert_eq!(ordered.len(), 5);
        assert_eq!(ordered[4].host, "spare");
        *first.entry(ordered[0].host.clone()).or_insert(0) += 1;
    }
    assert!((5_500..6_500).contains(&first["big"]), "{first:?}");
    assert!((1_600..2_400).contains(&first["small"]), "{first:?}");
    assert!((1_600..2_400).contains(&first["little"]), "{first:?}");
    assert!((1..400).contains(&first["none"]), "{first:?}");
}

#[test]
fn services_and_names_are_those_of_rfc_3263() {
    assert_eq!(service_transport(b"SIPS+D2T"), Some(Transport::Tls));
    assert_eq!(service_transport(b"sip+d2u"), Some(Transport::Udp));
    assert_eq!(service_transport(b"SIP+D2S"), None);
    assert_eq!(
        service_name(Transport::Tls, "example.com"),
        "_sips._tcp.example.com"
    );
}

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

fn naptr(order: u16, service: &str, replacement: &str) -> RData {
    let empty = Box::<[u8]>::default();
    let service = service.as_bytes().into();
    RData::NAPTR(NAPTR::new(
        order,
        50,
        b"s".to_vec().into(),
        service,
        empty,
        name(replacement),
    ))
}

fn srv(priority: u16, port: u16, host: &str) -> RData {
    RData::SRV(SRV::new(priority, 0, port, name(host)))
}

fn zone() -> Zone {
    let [one, two] = [[192, 0, 2, 1], [192, 0, 2, 2]].map(|[a, b, c, d]| RData::A(A::new(a, b, c, d)));
    vec![
        ("all.test.", naptr(20, "SIP+D2T", "_sip._tcp.all.test.")),
        ("all.test.", naptr(10, "SIPS+D2T", "_sips._tcp.all.test.")),
        ("all.test.", naptr(5, "SIP+D2S", "_sip._sctp.all.test.")),
        ("_sip._tcp.all.test.", srv(2, 5062, "two.test.")),
        ("_sip._tcp.all.test.", srv(1, 5061, "one.test.")),
        ("_sips._tcp.all.test.", srv(1, 5063, "one.test.")),
        ("_sip._udp.few.test.", srv(1, 5070, "two.test.")),
        ("_sip._udp.none.test.", srv(0, 0, ".")),
        ("none.test.", one.clone()),
        ("_sip._udp.half.test.", srv(1, 5070, "two.test.")),
        ("half.test.", one.clone()),
        ("_sip._udp.pair.test.", srv(1, 5071, "one.test.")),
        ("_sip._udp.pair.test.", srv(2, 5072, "two.test.")),
        ("_sip._tcp.pair.test.", srv(1, 5073, "two.test.")),
        ("one.test.", one),
        (
            "one.test.",
            RData::AAAA(AAAA::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
        ),
        ("two.test.", two),
    ]
}

fn resolver(servers: &NameServer, six: bool) -> Resolver {
    let dns = Dns {
        servers: vec![servers.address],
        timeout_ms: 500,
        attempts: 1,
        ..Dns::default()
    };
    let four: SocketAddr = "192.0.2.9:5060".parse().unwrap();
    let all = [Transport::Udp, Transport::Tcp, Transport::Tls, Transport::Wss];
    let mut bound: Bound = all.map(|transport| (transport, four)).to_vec();
    if six {
        bound.push((Transport::Udp, "[2001:db8::9]:5060".parse().unwrap()));
    }
    Resolver::new(&dns, &bound, 7).unwrap()
}

/// `sip:HOST;transport=…`, as transports, addresses and names to check.
async fn targets(
    resolver: &Resolver,
    host: &str,
    port: Option<u16>,
    transport: Option<Transport>,
) -> Vec<String> {
    let hop = NameHop {
        host: host.to_owned().into(),
        port,
        transport,
        secure: false,
    };
    let found = resolver.targets(&hop).await;
    found.iter().map(text).collect()
}

fn text(target: &Target) -> String {
    let Target::Address {
        transport,
        remote,
        server_name,
    } = target
    else {
        panic!()
    };
    let checked = server_name
        .as_ref()
        .map(|name| format!(" as {}", String::from_utf8_lossy(name)));
    format!(
        "{} {remote}{}",
        transport.uri_token(),
        checked.unwrap_or_default()
    )
}

#[tokio::test]
async fn naptr_srv_and_addresses_are_followed_in_order() {
    let servers = NameServer::start(zone());
    let resolver = resolver(&servers, false);
    let all = [
        "tls 192.0.2.1:5063 as all.test",
        "tcp 192.0.2.1:5061",
        "tcp 192.0.2.2:5062",
    ];
    assert_eq!(targets(&resolver, "all.test", None, None).await, all);
    let tcp = Some(Transport::Tcp);
    assert_eq!(targets(&resolver, "all.test", None, tcp).await, all[1..]);
    // Without NAPTR: SRV of what we can; without SRV: the host itself.
    assert_eq!(
        targets(&resolver, "few.test", None, None).await,
        ["udp 192.0.2.2:5070"]
    );
    assert_eq!(
        targets(&resolver, "one.test", None, None).await,
        ["udp 192.0.2.1:5060"]
    );
    let tls = Some(Transport::Tls);
    assert_eq!(
        targets(&resolver, "one.test", None, tls).await,
        ["tls 192.0.2.1:5061 as one.test"]
    );
    assert_eq!(
        targets(&resolver, "two.test", Some(5099), tcp).await,
        ["tcp 192.0.2.2:5099"]
    );
    assert!(targets(&resolver, "nowhere.test", None, None).await.is_empty());
    // RFC 2782: decidedly not here, whatever else stands there.
    assert!(targets(&resolver, "none.test", None, None).await.is_empty());
    // Nobody connects to browsers.
    let wss = Some(Transport::Wss);
    assert!(targets(&resolver, "one.test", None, wss).await.is_empty());
}

#[tokio::test]
async fn answers_are_kept_for_as_long_as_they_say() {
    let servers = NameServer::start(zone());
    let resolver = resolver(&servers, false);
    let first = targets(&resolver, "all.test", None, None).await;
    let asked = servers.questions();
    assert!(asked >= 5, "{asked}");
    assert_eq!(targets(&resolver, "all.test", None, None).await, first);
    assert_eq!(servers.questions(), asked);
}

#[tokio::test]
async fn what_failed_comes_last_for_a_while() {
    let servers = NameServer::start(zone());
    let resolver = resolver(&servers, false);
    let tls = Target::Address {
        transport: Transport::Tls,
        remote: "192.0.2.1:5063".parse().unwrap(),
        server_name: Some("all.test".into()),
    };
    resolver.avoid(tls);
    let last = [
        "tcp 192.0.2.1:5061",
        "tcp 192.0.2.2:5062",
        "tls 192.0.2.1:5063 as all.test",
    ];
    assert_eq!(targets(&resolver, "all.test", None, None).await, last);
}

#[tokio::test]
async fn addresses_are_those_of_families_we_have_sockets_for() {
    let servers = NameServer::start(zone());
    let resolver = resolver(&servers, true);
    let both = ["udp 192.0.2.1:5060", "udp [2001:db8::1]:5060"];
    assert_eq!(targets(&resolver, "one.test", None, None).await, both);
    let tcp = Some(Transport::Tcp);
    assert_eq!(
        targets(&resolver, "one.test", None, tcp).await,
        ["tcp 192.0.2.1:5060"]
    );
    assert_eq!(resolver.addresses("one.test").await.len(), 2);
}

/// RFC 4074 §4: what name servers make of questions for kinds of records that they do not know.
#[tokio::test]
async fn what_a_name_server_refuses_to_say_takes_nothing_away() {
    for refused in [RecordType::NAPTR, RecordType::AAAA] {
        let servers = NameServer::refusing(zone(), refused);
        let resolver = resolver(&servers, true);
        assert_eq!(
            targets(&resolver, "half.test", None, None).await,
            ["udp 192.0.2.2:5070"],
            "{refused}"
        );
        assert_eq!(
            targets(&resolver, "two.test", None, None).await,
            ["udp 192.0.2.2:5060"],
            "{refused}"
        );
    }
}

/// Some are silent instead.
#[tokio::test]
async fn what_a_name_server_is_silent_about_takes_nothing_away() {
    let servers = NameServer::silent_about(zone(), RecordType::AAAA);
    let resolver = resolver(&servers, true);
    assert_eq!(
        targets(&resolver, "two.test", Some(5099), None).await,
        ["udp 192.0.2.2:5099"]
    );
}

/// Of a service with several servers each has its addresses: the next is there for when one cannot be reached.
#[tokio::test]
async fn nor_of_the_servers_behind_the_first() {
    let servers = NameServer::silent_about(zone(), RecordType::AAAA);
    let resolver = resolver(&servers, true);
    assert_eq!(
        targets(&resolver, "pair.test", None, None).await,
        ["udp 192.0.2.1:5071", "udp 192.0.2.2:5072", "tcp 192.0.2.2:5073"]
    );
}

#[tokio::test]
async fn a_name_server_that_is_silent_is_not_asked_again_and_again() {
    // Bound, and never read from.
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let dns = Dns {
        servers: vec![silent.local_addr().unwrap()],
        timeout_ms: 50,
        attempts: 1,
        ..Dns::default()
    };
    let bound = vec![(Transport::Udp, "127.0.0.1:5060".parse().unwrap())];
    let resolver = Resolver::new(&dns, &bound, 7).unwrap();
    assert!(targets(&resolver, "all.test", None, None).await.is_empty());
}
