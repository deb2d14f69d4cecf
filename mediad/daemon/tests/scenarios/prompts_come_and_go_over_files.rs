//! A prompt is uploaded, listed, heard, replaced while it is known, and deleted; what is no prompt's name or too large is refused
//! and leaves nothing.

use proto::mediad::v1::{self as pb, files_client::FilesClient};
use tonic::{Code, transport::Channel};

use crate::{
    recording::files,
    support::{CONTROLLER, Daemon, Party, call, edge, owner, scratch},
};

fn wav(hz: f64, samples: u32) -> Vec<u8> {
    let mut sine = codecs::tone::Oscillator::new(hz, 8_000);
    let mut file = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0".to_vec();
    file.extend(8_000u32.to_le_bytes());
    file.extend(16_000u32.to_le_bytes());
    file.extend([2, 0, 16, 0]);
    file.extend(b"data");
    file.extend((samples * 2).to_le_bytes());
    file.extend((0..samples).flat_map(|_| ((sine.next_value() * 8_000.0) as i16).to_le_bytes()));
    file
}

async fn put(
    files: &mut FilesClient<Channel>,
    name: &str,
    data: &[u8],
) -> Result<pb::PutReply, tonic::Status> {
    let mut parts: Vec<pb::PutRequest> = data
        .chunks(50_000)
        .map(|part| pb::PutRequest {
            name: String::new(),
            data: part.to_vec(),
        })
        .collect();
    parts.insert(
        0,
        pb::PutRequest {
            name: name.into(),
            data: Vec::new(),
        },
    );
    files
        .put(tokio_stream::iter(parts))
        .await
        .map(tonic::Response::into_inner)
}

/// Plays the prompt and says what of it is heard at `hz`.
async fn heard(daemon: &Daemon, session: &str, hz: f64) -> f64 {
    let mut media = daemon.media().await;
    let mut alice = Party::new(300.0);
    let item = pb::PlayItem {
        source: Some(pb::play_item::Source::Prompt("en/hello.wav".into())),
        start_ms: 0,
    };
    let player = pb::Player {
        items: vec![item],
        ..Default::default()
    };
    let mut request = call(session, Some(alice.addr()), None);
    request.owner = Some(pb::Owner {
        controller: CONTROLLER.into(),
        epoch: 1,
    });
    request.put_nodes.push(pb::Node {
        id: "player".into(),
        kind: Some(pb::node::Kind::Player(player)),
    });
    request.put_edges = vec![edge("player", "a")];
    media.apply(request).await.unwrap();
    let since = std::time::Instant::now();
    while alice.heard.len() < 25 && since.elapsed() < crate::support::PATIENCE {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        alice.listen();
    }
    let delete = pb::DeleteRequest {
        session: session.into(),
        owner: owner(1),
    };
    media.delete(delete).await.unwrap();
    alice.share(hz)
}

#[tokio::test]
async fn an_upload_is_heard_and_its_successor_after_it() {
    let directory = scratch("uploads");
    let daemon = Daemon::start(&[&format!("media.prompts={}", directory.display())]);
    let mut files = files(&daemon).await;
    let first = wav(700.0, 16_000);
    let reply = put(&mut files, "en/hello.wav", &first).await.unwrap();
    assert_eq!((reply.size_bytes, reply.sha256.len()), (first.len() as u64, 64));
    assert!(heard(&daemon, "one", 700.0).await > 0.9);
    // The same size, so that only the version tells them apart.
    put(&mut files, "en/hello.wav", &wav(900.0, 16_000))
        .await
        .unwrap();
    assert!(heard(&daemon, "two", 900.0).await > 0.9);

    for name in ["a.wav", "b.wav"] {
        put(&mut files, name, &wav(500.0, 800)).await.unwrap();
    }
    let page = |after: &str| pb::FileListRequest {
        kind: pb::FileKind::Prompt.into(),
        limit: 2,
        after: after.into(),
        ..Default::default()
    };
    let list = files.list(page("")).await.unwrap().into_inner();
    let names: Vec<_> = list
        .files
        .iter()
        .map(|file| (file.name.as_str(), file.duration_ms))
        .collect();
    assert_eq!(
        (names, list.next.as_str()),
        (vec![("a.wav", 100), ("b.wav", 100)], "b.wav")
    );
    let list = files.list(page("b.wav")).await.unwrap().into_inner();
    assert_eq!(
        (list.files.len(), list.files[0].duration_ms, list.next.as_str()),
        (1, 2_000, "")
    );

    // Any format, by what is in it.
    let mp3 = include_bytes!("../../../sound/corpus/sound/ok-vbr.mp3");
    put(&mut files, "c.mp3", mp3).await.unwrap();
    for _ in 0..2 {
        let list = files.list(page("b.wav")).await.unwrap().into_inner();
        let c = (list.files[0].name.as_str(), list.files[0].duration_ms);
        assert_eq!(c, ("c.mp3", 1_000));
    }

    for name in ["../x.wav", "/x.wav", ".hidden", "a/../../x.wav", ""] {
        let refused = put(&mut files, name, b"x").await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{name:?}");
    }
    let delete = pb::FileDeleteRequest {
        kind: pb::FileKind::Prompt.into(),
        name: "en/hello.wav".into(),
    };
    files.delete(delete.clone()).await.unwrap();
    assert_eq!(files.delete(delete).await.unwrap_err().code(), Code::NotFound);
    let left: Vec<_> = std::fs::read_dir(&directory)
        .unwrap()
        .chain(std::fs::read_dir(directory.join("en")).unwrap())
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(left.len(), 4, "no draft is left: {left:?}");
    drop(daemon);
    std::fs::remove_dir_all(&directory).unwrap();
}
