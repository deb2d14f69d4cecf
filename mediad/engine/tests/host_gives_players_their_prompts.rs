//! A player gets its prompts at the rate of its session when it first needs them, in the version that is there then; the
//! absence of a file stops nothing but the edit.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test needs one instant and may fail where it stands"
)]

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Instant, SystemTime},
};

use media_engine::{
    api,
    command::{PlayerPrompts, Prompt, PromptSound, SampleStream, StreamRead, StreamState},
    host::{Host, HostConfig, Interface, InterfaceAddress, Library, StreamError},
    spec::Name,
};
use proto::mediad::v1::{self as pb, play_item::Source};
use rtp::time::Now;

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

/// Files by name: version, rate, and whether they are too long to keep.
#[derive(Default)]
struct Shelf {
    files: BTreeMap<&'static str, (u64, u32, bool)>,
    streams: usize,
}

impl Shelf {
    fn with(files: &[(&'static str, u64, u32)]) -> Self {
        let file = |(name, version, hz): &(&'static str, u64, u32)| (*name, (*version, *hz, false));
        Self {
            files: files.iter().map(file).collect(),
            streams: 0,
        }
    }

    fn file(&self, name: &str) -> Result<(u64, u32, bool), String> {
        let file = self.files.get(name);
        file.copied()
            .ok_or_else(|| "is not in the prompt directory".to_owned())
    }
}

impl Library for Shelf {
    fn find(&mut self, name: &Name) -> Result<(u64, u32), String> {
        self.file(name).map(|(version, hz, _)| (version, hz))
    }

    fn load(&mut self, name: &Name, rate_hz: u32) -> Result<Arc<Prompt>, String> {
        let (version, native_hz, long) = self.file(name)?;
        let whole = PromptSound::Whole {
            rate_hz,
            pcm: vec![version as i16; 100].into(),
        };
        Ok(Arc::new(Prompt {
            name: name.clone(),
            version,
            native_hz,
            sound: if long { PromptSound::Streamed } else { whole },
        }))
    }

    fn stream(&mut self, name: &Name, rate_hz: u32, _: u32) -> Result<Box<dyn SampleStream>, StreamError> {
        if &**name == "one-too-many.wav" {
            return Err(StreamError::Full("is too long, and all readers are busy".into()));
        }
        self.streams += 1;
        Ok(Box::new(Silence(rate_hz)))
    }
}

/// A stream of nothing.
#[derive(Debug)]
struct Silence(u32);

impl SampleStream for Silence {
    fn rate_hz(&self) -> u32 {
        self.0
    }

    fn read(&mut self, _: &mut [i16]) -> StreamRead {
        StreamRead {
            samples: 0,
            state: StreamState::Late,
        }
    }

    fn seek(&mut self, _: u64) {}
}

fn player(id: &str, prompts: &[&str]) -> pb::Node {
    let item = |name: &&str| pb::PlayItem {
        source: Some(Source::Prompt((*name).into())),
        start_ms: 0,
    };
    pb::Node {
        id: id.into(),
        kind: Some(pb::node::Kind::Player(pb::Player {
            items: prompts.iter().map(item).collect(),
            ..Default::default()
        })),
    }
}

fn change(node: &mut pb::Node, change: impl FnOnce(&mut pb::Player)) {
    let Some(pb::node::Kind::Player(player)) = &mut node.kind else {
        panic!("a player")
    };
    change(player);
}

fn puts(session: &str, nodes: &[pb::Node]) -> pb::ApplyRequest {
    pb::ApplyRequest {
        session: session.into(),
        owner: Some(pb::Owner {
            controller: "c".into(),
            epoch: 1,
        }),
        put_nodes: nodes.to_vec(),
        ..Default::default()
    }
}

/// An endpoint that takes `codec`, and hears `p`.
fn listens(request: &mut pb::ApplyRequest, codec: pb::Codec) {
    let (payload_type, clock_rate_hz, channels) = match codec {
        pb::Codec::Opus => (111, 48_000, 2),
        _ => (0, 8_000, 1),
    };
    let format = pb::PayloadFormat {
        payload_type,
        codec: codec.into(),
        clock_rate_hz,
        channels,
        fmtp: String::new(),
    };
    request.put_transports = vec![pb::Transport {
        id: "t".into(),
        kind: Some(pb::transport::Kind::Udp(pb::UdpTransport::default())),
    }];
    request.put_nodes.push(pb::Node {
        id: "e".into(),
        kind: Some(pb::node::Kind::Endpoint(pb::Endpoint {
            transport: "t".into(),
            formats: vec![format],
            ..Default::default()
        })),
    });
    request.put_edges = vec![pb::Edge {
        from: "p".into(),
        to: "e".into(),
        ..Default::default()
    }];
}

/// Applies; what the worker is given, or the error.
fn apply(
    host: &mut Host,
    request: &pb::ApplyRequest,
    shelf: &mut Shelf,
) -> Result<Vec<PlayerPrompts>, pb::Error> {
    let patch = api::apply(request).map_err(|refusal| api::error(&refusal))?;
    let mut prepared = host
        .prepare(now(), patch)
        .map_err(|refusal| api::error(&refusal))?;
    if let Err(refusal) = host.load_prompts(&mut prepared, shelf) {
        host.abort(now(), prepared);
        return Err(api::error(&refusal));
    }
    let committed = host.commit(now(), prepared);
    Ok(committed.commit.map(|commit| commit.prompts).unwrap_or_default())
}

fn of<'a>(given: &'a [PlayerPrompts], node: &str) -> &'a PlayerPrompts {
    given.iter().find(|given| *given.node == *node).expect("given")
}

#[test]
fn what_plays_keeps_its_version_and_what_begins_takes_the_latest() {
    let (mut host, mut shelf) = (host(), Shelf::with(&[("en/hello.wav", 1, 8_000)]));
    let mut first = player("p", &["en/hello.wav", "en/hello.wav"]);
    let given = apply(&mut host, &puts("s", std::slice::from_ref(&first)), &mut shelf).unwrap();
    let versions = |given: &PlayerPrompts| given.prompts.iter().map(|p| p.version).collect::<Vec<_>>();
    assert_eq!(versions(of(&given, "p")), [1, 1]);

    shelf.files.insert("en/hello.wav", (2, 8_000, false));
    // A change of gain, and one more item at the end.
    change(&mut first, |player| {
        player.gain_db = -6.0;
        player.items.push(player.items[0].clone());
    });
    let second = player("q", &["en/hello.wav"]);
    let given = apply(&mut host, &puts("s", &[first, second]), &mut shelf).unwrap();
    assert_eq!(versions(of(&given, "p")), [1, 1, 2]);
    assert_eq!(versions(of(&given, "q")), [2]);
}

#[test]
fn prompts_come_at_the_rate_at_which_they_are_heard() {
    for (native_hz, codec, expected) in [
        (44_100, pb::Codec::Pcmu, 8_000),
        (8_000, pb::Codec::Opus, 8_000),
        (16_000, pb::Codec::Opus, 16_000),
        (44_100, pb::Codec::Opus, 48_000),
        (24_000, pb::Codec::G722, 16_000),
    ] {
        let (mut host, mut shelf) = (host(), Shelf::with(&[("a.wav", 1, native_hz)]));
        let mut request = puts("s", &[player("p", &["a.wav"])]);
        listens(&mut request, codec);
        let given = apply(&mut host, &request, &mut shelf).unwrap();
        let PromptSound::Whole { rate_hz, .. } = &of(&given, "p").prompts[0].sound else {
            panic!("whole")
        };
        assert_eq!(*rate_hz, expected, "{native_hz} Hz for {codec:?}");
    }
}

#[test]
fn a_long_file_is_streamed_to_each_player_and_to_one_of_those_that_share() {
    let (mut host, mut shelf) = (host(), Shelf::default());
    shelf.files.insert("music.wav", (1, 16_000, true));
    let own = player("p", &["music.wav"]);
    for session in ["s1", "s2"] {
        let given = apply(&mut host, &puts(session, std::slice::from_ref(&own)), &mut shelf).unwrap();
        assert_eq!(given[0].streams.len(), 1);
    }
    // An edit that leaves the player alone opens nothing.
    let given = apply(
        &mut host,
        &puts("s1", &[own, player("q", &["music.wav"])]),
        &mut shelf,
    )
    .unwrap();
    assert_eq!(
        (of(&given, "p").streams.len(), of(&given, "q").streams.len()),
        (0, 1)
    );

    let mut music = player("p", &["music.wav"]);
    change(&mut music, |player| {
        player.shared_group = "music".into();
        player.repeat = Some(0);
    });
    shelf.streams = 0;
    for (session, streams) in [("s3", 1), ("s4", 0), ("s5", 0)] {
        let given = apply(
            &mut host,
            &puts(session, std::slice::from_ref(&music)),
            &mut shelf,
        )
        .unwrap();
        assert_eq!(given[0].streams.len(), streams, "{session}");
        assert_eq!(
            given[0].streams.first().map(|(_, stream)| stream.rate_hz()),
            (streams == 1).then_some(16_000)
        );
    }
    // Other items are another source; and when all who shared are gone it begins anew.
    change(&mut music, |player| player.gain_db = -3.0);
    apply(&mut host, &puts("s6", std::slice::from_ref(&music)), &mut shelf).unwrap();
    assert_eq!(shelf.streams, 2);
    let owner = media_engine::graph::Owner {
        controller: "c".into(),
        epoch: 1,
    };
    host.delete(now(), &"s6".into(), &owner).unwrap();
    apply(&mut host, &puts("s7", &[music]), &mut shelf).unwrap();
    assert_eq!(shelf.streams, 3);
}

#[test]
fn a_missing_file_stops_its_edit_alone() {
    let (mut host, mut shelf) = (host(), Shelf::with(&[("a.wav", 1, 8_000)]));
    let error = apply(&mut host, &puts("s", &[player("p", &["gone.wav"])]), &mut shelf).unwrap_err();
    assert_eq!((error.code, error.subject.as_str()), (3, "node:p"));
    assert!(
        error
            .message
            .contains("\"gone.wav\" is not in the prompt directory"),
        "{}",
        error.message
    );
    assert_eq!(host.list(None, "", 10).len(), 0);

    // What plays goes on without its file, and an edit beside it does not ask for it.
    apply(&mut host, &puts("s", &[player("p", &["a.wav"])]), &mut shelf).unwrap();
    shelf.files.clear();
    let room = pb::Node {
        id: "room".into(),
        kind: Some(pb::node::Kind::Room(pb::Room::default())),
    };
    let given = apply(
        &mut host,
        &puts("s", &[player("p", &["a.wav"]), room]),
        &mut shelf,
    )
    .unwrap();
    assert_eq!(&*of(&given, "p").prompts[0].name, "a.wav");
}

#[test]
fn more_long_files_than_can_be_read_at_once_are_a_lack_of_resources() {
    let (mut host, mut shelf) = (host(), Shelf::default());
    shelf.files.insert("one-too-many.wav", (1, 8_000, true));
    let error = apply(
        &mut host,
        &puts("s", &[player("p", &["one-too-many.wav"])]),
        &mut shelf,
    )
    .unwrap_err();
    assert_eq!((error.code, &*error.subject), (8, "node:p"), "{}", error.message);
    assert!(
        error.message.contains("all readers are busy"),
        "{}",
        error.message
    );
}

#[test]
fn only_an_endpoint_interrupts_and_only_what_is_not_shared_is_interrupted() {
    let (mut host, mut shelf) = (host(), Shelf::with(&[("a.wav", 1, 8_000)]));
    let mut interrupted = player("p", &["a.wav"]);
    change(&mut interrupted, |player| {
        player.barge_in = Some(pb::BargeIn {
            node: "nobody".into(),
            on_digit: true,
            on_speech: false,
        });
    });
    let error = apply(
        &mut host,
        &puts("s", std::slice::from_ref(&interrupted)),
        &mut shelf,
    )
    .unwrap_err();
    assert!(
        error.message.contains("\"nobody\" is no endpoint"),
        "{}",
        error.message
    );
    change(&mut interrupted, |player| player.shared_group = "music".into());
    let error = apply(&mut host, &puts("s", &[interrupted]), &mut shelf).unwrap_err();
    assert!(
        error.message.contains("leave out shared_group"),
        "{}",
        error.message
    );
}
