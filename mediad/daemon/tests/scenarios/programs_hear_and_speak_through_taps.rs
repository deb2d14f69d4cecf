//! Programs on the `Tap` call: an echo by tone, marks, flush, credits, one that is too slow, one that goes, one that takes over.

use std::time::{Duration, Instant};

use proto::mediad::v1::{self as pb, node, tap_reply::Kind as Told, tap_request::Kind as Asked};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming, transport::Channel};

use crate::support::{Daemon, PATIENCE, Party, call, converse, edge, owner, ports, share};

type Media = pb::media_client::MediaClient<Channel>;

/// A program attached to a tap of 8 kHz.
struct Program {
    ask: mpsc::Sender<pb::TapRequest>,
    told: Streaming<pb::TapReply>,
    /// Messages the host takes.
    credit: u32,
}

impl Program {
    async fn open(media: &mut Media, session: &str, node: &str) -> Result<Self, Status> {
        let (ask, asked) = mpsc::channel(64);
        let open = pb::TapOpen {
            session: session.into(),
            node: node.into(),
        };
        let kind = Some(Asked::Open(open));
        ask.send(pb::TapRequest { kind }).await.unwrap();
        let told = media.tap(ReceiverStream::new(asked)).await?.into_inner();
        let mut program = Self { ask, told, credit: 0 };
        match program.next().await? {
            Told::Credit(credit) => program.credit = credit,
            other => panic!("credit comes first, not {other:?}"),
        }
        Ok(program)
    }

    async fn say(&mut self, kind: Asked) {
        self.ask.send(pb::TapRequest { kind: Some(kind) }).await.unwrap();
    }

    /// Samples of a tone.
    async fn speak(&mut self, pcm: &[i16]) {
        self.credit = self.credit.saturating_sub(1);
        let pcm = pcm.iter().flat_map(|sample| sample.to_le_bytes()).collect();
        self.say(Asked::Audio(pb::TapAudio { pcm, position: 0 })).await;
    }

    /// The next thing that is told; credit is noted as well.
    async fn next(&mut self) -> Result<Told, Status> {
        let told = timeout(PATIENCE, self.told.message()).await;
        let told = told.expect("something is told in time")?;
        let kind = told
            .ok_or_else(|| Status::cancelled("the stream ended"))?
            .kind
            .unwrap();
        if let Told::Credit(more) = kind {
            self.credit += more;
        }
        Ok(kind)
    }

    /// Whatever comes until `wanted`.
    async fn until(&mut self, wanted: impl Fn(&Told) -> bool) -> Told {
        loop {
            let told = self.next().await.unwrap();
            if wanted(&told) {
                return told;
            }
        }
    }

    /// How the stream ends.
    async fn end(&mut self) -> Status {
        loop {
            if let Err(status) = self.next().await {
                return status;
            }
        }
    }
}

fn tone(hz: f64, ms: usize) -> Vec<i16> {
    let mut sine = codecs::tone::Oscillator::new(hz, 8_000);
    (0..8 * ms)
        .map(|_| (sine.next_value() * 8_000.0) as i16)
        .collect()
}

/// A call of two and a tap that hears "a" and is heard by it.
async fn tapped(media: &mut Media, alice: &Party, bob: &Party) -> pb::ApplyReply {
    let mut request = call("s", Some(alice.addr()), Some(bob.addr()));
    let tap = pb::Tap {
        sample_rate_hz: 8_000,
    };
    request.put_nodes.push(pb::Node {
        id: "bot".into(),
        kind: Some(node::Kind::Tap(tap)),
    });
    request.put_edges.extend([edge("a", "bot"), edge("bot", "a")]);
    media.apply(request).await.unwrap().into_inner()
}

async fn stats(media: &mut Media) -> pb::TapStats {
    let request = pb::DescribeRequest { session: "s".into() };
    let reply = media.describe(request).await.unwrap().into_inner();
    reply.description.unwrap().taps[0].clone()
}

#[tokio::test]
async fn what_is_said_comes_back_from_an_echo() {
    let daemon = Daemon::start(&[]);
    let mut media = daemon.media().await;
    let (mut alice, bob) = (Party::new(440.0), Party::new(1_000.0));
    let reply = tapped(&mut media, &alice, &bob).await;
    let at = ports(&reply);
    let mut program = Program::open(&mut media, "s", "bot").await.unwrap();
    program.say(Asked::Credit(10_000)).await;
    let (until, mut position, mut echoed) = (Instant::now() + PATIENCE, None, 0);
    while (echoed < 100 || alice.heard.len() < 100) && Instant::now() < until {
        alice.listen();
        // The program hears a frame each tick, whatever comes from alice: who speaks with each keeps time.
        match program.next().await.unwrap() {
            Told::Audio(audio) => {
                alice.say(at[0]);
                assert_eq!(audio.pcm.len(), 320, "20 ms at 8 kHz");
                let expected = position.replace(audio.position + 160);
                assert!(expected.is_none_or(|expected| expected == audio.position));
                if program.credit > 0 {
                    program.credit -= 1;
                    program.say(Asked::Audio(audio)).await;
                    echoed += 1;
                }
            }
            Told::Credit(_) => {}
            other => panic!("{other:?}"),
        }
    }
    let samples = alice.samples();
    let heard = share(&samples[samples.len() - 4_000..], 440.0);
    assert!(heard > 0.9, "{heard} of what alice hears is herself");
    let stats = stats(&mut media).await;
    assert!(stats.attached && stats.lost_samples == 0, "{stats:?}");
    assert!(stats.played_samples > 80 * 160, "{stats:?}");
}

#[tokio::test]
async fn marks_come_when_they_are_passed_and_a_flush_passes_them_at_once() {
    let daemon = Daemon::start(&[]);
    let mut media = daemon.media().await;
    let (mut alice, bob) = (Party::new(440.0), Party::new(1_000.0));
    tapped(&mut media, &alice, &bob).await;
    let mut program = Program::open(&mut media, "s", "bot").await.unwrap();
    assert_eq!(program.credit, 10);
    for mark in ["one", "two"] {
        for _ in 0..5 {
            program.speak(&tone(700.0, 20)).await;
        }
        program.say(Asked::Mark(mark.into())).await;
    }
    assert_eq!(program.credit, 0);
    for mark in ["one", "two"] {
        let told = program.until(|told| matches!(told, Told::MarkPlayed(_))).await;
        assert_eq!(told, Told::MarkPlayed(mark.into()));
    }
    while program.credit < 10 {
        program.until(|told| matches!(told, Told::Credit(_))).await;
    }
    // The sound was sent to alice when the mark was passed.
    let until = Instant::now() + PATIENCE;
    while alice.heard.len() < 10 && Instant::now() < until {
        alice.listen();
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(share(&alice.samples()[..1_600], 700.0) > 0.9);

    for _ in 0..10 {
        program.speak(&tone(700.0, 60)).await;
    }
    program.say(Asked::Mark("three".into())).await;
    program.say(Asked::Flush(pb::Flush {})).await;
    program
        .until(|told| *told == Told::MarkPlayed("three".into()))
        .await;
    while program.credit < 10 {
        program.until(|told| matches!(told, Told::Credit(_))).await;
    }
    let stats = stats(&mut media).await;
    assert_eq!(stats.waiting_ms, 0, "{stats:?}");
    program.speak(&tone(900.0, 60)).await;
    program.say(Asked::Mark("four".into())).await;
    program
        .until(|told| *told == Told::MarkPlayed("four".into()))
        .await;
}

#[tokio::test]
async fn who_sends_more_than_its_credit_or_nonsense_is_cut_off() {
    let daemon = Daemon::start(&[]);
    let mut media = daemon.media().await;
    let (alice, bob) = (Party::new(440.0), Party::new(1_000.0));
    tapped(&mut media, &alice, &bob).await;
    let mut program = Program::open(&mut media, "s", "bot").await.unwrap();
    for _ in 0..64 {
        program.speak(&tone(700.0, 60)).await;
    }
    assert_eq!(program.end().await.code(), Code::ResourceExhausted);
    for bytes in [0, 3, 8 * 60 * 2 + 2] {
        let mut program = Program::open(&mut media, "s", "bot").await.unwrap();
        let audio = pb::TapAudio {
            pcm: vec![0; bytes],
            position: 0,
        };
        program.say(Asked::Audio(audio)).await;
        assert_eq!(program.end().await.code(), Code::InvalidArgument);
    }
    for (node, code) in [("ghost", Code::NotFound), ("a", Code::InvalidArgument)] {
        let refused = Program::open(&mut media, "s", node).await.err().unwrap();
        assert_eq!(refused.code(), code, "{node}");
    }
}

#[tokio::test]
async fn a_slow_program_loses_its_own_audio_and_nobody_elses() {
    let daemon = Daemon::start(&[]);
    let mut media = daemon.media().await;
    let (mut alice, mut bob) = (Party::new(440.0), Party::new(1_000.0));
    let reply = tapped(&mut media, &alice, &bob).await;
    let at = ports(&reply);
    let mut program = Program::open(&mut media, "s", "bot").await.unwrap();
    // It gives no credit until more was heard than is kept.
    let until = Instant::now() + PATIENCE;
    while stats(&mut media).await.heard_samples < 3 * 8_000 && Instant::now() < until {
        alice.say(at[0]);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    program.say(Asked::Credit(20)).await;
    let lost = program.until(|told| !matches!(told, Told::Credit(_))).await;
    let Told::LostSamples(lost) = lost else {
        panic!("what was lost is told first, not {lost:?}");
    };
    assert!(lost > 8_000, "{lost}");
    let audio = program.until(|told| matches!(told, Told::Audio(_))).await;
    let Told::Audio(audio) = audio else { panic!() };
    assert_eq!(audio.position, lost);
    assert!(stats(&mut media).await.lost_samples >= lost);
    // Bob, who is relayed, got every packet.
    let heard = alice.sent;
    converse((&mut alice, at[0]), (&mut bob, at[1]), 10);
    assert_eq!(bob.heard.len(), heard + 10);
}

#[tokio::test]
async fn the_newest_program_has_the_tap_and_the_call_goes_on_without_any() {
    let daemon = Daemon::start(&[]);
    let mut media = daemon.media().await;
    let (mut alice, mut bob) = (Party::new(440.0), Party::new(1_000.0));
    let reply = tapped(&mut media, &alice, &bob).await;
    let at = ports(&reply);
    let mut first = Program::open(&mut media, "s", "bot").await.unwrap();
    let mut second = Program::open(&mut media, "s", "bot").await.unwrap();
    assert_eq!(first.end().await.code(), Code::Aborted);
    second.say(Asked::Credit(5)).await;
    second.until(|told| matches!(told, Told::Audio(_))).await;
    drop((first, second));
    let until = Instant::now() + PATIENCE;
    while stats(&mut media).await.attached && Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(!stats(&mut media).await.attached);
    let before = bob.heard.len();
    converse((&mut alice, at[0]), (&mut bob, at[1]), 30);
    assert_eq!(bob.heard.len() - before, 30);
    assert!(bob.share(440.0) > 0.98);

    // A tap that goes ends its program's stream.
    let mut third = Program::open(&mut media, "s", "bot").await.unwrap();
    let request = pb::ApplyRequest {
        session: "s".into(),
        owner: owner(1),
        remove_nodes: vec!["bot".into()],
        ..Default::default()
    };
    media.apply(request).await.unwrap();
    assert_eq!(third.end().await.code(), Code::NotFound);
}

/// Its connection lives and its program does not: whoever comes next has the tap, and need not wait for it.
#[tokio::test]
async fn a_program_that_reads_nothing_does_not_keep_the_tap() {
    let daemon = Daemon::start(&[]);
    let mut media = daemon.media().await;
    let (alice, bob) = (Party::new(440.0), Party::new(1_000.0));
    tapped(&mut media, &alice, &bob).await;
    let stuck = Program::open(&mut media, "s", "bot").await.unwrap();
    // Every mark is passed at once and told, until nothing more fits on the way back, nor then on the way there.
    let mark = || pb::TapRequest {
        kind: Some(Asked::Mark("m".repeat(64))),
    };
    let enough = Duration::from_secs(1);
    while let Ok(Ok(())) = timeout(enough, stuck.ask.send(mark())).await {}
    let mut next = Program::open(&mut daemon.media().await, "s", "bot")
        .await
        .unwrap();
    next.say(Asked::Credit(5)).await;
    next.until(|told| matches!(told, Told::Audio(_))).await;
    drop(stuck);
}
