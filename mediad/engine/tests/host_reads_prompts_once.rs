//! A prompt is read when a player first needs it, again when it has changed, and its absence stops nothing but the edit.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test needs one instant and may fail where it stands"
)]

use std::time::{Instant, SystemTime};

use media_engine::{
    api,
    command::Prompt,
    host::{Host, HostConfig, Interface, InterfaceAddress, PromptFile},
};
use proto::mediad::v1::{self as pb, play_item::Source};
use rtp::time::Now;
use std::sync::Arc;

fn now() -> Now {
    Now {
        mono: Instant::now(),
        wall: SystemTime::UNIX_EPOCH,
    }
}

fn host() -> Host {
    let local = "127.0.0.1".parse().unwrap();
    let interface = Interface {
        name: "lan".into(),
        addresses: vec![InterfaceAddress {
            bind: local,
            advertise: local,
        }],
        port_min: 10_000,
        port_max: 10_007,
        dscp: 46,
    };
    let config = HostConfig {
        interfaces: vec![interface],
        ..HostConfig::default()
    };
    Host::new(config, "boot-1", 0, now()).unwrap()
}

/// A second of 8 kHz mono whose samples are all `value`.
fn wav(value: i16) -> Vec<u8> {
    let mut file = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0".to_vec();
    file.extend(8_000u32.to_le_bytes());
    file.extend([0; 6]);
    file.extend(16u16.to_le_bytes());
    file.extend(b"data");
    file.extend(16_000u32.to_le_bytes());
    file.extend(value.to_le_bytes().repeat(8_000));
    file
}

fn plays(session: &str, prompts: &[&str]) -> pb::ApplyRequest {
    let item = |name: &&str| pb::PlayItem {
        source: Some(Source::Prompt((*name).into())),
        start_ms: 0,
    };
    let player = pb::Player {
        items: prompts.iter().map(item).collect(),
        ..Default::default()
    };
    pb::ApplyRequest {
        session: session.into(),
        owner: Some(pb::Owner {
            controller: "c".into(),
            epoch: 1,
        }),
        put_nodes: vec![pb::Node {
            id: "p".into(),
            kind: Some(pb::node::Kind::Player(player)),
        }],
        ..Default::default()
    }
}

/// Applies with `load`; what the worker is given, or the error.
fn apply(
    host: &mut Host,
    request: &pb::ApplyRequest,
    load: impl FnMut(&Arc<str>, Option<u64>) -> Result<PromptFile, String>,
) -> Result<Vec<Arc<Prompt>>, pb::Error> {
    let patch = api::apply(request).map_err(|refusal| api::error(&refusal))?;
    let mut prepared = host
        .prepare(now(), patch)
        .map_err(|refusal| api::error(&refusal))?;
    if let Err(refusal) = host.load_prompts(&mut prepared, load) {
        host.abort(now(), prepared);
        return Err(api::error(&refusal));
    }
    let committed = host.commit(now(), prepared);
    Ok(committed.commit.map(|commit| commit.prompts).unwrap_or_default())
}

#[test]
fn prompts_are_decoded_once_and_again_when_they_change() {
    let mut host = host();
    let mut version = 1;
    let mut reads = 0;
    let mut load = |known: Option<u64>, version: u64| {
        if known == Some(version) {
            return Ok(PromptFile::Same);
        }
        reads += 1;
        Ok(PromptFile::New {
            version,
            bytes: wav(1_000 * version as i16),
        })
    };
    for session in ["s1", "s2", "s3"] {
        let given = apply(&mut host, &plays(session, &["en/hello.wav"]), |name, known| {
            assert_eq!(&**name, "en/hello.wav");
            load(known, version)
        });
        let given = given.unwrap();
        assert_eq!(
            (given.len(), given[0].pcm_8k.len(), given[0].pcm_16k.len()),
            (1, 8_000, 16_000)
        );
        assert_eq!(given[0].pcm_8k[4_000], 1_000);
    }
    version = 2;
    let given = apply(
        &mut host,
        &plays("s4", &["en/hello.wav", "en/hello.wav"]),
        |_, known| load(known, version),
    );
    assert_eq!(given.unwrap()[0].pcm_8k[4_000], 2_000);
    assert_eq!(reads, 2);
}

#[test]
fn a_missing_or_broken_file_stops_its_edit_alone() {
    let mut host = host();
    let missing = |_: &Arc<str>, _| Err("is not in the prompt directory".to_owned());
    let broken = |_: &Arc<str>, _| {
        Ok(PromptFile::New {
            version: 1,
            bytes: b"ID3".to_vec(),
        })
    };
    let error = apply(&mut host, &plays("s", &["gone.wav"]), missing).unwrap_err();
    assert_eq!((error.code, error.subject.as_str()), (3, "node:p"));
    assert!(
        error
            .message
            .contains("\"gone.wav\" is not in the prompt directory"),
        "{}",
        error.message
    );
    let error = apply(&mut host, &plays("s", &["song.mp3"]), broken).unwrap_err();
    assert!(
        error.message.contains("\"song.mp3\" is no WAV file"),
        "{}",
        error.message
    );
    assert_eq!(host.list(None, "", 10).len(), 0);

    // What plays goes on without its file, and an edit beside it does not ask for it.
    let good = |_: &Arc<str>, _| {
        Ok(PromptFile::New {
            version: 1,
            bytes: wav(5),
        })
    };
    apply(&mut host, &plays("s", &["a.wav"]), good).unwrap();
    let mut more = plays("s", &["a.wav"]);
    more.put_nodes.push(pb::Node {
        id: "room".into(),
        kind: Some(pb::node::Kind::Room(pb::Room::default())),
    });
    let given = apply(&mut host, &more, missing).unwrap();
    assert_eq!(&*given[0].name, "a.wav");
}
