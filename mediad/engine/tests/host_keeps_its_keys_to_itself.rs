//! Local SRTP keys: made from the host's secrets, told in the reply to an Apply and to the worker, and nowhere else.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test needs one instant and may fail where it stands"
)]

use std::time::{Duration, Instant, SystemTime};

use media_engine::{
    api,
    command::{SendingKey, SessionReport},
    host::{Committed, Host, HostConfig, Interface, InterfaceAddress, NoRandomness, SecretRandom},
};
use proto::mediad::v1 as pb;
use rtp::time::Now;

const CM_80: pb::SrtpSuite = pb::SrtpSuite::AesCm128HmacSha180;
const CM_32: pb::SrtpSuite = pb::SrtpSuite::AesCm128HmacSha132;
const GCM: pb::SrtpSuite = pb::SrtpSuite::AeadAes256Gcm;

/// Counts, so that no two keys are alike and each can be found wherever it is shown.
#[derive(Debug)]
struct Counting(u8);

impl SecretRandom for Counting {
    fn fill(&mut self, secret: &mut [u8]) -> Result<(), NoRandomness> {
        self.0 += 1;
        secret.fill(self.0);
        Ok(())
    }
}

fn now() -> Now {
    Now {
        mono: Instant::now(),
        wall: SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000),
    }
}

fn host() -> Host {
    let local = "127.0.0.1".parse().unwrap();
    let config = HostConfig {
        interfaces: vec![Interface {
            name: "lan".into(),
            addresses: vec![InterfaceAddress {
                bind: local,
                advertise: local,
            }],
            port_min: 10_000,
            port_max: 10_099,
            dscp: 46,
        }],
        ..HostConfig::default()
    };
    Host::new(config, "boot-1", 0, now())
        .unwrap()
        .with_secrets(Box::new(Counting(0x80)))
}

fn sdes(suites: &[pb::SrtpSuite]) -> pb::SdesSecurity {
    pb::SdesSecurity {
        suites: suites.iter().map(|suite| (*suite).into()).collect(),
        ..Default::default()
    }
}

fn remote(suite: pb::SrtpSuite, fill: u8, tag: u32) -> Option<pb::SdesKey> {
    let bytes = match suite {
        GCM => 44,
        _ => 30,
    };
    Some(pb::SdesKey {
        suite: suite.into(),
        key_salt: vec![fill; bytes],
        tag,
    })
}

fn request(sdes: pb::SdesSecurity) -> pb::ApplyRequest {
    pb::ApplyRequest {
        session: "s".into(),
        owner: Some(pb::Owner {
            controller: "c".into(),
            epoch: 1,
        }),
        put_transports: vec![pb::Transport {
            id: "t".into(),
            kind: Some(pb::transport::Kind::Udp(pb::UdpTransport {
                security: Some(pb::udp_transport::Security::Sdes(sdes)),
                ..Default::default()
            })),
        }],
        ..Default::default()
    }
}

fn apply(host: &mut Host, sdes: pb::SdesSecurity) -> Result<Committed, pb::Error> {
    let refused = |refusal| api::error(&refusal);
    let patch = api::apply(&request(sdes)).map_err(refused)?;
    let prepared = host.prepare(now(), patch).map_err(refused)?;
    Ok(host.commit(now(), prepared))
}

/// Suite, byte that fills it, tag of every key that is told.
fn told(committed: &Committed) -> Vec<(pb::SrtpSuite, u8, u32)> {
    let reply = api::applied("boot-1", &committed.applied);
    let keys = &reply.transports[0].local_sdes;
    keys.iter()
        .map(|key| {
            assert!(key.key_salt.iter().all(|byte| *byte == key.key_salt[0]));
            (key.suite(), key.key_salt[0], key.tag)
        })
        .collect()
}

/// What the worker is told to send with.
fn sending(committed: &Committed) -> Option<u8> {
    let commit = committed.commit.as_ref().expect("something changed");
    commit
        .keys
        .first()
        .map(|SendingKey { key, .. }| key.key_salt()[0])
}

#[test]
fn an_offer_has_a_key_for_each_suite_and_an_answer_settles_one() {
    let mut host = host();
    let offered = apply(&mut host, sdes(&[GCM, CM_80, CM_32])).unwrap();
    assert_eq!(
        told(&offered),
        [(GCM, 0x81, 1), (CM_80, 0x82, 2), (CM_32, 0x83, 3)]
    );
    assert_eq!(
        sending(&offered),
        None,
        "nothing is sent before the peer's key is known"
    );
    let answered = pb::SdesSecurity {
        remote: remote(CM_80, 1, 2),
        ..sdes(&[GCM, CM_80, CM_32])
    };
    let committed = apply(&mut host, answered.clone()).unwrap();
    assert_eq!(
        told(&committed),
        told(&offered),
        "the keys that were offered are those in use"
    );
    assert_eq!(sending(&committed), Some(0x82));
    // The same again changes nothing, and tells the keys again.
    let again = apply(&mut host, answered).unwrap();
    assert!(again.commit.is_none());
    assert_eq!(told(&again), told(&offered));
}

#[test]
fn an_answer_has_the_tag_of_the_offer() {
    let mut host = host();
    let offer = pb::SdesSecurity {
        remote: remote(CM_80, 1, 2),
        ..sdes(&[CM_80])
    };
    assert_eq!(told(&apply(&mut host, offer).unwrap()), [(CM_80, 0x81, 2)]);
    let two = pb::SdesSecurity {
        remote: remote(CM_32, 1, 1),
        ..sdes(&[CM_80, CM_32])
    };
    let tags: Vec<u32> = told(&apply(&mut host, two).unwrap())
        .iter()
        .map(|key| key.2)
        .collect();
    assert_eq!(tags, [3, 1], "no tag twice");
}

#[test]
fn a_new_generation_brings_new_keys_and_the_old_one_may_be_sent_with_for_a_while() {
    let mut host = host();
    let settled = pb::SdesSecurity {
        remote: remote(CM_80, 1, 1),
        ..sdes(&[CM_80, GCM])
    };
    let first = apply(&mut host, settled.clone()).unwrap();
    assert_eq!(sending(&first), Some(0x81));
    // Fresh keys are offered; the answer is not there yet.
    let offering = pb::SdesSecurity {
        key_generation: 1,
        send_generation: Some(0),
        ..settled.clone()
    };
    let offered = apply(&mut host, offering).unwrap();
    assert_eq!(told(&offered), [(CM_80, 0x83, 1), (GCM, 0x84, 2)]);
    assert_eq!(sending(&offered), Some(0x81), "the peer hears on");
    let answered = pb::SdesSecurity {
        key_generation: 1,
        remote: remote(GCM, 2, 2),
        ..settled.clone()
    };
    let committed = apply(&mut host, answered.clone()).unwrap();
    assert_eq!(told(&committed), told(&offered));
    assert_eq!(sending(&committed), Some(0x84));
    // The generation before is gone.
    let back = pb::SdesSecurity {
        send_generation: Some(0),
        ..answered
    };
    let error = apply(&mut host, back).unwrap_err();
    assert_eq!((error.code, &*error.subject), (9, "transport:t"));
    assert!(error.message.contains("send_generation 0"), "{}", error.message);
}

/// A key that was sent with has used up its numbers: what would use it again gets another one.
#[test]
fn a_key_that_was_in_use_is_never_used_again() {
    let mut host = host();
    let with = |suite, tag| pb::SdesSecurity {
        remote: remote(suite, 1, tag),
        ..sdes(&[CM_80, GCM])
    };
    let mut used = Vec::new();
    for round in 0..6 {
        let (suite, tag) = if round % 2 == 0 { (CM_80, 1) } else { (GCM, 2) };
        let committed = apply(&mut host, with(suite, tag)).unwrap();
        let key = sending(&committed).unwrap();
        assert!(!used.contains(&key), "{key:#x} again, after {used:x?}");
        assert!(
            told(&committed)
                .iter()
                .any(|(of, fill, _)| *of == suite && *fill == key)
        );
        used.push(key);
    }
    // A transport that begins anew gets keys anew, also when it is called the same.
    let mut anew = request(with(CM_80, 1));
    anew.remove_transports = vec!["t".into()];
    let prepared = host.prepare(now(), api::apply(&anew).unwrap()).unwrap();
    let committed = host.commit(now(), prepared);
    assert!(!used.contains(&sending(&committed).unwrap()));
}

/// Nor is one of the generation before, which has no other of its suite.
#[test]
fn a_key_of_the_generation_before_is_not_used_again_either() {
    let mut host = host();
    let settled = |suite, tag| pb::SdesSecurity {
        remote: remote(suite, 1, tag),
        ..sdes(&[CM_80, GCM])
    };
    let offering = |suite, tag| pb::SdesSecurity {
        key_generation: 1,
        send_generation: Some(0),
        ..settled(suite, tag)
    };
    let first = apply(&mut host, settled(CM_80, 1)).unwrap();
    assert_eq!(sending(&first), Some(0x81));
    assert_eq!(
        sending(&apply(&mut host, offering(CM_80, 1)).unwrap()),
        Some(0x81)
    );
    assert_eq!(sending(&apply(&mut host, offering(GCM, 2)).unwrap()), Some(0x82));
    let error = apply(&mut host, offering(CM_80, 1)).unwrap_err();
    assert_eq!((error.code, &*error.subject), (9, "transport:t"));
    // The new generation serves.
    let answered = pb::SdesSecurity {
        key_generation: 1,
        ..settled(CM_80, 1)
    };
    assert_eq!(sending(&apply(&mut host, answered).unwrap()), Some(0x83));
}

#[test]
fn keys_are_not_shown() {
    let mut host = host();
    let settled = pb::SdesSecurity {
        remote: remote(CM_80, 0xcd, 1),
        ..sdes(&[CM_80])
    };
    let committed = apply(&mut host, settled.clone()).unwrap();
    let commit = committed.commit.as_ref().unwrap();
    let report = SessionReport {
        session: commit.session,
        transports: Vec::new(),
        endpoints: Vec::new(),
        plans: Vec::new(),
    };
    let described = host.described(commit.session, report).unwrap();
    let description = api::description(&described);
    let pb::transport::Kind::Udp(udp) = description.transports[0].kind.clone().unwrap() else {
        panic!("it is a UDP transport");
    };
    let Some(pb::udp_transport::Security::Sdes(shown)) = udp.security else {
        panic!("it is protected");
    };
    let peer = shown.remote.unwrap();
    assert_eq!((peer.suite(), peer.tag, &peer.key_salt[..]), (CM_80, 1, &[][..]));
    assert!(description.local.iter().all(|local| local.local_sdes.is_empty()));

    let reply = api::applied("boot-1", &committed.applied);
    for shown in [
        format!("{committed:?}"),
        format!("{described:?}"),
        format!("{reply:?}"),
        format!("{:?}", request(settled)),
        format!("{host:?}"),
    ] {
        for secret in ["129, 129", "205, 205", "8181", "cdcd"] {
            assert!(!shown.contains(secret), "{secret} in {shown}");
        }
    }
}

#[test]
fn without_secrets_there_are_no_keys() {
    #[derive(Debug)]
    struct Dry;
    impl SecretRandom for Dry {
        fn fill(&mut self, _: &mut [u8]) -> Result<(), NoRandomness> {
            Err(NoRandomness)
        }
    }
    let mut host = host().with_secrets(Box::new(Dry));
    let error = apply(&mut host, sdes(&[CM_80])).unwrap_err();
    assert_eq!((error.code, &*error.subject), (14, "transport:t"));
    assert!(host.list(None, "", 10).is_empty());
}
