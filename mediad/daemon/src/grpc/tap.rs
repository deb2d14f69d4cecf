//! Full-duplex audio with a program. One task for each program: it writes what the tap heard as far as the program has
//! given credit, and takes what the program says as far as it has been given credit itself.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use media_engine::{
    host::TapPlace,
    limits::{TAP_CREDITS, TAP_MESSAGE_MS_MAX},
    tap::{Heard, Program, TapPort},
};
use proto::mediad::v1::{self as pb, tap_reply::Kind as Told, tap_request::Kind as Asked};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::{Context, status};
use crate::{limits, requests::Request as Ask, seats::Sitting};

type Reply = Result<pb::TapReply, Status>;

/// Attaches the program to the tap its first message names, and starts its task.
///
/// # Errors
/// The first message does not open a tap; there is none of that name; who was attached before does not leave.
pub(super) async fn open(
    context: Context,
    mut requests: Streaming<pb::TapRequest>,
) -> Result<ReceiverStream<Reply>, Status> {
    let first = requests.message().await?.and_then(|first| first.kind);
    let Some(Asked::Open(open)) = first else {
        return Err(Status::invalid_argument(
            "open is missing; the first message of a tap's stream names session and node",
        ));
    };
    let (session, node) = (open.session, open.node.clone());
    let place = context
        .line
        .ask_or_refuse(|answer| Ask::Tap(session, node, answer))
        .await
        .map_err(|error| status(&error))?;
    let TapPlace { session, port, .. } = place;
    let program = attach(&context, &port).await?;
    let sitting = context
        .seats
        .sit(session, open.node.as_str().into(), Arc::clone(&port));
    let (replies, stream) = mpsc::channel(limits::TAP_BUFFER);
    tokio::spawn(async move {
        let mut bridge = Bridge::new(program, &port, replies);
        let end = tokio::select! {
            end = bridge.run(requests, sitting) => end,
            () = context.ended() => Err(Status::unavailable("the media host is shutting down")),
        };
        let Bridge { program, replies, .. } = bridge;
        // Who comes next must not wait until this one reads why it was to go.
        drop(program);
        if let Err(status) = end {
            let _ = replies.send(Err(status)).await;
        }
    });
    Ok(ReceiverStream::new(stream))
}

/// Takes the place of whoever is attached.
async fn attach(context: &Context, port: &Arc<TapPort>) -> Result<Program, Status> {
    let deadline = tokio::time::Instant::now() + limits::TAP_TAKE_OVER;
    loop {
        if let Some(program) = Program::attach(port) {
            return Ok(program);
        }
        if tokio::time::Instant::now() >= deadline {
            return Err(Status::unavailable(
                "another program is attached and did not leave; try again",
            ));
        }
        port.evict();
        context.seats.ring();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Between one program and its tap.
struct Bridge {
    program: Program,
    replies: mpsc::Sender<Reply>,
    /// Audio messages the program is ready to take.
    credit: u64,
    /// Where each of its own messages ends, for those not yet played.
    messages: VecDeque<u64>,
    /// Marks not yet passed, and where they stand.
    marks: VecDeque<(u64, String)>,
    /// Room for one message towards the program.
    pcm: Box<[i16]>,
    message_samples_max: usize,
}

impl Bridge {
    fn new(program: Program, port: &TapPort, replies: mpsc::Sender<Reply>) -> Self {
        let samples = |ms: u32| (port.sample_rate_hz() / 1_000 * ms) as usize;
        Self {
            program,
            replies,
            credit: 0,
            messages: VecDeque::with_capacity(TAP_CREDITS as usize),
            marks: VecDeque::new(),
            pcm: vec![0; samples(20)].into(),
            message_samples_max: samples(TAP_MESSAGE_MS_MAX),
        }
    }

    /// Until the program is gone, says something it must not, or is not wanted any more.
    async fn run(
        &mut self,
        mut requests: Streaming<pb::TapRequest>,
        mut sitting: Sitting,
    ) -> Result<(), Status> {
        self.tell(Told::Credit(TAP_CREDITS)).await?;
        loop {
            tokio::select! {
                biased;
                () = sitting.news.notified() => {}
                message = requests.message() => match message {
                    Ok(Some(message)) => self.take(message.kind)?,
                    // The program is gone; the call goes on.
                    Ok(None) | Err(_) => return Ok(()),
                },
                Some(event) = sitting.events.recv() => self.tell(Told::Event(event)).await?,
                () = self.replies.closed() => return Ok(()),
            }
            self.pass().await?;
        }
    }

    /// What the program says.
    fn take(&mut self, asked: Option<Asked>) -> Result<(), Status> {
        match asked {
            Some(Asked::Audio(audio)) => self.speak(&audio.pcm),
            Some(Asked::Credit(more)) => {
                self.credit = self.credit.saturating_add(more.into());
                Ok(())
            }
            Some(Asked::Mark(mark)) => self.mark(mark),
            Some(Asked::Flush(pb::Flush {})) => {
                self.program.flush();
                Ok(())
            }
            Some(Asked::Open(_)) => Err(Status::invalid_argument("the tap is open already")),
            None => Err(Status::invalid_argument("a message without a kind")),
        }
    }

    fn speak(&mut self, bytes: &[u8]) -> Result<(), Status> {
        let (samples, rest) = bytes.as_chunks::<2>();
        if samples.is_empty() || !rest.is_empty() || samples.len() > self.message_samples_max {
            return Err(Status::invalid_argument(format!(
                "an audio message of {} bytes; it must be 16 bit samples, at least one and at most {TAP_MESSAGE_MS_MAX} ms",
                bytes.len()
            )));
        }
        if self.messages.len() >= TAP_CREDITS as usize {
            return Err(Status::resource_exhausted(format!(
                "{TAP_CREDITS} audio messages wait to be played; send no more than the host gave credit for"
            )));
        }
        let pcm: Vec<i16> = samples.iter().map(|sample| i16::from_le_bytes(*sample)).collect();
        let taken = self.program.speak(&pcm);
        debug_assert_eq!(taken, pcm.len(), "credits keep within the ring");
        self.messages.push_back(self.program.spoken());
        Ok(())
    }

    fn mark(&mut self, mark: String) -> Result<(), Status> {
        if mark.len() > limits::TAP_MARK_BYTES || self.marks.len() >= limits::TAP_MARKS {
            return Err(Status::resource_exhausted(format!(
                "a mark of {} bytes while {} wait; at most {} bytes and {} marks",
                mark.len(),
                self.marks.len(),
                limits::TAP_MARK_BYTES,
                limits::TAP_MARKS
            )));
        }
        self.marks.push_back((self.program.spoken(), mark));
        Ok(())
    }

    /// The tap is there, and nobody else wants it.
    fn check(&self) -> Result<(), Status> {
        if self.program.is_closed() {
            return Err(Status::not_found(
                "the tap is gone, or runs at another rate now; open it again",
            ));
        }
        if self.program.is_evicted() {
            return Err(Status::aborted("another program has taken this tap"));
        }
        Ok(())
    }

    /// Gives the program whatever is there for it.
    async fn pass(&mut self) -> Result<(), Status> {
        self.check()?;
        let played = self.program.played();
        while let Some((_, mark)) = self.marks.pop_front_if(|(at, _)| *at <= played) {
            self.tell(Told::MarkPlayed(mark)).await?;
        }
        let mut more = 0;
        while self.messages.pop_front_if(|end| *end <= played).is_some() {
            more += 1;
        }
        if more > 0 {
            self.tell(Told::Credit(more)).await?;
        }
        // A connection that is stuck is not waited for: the tap writes over what nobody takes.
        while self.credit > 0 && self.replies.capacity() > limits::TAP_BUFFER / 2 {
            let Some(Heard { position, lost }) = self.program.hear(&mut self.pcm) else {
                break;
            };
            if lost > 0 {
                self.tell(Told::LostSamples(lost)).await?;
            }
            let pcm = self.pcm.iter().flat_map(|sample| sample.to_le_bytes()).collect();
            self.credit -= 1;
            self.tell(Told::Audio(pb::TapAudio { pcm, position })).await?;
        }
        Ok(())
    }

    async fn tell(&self, told: Told) -> Result<(), Status> {
        let gone = |_| Status::cancelled("the program is gone");
        // A program that reads nothing keeps its connection alive: it must not keep the tap.
        let place = loop {
            match timeout(limits::TAP_LOOKS_UP, self.replies.reserve()).await {
                Ok(place) => break place.map_err(gone)?,
                Err(_) => self.check()?,
            }
        };
        place.send(Ok(pb::TapReply { kind: Some(told) }));
        Ok(())
    }
}
