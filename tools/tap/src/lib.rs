//! A program's end of a tap: what speech recognition, a voice agent or a test signal needs to take part in a call.
//!
//! Owns the stream and its credits, and nothing of what is done with the sound. It knows the contract (`proto`) and nothing of the
//! host's inside. `tap-echo` and `tap-measure` are two programs on top of it.
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! use tap::{Heard, Line};
//!
//! let mut line = Line::open("127.0.0.1:8700", "call-1", "bot").await?;
//! while let Some(heard) = line.next().await? {
//!     if let Heard::Audio { pcm, .. } = heard {
//!         line.speak(&pcm).await?;
//!     }
//! }
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

use anyhow::{Context as _, bail};
use proto::mediad::v1::{
    self as pb, media_client::MediaClient, tap_reply::Kind as Told, tap_request::Kind as Asked,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Streaming, transport::Channel};

/// Audio messages the host may send ahead of us: what a pause of our own may cost in time.
const AHEAD: u32 = 50;

/// Which tap, as a program is told on its command line.
#[derive(Debug, Clone, clap::Args)]
pub struct Place {
    /// The media host's control address.
    #[arg(
        long,
        env = "MCTL_HOST",
        default_value = "127.0.0.1:8700",
        value_name = "ADDR"
    )]
    pub host: String,
    /// The session.
    #[arg(long)]
    pub session: String,
    /// The tap's node.
    #[arg(long)]
    pub tap: String,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.session, self.tap)
    }
}

/// What comes from the tap.
#[derive(Debug, Clone, PartialEq)]
pub enum Heard {
    /// The next 20 ms.
    Audio {
        /// Of the first sample, since the line was opened.
        position: u64,
        /// Samples, mono, at the tap's rate.
        pcm: Vec<i16>,
    },
    /// So many samples were lost because we were too slow.
    Lost(u64),
    /// Everything said before this mark was played, or thrown away.
    Played(String),
    /// Somebody whom the tap hears began (true) or ceased to talk.
    Talks(String, bool),
}

/// A program's stream. When it is dropped the program has left, and the call goes on.
#[derive(Debug)]
pub struct Line {
    ask: mpsc::Sender<pb::TapRequest>,
    told: Streaming<pb::TapReply>,
    /// Audio messages the host takes.
    credit: u32,
    /// Audio messages we said we take, and did not get yet.
    given: u32,
    sample_rate_hz: u32,
}

impl Line {
    /// Attaches to tap `node` of `session` on the media host whose control address is `host`. Whoever was attached has to
    /// leave.
    ///
    /// # Errors
    /// The host cannot be reached, or has no such tap.
    pub async fn open(host: &str, session: &str, node: &str) -> anyhow::Result<Self> {
        let channel = Channel::from_shared(format!("http://{host}"))
            .with_context(|| format!("{host:?} is no address; give host:port"))?
            .connect()
            .await
            .with_context(|| format!("no media host answers at {host}"))?;
        let mut media = MediaClient::new(channel);
        let sample_rate_hz = rate_of(&mut media, session, node).await?;
        let (ask, asked) = mpsc::channel(64);
        let open = pb::TapOpen {
            session: session.into(),
            node: node.into(),
        };
        send(&ask, Asked::Open(open)).await?;
        send(&ask, Asked::Credit(AHEAD)).await?;
        let told = media.tap(ReceiverStream::new(asked)).await;
        let told = told.with_context(|| format!("session {session:?}, tap {node:?}"))?;
        Ok(Self {
            ask,
            told: told.into_inner(),
            credit: 0,
            given: AHEAD,
            sample_rate_hz,
        })
    }

    /// The tap's rate.
    pub fn sample_rate_hz(&self) -> u32 {
        self.sample_rate_hz
    }

    /// Whether the host takes another audio message now.
    pub fn can_speak(&self) -> bool {
        self.credit > 0
    }

    /// Says `pcm`, at most 60 ms; false, and nothing is said, while the host takes no more.
    ///
    /// # Errors
    /// The stream is gone; [`Self::next`] says why.
    pub async fn speak(&mut self, pcm: &[i16]) -> anyhow::Result<bool> {
        if self.credit == 0 {
            return Ok(false);
        }
        self.credit -= 1;
        let pcm = pcm.iter().flat_map(|sample| sample.to_le_bytes()).collect();
        send(&self.ask, Asked::Audio(pb::TapAudio { pcm, position: 0 })).await?;
        Ok(true)
    }

    /// Asks to be told when everything said so far was played.
    ///
    /// # Errors
    /// As [`Self::speak`].
    pub async fn mark(&self, mark: &str) -> anyhow::Result<()> {
        send(&self.ask, Asked::Mark(mark.into())).await
    }

    /// Throws away what was said and not yet played: somebody interrupted.
    ///
    /// # Errors
    /// As [`Self::speak`].
    pub async fn flush(&self) -> anyhow::Result<()> {
        send(&self.ask, Asked::Flush(pb::Flush {})).await
    }

    /// What comes next; `None` when the host ended the stream.
    ///
    /// # Errors
    /// The host cut the stream, and says why.
    pub async fn next(&mut self) -> anyhow::Result<Option<Heard>> {
        loop {
            let Some(told) = self.told.message().await? else {
                return Ok(None);
            };
            match told.kind {
                Some(Told::Audio(audio)) => return self.take(audio).await.map(Some),
                Some(Told::Credit(more)) => self.credit = self.credit.saturating_add(more),
                Some(Told::MarkPlayed(mark)) => return Ok(Some(Heard::Played(mark))),
                Some(Told::LostSamples(count)) => return Ok(Some(Heard::Lost(count))),
                Some(Told::Event(event)) => {
                    let talks = matches!(event.kind, Some(pb::event::Kind::TalkStarted(_)));
                    return Ok(Some(Heard::Talks(event.node, talks)));
                }
                None => {}
            }
        }
    }

    async fn take(&mut self, audio: pb::TapAudio) -> anyhow::Result<Heard> {
        self.given = self.given.saturating_sub(1);
        if self.given <= AHEAD / 2 {
            send(&self.ask, Asked::Credit(AHEAD - self.given)).await?;
            self.given = AHEAD;
        }
        let (samples, _) = audio.pcm.as_chunks::<2>();
        Ok(Heard::Audio {
            position: audio.position,
            pcm: samples.iter().map(|sample| i16::from_le_bytes(*sample)).collect(),
        })
    }
}

/// The rate of a tap is part of its session's graph.
async fn rate_of(media: &mut MediaClient<Channel>, session: &str, node: &str) -> anyhow::Result<u32> {
    let request = pb::DescribeRequest {
        session: session.into(),
    };
    let reply = media.describe(request).await?.into_inner();
    let nodes = reply.description.unwrap_or_default().nodes;
    match nodes
        .into_iter()
        .find(|found| found.id == node)
        .and_then(|found| found.kind)
    {
        Some(pb::node::Kind::Tap(tap)) => Ok(tap.sample_rate_hz),
        Some(_) => bail!("node {node:?} of session {session:?} is no tap"),
        None => bail!("session {session:?} has no node {node:?}"),
    }
}

async fn send(ask: &mpsc::Sender<pb::TapRequest>, kind: Asked) -> anyhow::Result<()> {
    let request = pb::TapRequest { kind: Some(kind) };
    ask.send(request).await.context("the stream has ended")
}

/// The amplitude of the tone of `hz` in `pcm`, by Goertzel.
pub fn amplitude(pcm: &[i16], hz: f64, sample_rate_hz: u32) -> f64 {
    let step = std::f64::consts::TAU * hz / f64::from(sample_rate_hz);
    let coefficient = 2.0 * step.cos();
    let (mut last, mut before) = (0.0, 0.0);
    for sample in pcm {
        (last, before) = (f64::from(*sample) + coefficient * last - before, last);
    }
    let power = last * last + before * before - coefficient * last * before;
    2.0 * power.max(0.0).sqrt() / pcm.len().max(1) as f64
}

/// The loudness of `pcm` in dB below full scale; silence is -96.
pub fn level_db(pcm: &[i16]) -> f64 {
    let sum: f64 = pcm.iter().map(|sample| f64::from(*sample).powi(2)).sum();
    let rms = (sum / pcm.len().max(1) as f64).sqrt();
    (20.0 * (rms / 32_768.0).log10()).max(-96.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sine(hz: f64, loud: f64) -> Vec<i16> {
        let step = std::f64::consts::TAU * hz / 16_000.0;
        (0..1_600)
            .map(|n| (loud * (step * f64::from(n)).sin()) as i16)
            .collect()
    }

    #[test]
    fn a_tone_is_found_at_its_amplitude_and_nowhere_else() {
        let tone = sine(440.0, 6_000.0);
        assert!((5_900.0..6_100.0).contains(&amplitude(&tone, 440.0, 16_000)));
        assert!(amplitude(&tone, 1_000.0, 16_000) < 60.0);
    }

    #[test]
    fn levels_are_in_decibels_of_full_scale() {
        assert!((level_db(&sine(440.0, 32_767.0)) + 3.0).abs() < 0.1);
        assert!((level_db(&[0; 160]) + 96.0).abs() < f64::EPSILON);
    }
}
