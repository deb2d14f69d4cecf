//! A caller hears ringback, then a prompt, then the other party, on one stream; a prompt that is not there stops nothing.

use std::time::{Duration, Instant};

use proto::mediad::v1::{self as pb, event::Kind, play_item::Source};

use crate::support::{
    Daemon, PATIENCE, Party, call, converse, edge, error, may_share, next_event, owner, ports, scratch, share,
};

/// A WAV file of 8 kHz: a tone, for `ms`.
fn prompt(hz: f64, ms: u32) -> Vec<u8> {
    let mut sine = codecs::tone::Oscillator::new(hz, 8_000);
    let samples: Vec<u8> = (0..8 * ms)
        .flat_map(|_| ((sine.next_value() * 8_000.0) as i16).to_le_bytes())
        .collect();
    let mut file = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0".to_vec();
    file.extend(8_000u32.to_le_bytes());
    file.extend([0; 6]);
    file.extend(16u16.to_le_bytes());
    file.extend(b"data");
    file.extend((samples.len() as u32).to_le_bytes());
    file.extend(samples);
    file
}

fn plays(source: Source) -> pb::ApplyRequest {
    let player = pb::Player {
        items: vec![pb::PlayItem {
            source: Some(source),
            start_ms: 0,
        }],
        ..Default::default()
    };
    pb::ApplyRequest {
        session: "s".into(),
        owner: owner(1),
        put_nodes: vec![pb::Node {
            id: "player".into(),
            kind: Some(pb::node::Kind::Player(player)),
        }],
        ..Default::default()
    }
}

/// A player came to the end of its items.
fn is_played(kind: &Kind) -> bool {
    matches!(kind, Kind::PlayFinished(end) if end.reason() == pb::PlayFinishReason::End)
}

/// Takes what arrives until there are `packets`.
fn listen(party: &mut Party, packets: usize) {
    let until = Instant::now() + PATIENCE;
    while party.heard.len() < packets && Instant::now() < until {
        party.listen();
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(party.heard.len() >= packets, "{} packets came", party.heard.len());
}

async fn rings(backend: &str) {
    let directory = scratch(&format!("prompts-{backend}"));
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join("hello.wav"), prompt(700.0, 600)).unwrap();
    let setting = format!("media.prompts={}", directory.display());
    let daemon = Daemon::start(&[&format!("io.backend={backend}"), &setting]);
    let mut media = daemon.media().await;
    let (mut alice, mut bob) = (Party::new(440.0), Party::new(1_000.0));
    let reply = media
        .apply(call("s", Some(alice.addr()), Some(bob.addr())))
        .await
        .unwrap()
        .into_inner();
    let at = ports(&reply);
    let mut watch = media
        .watch(pb::WatchRequest::default())
        .await
        .unwrap()
        .into_inner();

    // Ringback of Germany is 425 Hz for its first second.
    let mut ring = plays(Source::Tone("ringback-de".into()));
    ring.remove_edges = vec![pb::EdgeKey {
        from: "b".into(),
        to: "a".into(),
    }];
    ring.put_edges = vec![edge("player", "a")];
    media.apply(ring).await.unwrap();
    listen(&mut alice, 30);
    assert!(alice.share(425.0) > 0.98, "{}", alice.share(425.0));

    let refused = media
        .apply(plays(Source::Prompt("gone.wav".into())))
        .await
        .unwrap_err();
    let refused = error(&refused);
    assert_eq!((refused.code, refused.subject.as_str()), (3, "node:player"));
    assert!(
        refused.message.contains("is not in the prompt directory"),
        "{}",
        refused.message
    );

    let before = alice.heard.len();
    media
        .apply(plays(Source::Prompt("hello.wav".into())))
        .await
        .unwrap();
    listen(&mut alice, before + 20);
    let samples = alice.samples();
    let heard = share(&samples[samples.len() - 1_600..], 700.0);
    assert!(heard > 0.98, "{heard}");
    // The ringback, which it took the place of, was told before as removed.
    let ended = next_event(&mut watch, is_played).await;
    assert_eq!(ended.node, "player");

    // What is packed plays as well, and what is cut off refuses the edit; the call hears on.
    let packed = include_bytes!("../../../sound/corpus/sound/ok-cbr.mp3");
    std::fs::write(directory.join("packed.mp3"), packed).unwrap();
    std::fs::write(directory.join("cut.mp3"), &packed[..packed.len() / 2]).unwrap();
    let refused = media
        .apply(plays(Source::Prompt("cut.mp3".into())))
        .await
        .unwrap_err();
    let refused = error(&refused);
    assert_eq!((refused.code, refused.subject.as_str()), (3, "node:player"));
    for part in ["cut.mp3", "of 1000 ms; copy it again"] {
        assert!(refused.message.contains(part), "{}", refused.message);
    }
    let before = alice.heard.len();
    media
        .apply(plays(Source::Prompt("packed.mp3".into())))
        .await
        .unwrap();
    listen(&mut alice, before + 40);
    let samples = alice.samples();
    let heard = share(&samples[samples.len() - 1_600..], 600.0);
    assert!(heard > 0.98, "{heard}");

    // Replaced on disk, longer than what is kept in memory, and moved to its second half.
    std::fs::write(directory.join("hello.wav"), prompt(1_300.0, 30_000)).unwrap();
    let mut longer = plays(Source::Prompt("hello.wav".into()));
    longer.put_nodes[0].id = "long".into();
    longer.remove_nodes = vec!["player".into()];
    longer.put_edges = vec![edge("long", "a")];
    let before = alice.heard.len();
    media.apply(longer).await.unwrap();
    listen(&mut alice, before + 30);
    let samples = alice.samples();
    let heard = share(&samples[samples.len() - 1_600..], 1_300.0);
    assert!(heard > 0.98, "{heard}");
    let act = |request: &str, act| pb::ActRequest {
        session: "s".into(),
        owner: owner(1),
        node: "long".into(),
        request: request.into(),
        act: Some(act),
    };
    let seek = |item, position_ms| pb::act_request::Act::Seek(pb::Seek { item, position_ms });
    let refused = media.act(act("far", seek(1, 0))).await.unwrap_err();
    assert!(error(&refused).message.contains("there is no item 1"));
    media.act(act("there", seek(0, 29_500))).await.unwrap();
    let ended = next_event(&mut watch, is_played).await;
    assert_eq!(ended.node, "long");

    let answer = pb::ApplyRequest {
        session: "s".into(),
        owner: owner(1),
        put_edges: vec![edge("b", "a")],
        remove_nodes: vec!["long".into()],
        ..Default::default()
    };
    media.apply(answer).await.unwrap();
    // What the player sent before it was gone.
    std::thread::sleep(Duration::from_millis(50));
    alice.listen();
    converse((&mut alice, at[0]), (&mut bob, at[1]), 40);
    let samples = alice.samples();
    let heard = share(&samples[samples.len() - 1_600..], 1_000.0);
    assert!(heard > 0.98, "{heard}");
    let first = alice.heard[0].0.sequence;
    for (index, (header, _)) in alice.heard.iter().enumerate() {
        assert_eq!(
            header.sequence,
            first.wrapping_add(index as u16),
            "one line, without a gap"
        );
        assert_eq!(header.ssrc.0, reply.endpoints[0].ssrc);
    }
    std::fs::remove_dir_all(&directory).unwrap();
}

#[tokio::test]
async fn over_epoll() {
    rings("mmsg").await;
}

#[tokio::test]
async fn over_io_uring() {
    rings("uring").await;
}

#[tokio::test]
async fn over_shared_sockets() {
    if may_share() {
        rings("shared").await;
    }
}
