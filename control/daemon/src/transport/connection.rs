//! A stream of SIP messages, over TCP or TLS.

use std::{io, time::Duration};

use bytes::Bytes;
use sip::{
    limits::Limits,
    message::{Frame, FramerRole, StreamFramer},
    stack::Flow,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, WriteHalf, split},
    sync::mpsc,
    time::{Instant, sleep_until, timeout},
};

use super::streams::Shared;
use crate::{core::Input, limits};

/// Until the peer closes, the connection is idle for too long, a message is not finished in time, or something breaks.
pub(super) async fn exchange<S>(
    shared: &Shared,
    stream: S,
    flow: Flow,
    role: FramerRole,
    writes: &mut mpsc::Receiver<Bytes>,
) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut reader, mut writer) = split(stream);
    let mut framer = StreamFramer::new(role, Limits::DEFAULT);
    let mut buffer = vec![0; limits::READ_BYTES];
    let (mut idle_at, mut ping_at) = (
        Instant::now() + shared.idle(),
        Instant::now() + shared.keepalive(),
    );
    // Who connects has something to say.
    let mut is_known = role == FramerRole::Initiator;
    let mut whole_by = (!is_known).then(|| Instant::now() + shared.message_timeout());
    loop {
        tokio::select! {
            read = reader.read(&mut buffer) => {
                let length = read?;
                if length == 0 {
                    return Ok(());
                }
                framer.push(&buffer[..length]);
                let taken = take_frames(shared, &mut framer, flow).await?;
                for _ in 0..taken.pings {
                    write(&mut writer, b"\r\n").await?;
                }
                if taken.is_broken {
                    // The answer the malformed message is owed, if any, is queued by the core thread.
                    if let Ok(Some(answer)) = timeout(Duration::from_millis(200), writes.recv()).await {
                        write(&mut writer, &answer).await?;
                    }
                    return Err(io::Error::other("the stream cannot be cut into messages"));
                }
                idle_at = Instant::now() + shared.idle();
                is_known |= taken.messages > 0;
                whole_by = match whole_by {
                    _ if is_known && !framer.is_amid_message() => None,
                    Some(begun) if taken.messages == 0 => Some(begun),
                    _ => Some(Instant::now() + shared.message_timeout()),
                };
            }
            () = sleep_until(whole_by.unwrap_or(idle_at)), if whole_by.is_some() => {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "no whole message in time"));
            }
            bytes = writes.recv() => {
                let Some(bytes) = bytes else { return Ok(()) };
                write(&mut writer, &bytes).await?;
                idle_at = Instant::now() + shared.idle();
                ping_at = Instant::now() + shared.keepalive();
            }
            // RFC 5626 §3.5.1: who opened the connection keeps it open. Many peers answer nothing, so that is no sign.
            () = sleep_until(ping_at), if role == FramerRole::Initiator => {
                write(&mut writer, b"\r\n\r\n").await?;
                ping_at = Instant::now() + shared.keepalive();
            }
            () = sleep_until(idle_at) => {
                // Says good-bye in TLS.
                let _gone = timeout(limits::CONNECT_TIMEOUT, writer.shutdown()).await;
                return Ok(());
            }
        }
    }
}

/// What was in the bytes of one read.
#[derive(Default)]
struct Taken {
    messages: usize,
    /// To be answered.
    pings: usize,
    /// Nobody can tell where the next message begins.
    is_broken: bool,
}

/// Gives whole messages to the core thread.
async fn take_frames(shared: &Shared, framer: &mut StreamFramer, flow: Flow) -> io::Result<Taken> {
    let mut taken = Taken::default();
    loop {
        match framer.next_frame() {
            Ok(None) => return Ok(taken),
            Ok(Some(Frame::Ping)) => taken.pings += 1,
            Ok(Some(Frame::Pong)) => {}
            Ok(Some(Frame::Message(bytes))) => {
                taken.messages += 1;
                shared.deliver(flow, bytes).await?;
            }
            Err(error) => {
                shared.pass(Input::Malformed(flow, error)).await?;
                taken.is_broken = true;
                return Ok(taken);
            }
        }
    }
}

/// A peer that takes nothing for a while is gone.
async fn write<S: AsyncWrite>(writer: &mut WriteHalf<S>, bytes: &[u8]) -> io::Result<()> {
    let written = async {
        writer.write_all(bytes).await?;
        // TLS holds back what is not flushed.
        writer.flush().await
    };
    match timeout(limits::CONNECT_TIMEOUT, written).await {
        Ok(written) => written,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}
