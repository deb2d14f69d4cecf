//! A phone with SRTP, as an independent implementation speaks it, and one without: each hears the other, keys change
//! while they talk, a wrong key is explained, and no key is shown.

use proto::mediad::v1 as pb;
use webrtc_srtp::{context::Context, protection_profile::ProtectionProfile};

use crate::support::{Daemon, PATIENCE, Party, call, ports};

const PACKETS: usize = 50;

/// A suite, its profile there, and the lengths of key and salt.
type Known = (pb::SrtpSuite, ProtectionProfile, usize);

const SUITES: [Known; 5] = [
    (
        pb::SrtpSuite::AesCm128HmacSha180,
        ProtectionProfile::Aes128CmHmacSha1_80,
        16,
    ),
    (
        pb::SrtpSuite::AesCm128HmacSha132,
        ProtectionProfile::Aes128CmHmacSha1_32,
        16,
    ),
    (
        pb::SrtpSuite::Aes256CmHmacSha180,
        ProtectionProfile::Aes256CmHmacSha1_80,
        32,
    ),
    (pb::SrtpSuite::AeadAes128Gcm, ProtectionProfile::AeadAes128Gcm, 16),
    (pb::SrtpSuite::AeadAes256Gcm, ProtectionProfile::AeadAes256Gcm, 32),
];

fn context((_, profile, key_bytes): Known, key_salt: &[u8]) -> Context {
    let (key, salt) = key_salt.split_at(key_bytes);
    Context::new(key, salt, profile, None, None).unwrap()
}

/// The phone's own key, different for each `fill`.
fn own_key((suite, profile, key_bytes): Known, fill: u8) -> pb::SdesKey {
    pb::SdesKey {
        suite: suite.into(),
        key_salt: vec![fill; key_bytes + profile.salt_len()],
        tag: 1,
    }
}

fn protect(request: &mut pb::ApplyRequest, transport: usize, sdes: pb::SdesSecurity) {
    let Some(pb::transport::Kind::Udp(udp)) = &mut request.put_transports[transport].kind else {
        panic!("a UDP transport");
    };
    udp.security = Some(pb::udp_transport::Security::Sdes(sdes));
}

fn sdes(known: Known, fill: u8, key_generation: u32) -> pb::SdesSecurity {
    pb::SdesSecurity {
        suites: vec![known.0.into()],
        remote: Some(own_key(known, fill)),
        key_generation,
        send_generation: None,
    }
}

/// A phone behind a cipher: what it says and hears in clear, and what goes over the wire.
struct Phone {
    party: Party,
    tx: Context,
    rx: Context,
    /// RTCP that was understood.
    reports: usize,
}

impl Phone {
    /// Says a packet of its tone, encrypted, and takes what has come.
    fn turn(&mut self, to: std::net::SocketAddr) {
        // The party sends in clear to a socket of ours; from there it goes on encrypted.
        let relay = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        self.party.say(relay.local_addr().unwrap());
        let mut clear = [0; 2_048];
        let len = relay.recv(&mut clear).unwrap();
        let packet = self.tx.encrypt_rtp(&clear[..len]).unwrap();
        self.party.socket.send_to(&packet, to).unwrap();
        self.listen();
    }

    fn listen(&mut self) {
        let mut buffer = [0; 2_048];
        while let Ok((len, _)) = self.party.socket.recv_from(&mut buffer) {
            if (192..=223).contains(&buffer[1]) {
                self.rx
                    .decrypt_rtcp(&buffer[..len])
                    .expect("RTCP under the key that was told");
                self.reports += 1;
                continue;
            }
            let clear = self
                .rx
                .decrypt_rtp(&buffer[..len])
                .expect("RTP under the key that was told");
            let view = rtp::header::RtpReader::parse(&clear).unwrap();
            self.party.heard.push((view.header(), view.payload().to_vec()));
        }
    }
}

fn told(reply: &pb::ApplyReply, transport: &str) -> pb::SdesKey {
    let state = reply
        .transports
        .iter()
        .find(|state| state.id == transport)
        .unwrap();
    state.local_sdes[0].clone()
}

fn converse(alice: &mut Party, at_a: std::net::SocketAddr, bob: &mut Phone, at_b: std::net::SocketAddr) {
    let expected = (alice.heard.len() + PACKETS, bob.party.heard.len() + PACKETS);
    for _ in 0..PACKETS {
        alice.say(at_a);
        bob.turn(at_b);
        std::thread::sleep(std::time::Duration::from_millis(4));
        alice.listen();
    }
    let since = std::time::Instant::now();
    while alice.heard.len() < expected.0 || bob.party.heard.len() < expected.1 {
        assert!(
            since.elapsed() < PATIENCE,
            "{} and {} packets of {expected:?}",
            alice.heard.len(),
            bob.party.heard.len()
        );
        std::thread::sleep(std::time::Duration::from_millis(2));
        alice.listen();
        bob.listen();
    }
}

#[tokio::test]
async fn in_every_suite_and_over_changes_of_keys() {
    let daemon = Daemon::start(&[]);
    let mut media = daemon.media().await;
    for known in SUITES {
        let session = format!("call-{}", known.0.as_str_name());
        let (mut alice, party) = (Party::new(440.0), Party::new(1_000.0));
        let mut request = call(&session, Some(alice.addr()), Some(party.addr()));
        protect(&mut request, 1, sdes(known, 0x11, 0));
        let reply = media.apply(request.clone()).await.unwrap().into_inner();
        let (at, ours) = (ports(&reply), told(&reply, "tb"));
        assert_eq!(ours.suite(), known.0);
        let mut bob = Phone {
            party,
            tx: context(known, &own_key(known, 0x11).key_salt),
            rx: context(known, &ours.key_salt),
            reports: 0,
        };
        converse(&mut alice, at[0], &mut bob, at[1]);

        // Both sides take new keys.
        protect(&mut request, 1, sdes(known, 0x22, 1));
        let reply = media.apply(request.clone()).await.unwrap().into_inner();
        let fresh = told(&reply, "tb");
        assert_ne!(fresh.key_salt, ours.key_salt);
        // The reply comes as soon as the edit is on its way; what the worker describes, it does.
        let ask = pb::DescribeRequest {
            session: session.clone(),
        };
        media.describe(ask).await.unwrap();
        bob.tx = context(known, &own_key(known, 0x22).key_salt);
        bob.rx = context(known, &fresh.key_salt);
        converse(&mut alice, at[0], &mut bob, at[1]);

        for (listener, other, own) in [(&alice, 1_000.0, 440.0), (&bob.party, 440.0, 1_000.0)] {
            assert_eq!(listener.heard.len(), 2 * PACKETS);
            assert!(
                listener.share(other) > 0.98,
                "hears {other} Hz: {}",
                listener.share(other)
            );
            assert!(listener.share(own) < 0.001);
            let first = listener.heard[0].0.sequence;
            for (index, (header, _)) in listener.heard.iter().enumerate() {
                assert_eq!(
                    header.sequence,
                    first.wrapping_add(index as u16),
                    "one line over both keys"
                );
            }
        }
        let described = media
            .describe(pb::DescribeRequest { session })
            .await
            .unwrap()
            .into_inner();
        let description = described.description.unwrap();
        assert!(
            description
                .plans
                .iter()
                .all(|plan| plan.kind() == pb::PlanKind::Rewrite)
        );
        assert!(description.local.iter().all(|local| local.local_sdes.is_empty()));
        let stats = &description.transport_stats[1];
        assert!(
            stats.drops.iter().all(|drops| drops.packets == 0),
            "{:?}",
            stats.drops
        );
    }
}

#[tokio::test]
async fn a_wrong_key_is_counted_and_explained() {
    let daemon = Daemon::start(&[]);
    let mut media = daemon.media().await;
    let known = SUITES[0];
    let (alice, party) = (Party::new(440.0), Party::new(1_000.0));
    let mut request = call("call", Some(alice.addr()), Some(party.addr()));
    protect(&mut request, 1, sdes(known, 0x11, 0));
    let reply = media.apply(request).await.unwrap().into_inner();
    let (at, ours) = (ports(&reply), told(&reply, "tb"));
    let mut bob = Phone {
        party,
        tx: context(known, &own_key(known, 0x99).key_salt),
        rx: context(known, &ours.key_salt),
        reports: 0,
    };
    for _ in 0..PACKETS {
        bob.turn(at[1]);
    }
    let since = std::time::Instant::now();
    let text = loop {
        let explain = pb::ExplainRequest {
            session: "call".into(),
            from: "b".into(),
            to: "a".into(),
        };
        let findings = media.explain(explain).await.unwrap().into_inner().findings;
        let found = findings
            .iter()
            .find(|finding| finding.code() == pb::FindingCode::Authentication);
        if let Some(found) = found.filter(|found| found.text.contains("50 packets")) {
            break found.text.clone();
        }
        assert!(since.elapsed() < PATIENCE, "{findings:?}");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    };
    assert!(text.contains("AES_CM_128_HMAC_SHA1_80"), "{text}");
    // The page is made anew about once a second.
    loop {
        let (_, page) = daemon.page("/metrics");
        let mut lines = page
            .lines()
            .filter(|line| line.contains("reason=\"authentication\""));
        if lines.any(|line| line.ends_with(" 50")) {
            break;
        }
        assert!(since.elapsed() < PATIENCE, "50 are not on the page");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}
