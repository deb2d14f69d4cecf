//! The contexts: what is sent, and what is received.

use std::time::Instant;

use rtp::header::{RtpError, RtpReader};
use thiserror::Error;

use crate::{
    index::{RTCP_INDEX_END, RTP_INDEX_END, Window, estimate},
    key::MasterKey,
    limits::{REKEY_OVERLAP, RETRY_BYTES_MAX, ROLLOVERS_SEARCHED},
    streams::Streams,
    suite::Suite,
    transform::{Forged, RTCP_HEADER_BYTES, Transforms},
};

/// Why a packet of ours cannot be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
#[non_exhaustive]
pub enum ProtectError {
    /// It is no RTP or RTCP packet: our own mistake.
    #[error("not an RTP or RTCP packet")]
    Malformed,
    /// The buffer ends before the trailer does: give it [`TRAILER_BYTES_MAX`](crate::TRAILER_BYTES_MAX) more.
    #[error("no room behind the packet for what protection adds")]
    NoRoom,
    /// A packet with this sequence number went out, or could have. Sending another one would give both away.
    #[error("the sequence number was used before under this key")]
    Reused,
    /// 2^48 RTP or 2^31 RTCP packets went out: take a new key.
    #[error("the key has reached the end of its life")]
    Exhausted,
}

/// Why a packet that was received is not taken. All are the peer's, or a stranger's, fault: count and drop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
#[non_exhaustive]
pub enum UnprotectError {
    /// It is no SRTP or SRTCP packet.
    #[error("not an SRTP or SRTCP packet")]
    Malformed,
    /// It was seen, or is too old to tell.
    #[error("replayed, or too old")]
    Replay,
    /// It does not come from whoever has the key, or was changed on its way.
    #[error("authentication failed")]
    Authentication,
}

/// Protects what is sent under one master key.
#[derive(Debug)]
pub struct Outbound {
    transforms: Transforms,
    streams: Streams,
}

impl Outbound {
    /// A context in which nothing was sent yet. One master key makes one context, ever: two of them would encrypt
    /// different packets with one keystream.
    pub fn new(key: &MasterKey) -> Self {
        Self {
            transforms: Transforms::new(key),
            streams: Streams::default(),
        }
    }

    /// Its suite.
    pub fn suite(&self) -> Suite {
        self.transforms.suite
    }

    /// Protect the RTP packet in `buffer[..len]`; the length it has then. Packets may be out of order by
    /// [`WINDOW_PACKETS`](crate::limits::WINDOW_PACKETS).
    ///
    /// # Errors
    /// See [`ProtectError`]; the packet is as it was.
    #[inline]
    pub fn protect_rtp(&mut self, buffer: &mut [u8], len: usize) -> Result<usize, ProtectError> {
        let packet = buffer.get(..len).ok_or(ProtectError::Malformed)?;
        let (header_len, sequence, ssrc) = rtp_header(packet).map_err(|_| ProtectError::Malformed)?;
        let end = len + self.suite().rtp_trailer_bytes();
        if buffer.len() < end {
            return Err(ProtectError::NoRoom);
        }
        let window = &mut self.streams.entry(ssrc).rtp;
        let index = match window.newest() {
            Some(newest) => estimate(newest, sequence),
            None => u64::from(sequence),
        };
        if index >= RTP_INDEX_END {
            return Err(ProtectError::Exhausted);
        }
        if !window.is_new(index) {
            return Err(ProtectError::Reused);
        }
        window.insert(index);
        self.transforms.seal_rtp(buffer, len, header_len, ssrc, index);
        Ok(end)
    }

    /// The newest sequence number that went out with an SSRC. Whoever sends with that SSRC again goes on from there: a
    /// number from elsewhere is one that was used, or that the peer counts to the wrong turn of the rollover counter.
    pub fn newest_sequence(&self, ssrc: u32) -> Option<u16> {
        let newest = self.streams.find(ssrc)?.rtp.newest()?;
        Some(newest as u16)
    }

    /// Protect the RTCP packet in `buffer[..len]`; the length it has then.
    ///
    /// # Errors
    /// As [`protect_rtp`](Self::protect_rtp).
    pub fn protect_rtcp(&mut self, buffer: &mut [u8], len: usize) -> Result<usize, ProtectError> {
        let packet = buffer.get(..len).ok_or(ProtectError::Malformed)?;
        let ssrc = rtcp_sender(packet).ok_or(ProtectError::Malformed)?;
        if buffer.len() < len + self.suite().rtcp_trailer_bytes() {
            return Err(ProtectError::NoRoom);
        }
        let window = &mut self.streams.entry(ssrc).rtcp;
        let index = window.newest().map_or(0, |newest| newest + 1);
        if index >= RTCP_INDEX_END {
            return Err(ProtectError::Exhausted);
        }
        window.insert(index);
        Ok(self.transforms.seal_rtcp(buffer, len, ssrc, index as u32))
    }
}

/// Takes what is received under one master key, and for a while under the one before.
#[derive(Debug)]
pub struct Inbound {
    current: Receiver,
    previous: Previous,
}

/// The key before, if the peer ever changed its key.
#[derive(Debug)]
enum Previous {
    None,
    /// Packets under it are taken until then.
    Counts(Box<Receiver>, Instant),
    /// It was overwritten. Its memory stays: giving it back is not for the packet path.
    Wiped(Box<Receiver>),
}

impl Inbound {
    /// A context in which nothing was received yet.
    pub fn new(key: &MasterKey) -> Self {
        Self {
            current: Receiver::new(key),
            previous: Previous::None,
        }
    }

    /// Its suite.
    pub fn suite(&self) -> Suite {
        self.current.transforms.suite
    }

    /// The peer has a new key. Packets under the one before are taken for [`REKEY_OVERLAP`] more.
    pub fn rekey(&mut self, now: Instant, key: &MasterKey) {
        let before = std::mem::replace(&mut self.current, Receiver::new(key));
        let kept = match std::mem::replace(&mut self.previous, Previous::None) {
            Previous::None => Box::new(before),
            Previous::Counts(mut room, _) | Previous::Wiped(mut room) => {
                *room = before;
                room
            }
        };
        self.previous = Previous::Counts(kept, now + REKEY_OVERLAP);
    }

    /// Check and decrypt an SRTP packet; the length of the RTP packet in its place.
    ///
    /// # Errors
    /// See [`UnprotectError`]; what is left of the packet means nothing.
    #[inline]
    pub fn unprotect_rtp(&mut self, now: Instant, packet: &mut [u8]) -> Result<usize, UnprotectError> {
        match &mut self.previous {
            Previous::None | Previous::Wiped(_) => self.current.unprotect_rtp(packet, None),
            Previous::Counts(..) => self.with_previous(now, packet, |receiver, packet, before| {
                receiver.unprotect_rtp(packet, before)
            }),
        }
    }

    /// Check and decrypt an SRTCP packet; the length of the RTCP packet in its place. Packets with a clear E bit are
    /// taken: they are authentic, and it is their sender who chose not to encrypt them.
    ///
    /// # Errors
    /// As [`unprotect_rtp`](Self::unprotect_rtp).
    pub fn unprotect_rtcp(&mut self, now: Instant, packet: &mut [u8]) -> Result<usize, UnprotectError> {
        match &mut self.previous {
            Previous::None | Previous::Wiped(_) => self.current.unprotect_rtcp(packet),
            Previous::Counts(..) => {
                self.with_previous(now, packet, |receiver, packet, _| receiver.unprotect_rtcp(packet))
            }
        }
    }

    /// `open` under the present key, else under the one before if that still counts.
    #[cold]
    fn with_previous(
        &mut self,
        now: Instant,
        packet: &mut [u8],
        open: impl Fn(&mut Receiver, &mut [u8], Option<&Streams>) -> Result<usize, UnprotectError>,
    ) -> Result<usize, UnprotectError> {
        self.previous = match std::mem::replace(&mut self.previous, Previous::None) {
            Previous::Counts(mut previous, until) if now >= until => {
                previous.transforms.wipe();
                Previous::Wiped(previous)
            }
            other => other,
        };
        let Previous::Counts(previous, _) = &mut self.previous else {
            return open(&mut self.current, packet, None);
        };
        let copy = Copied::of(packet);
        let outcome = open(&mut self.current, packet, Some(&previous.streams));
        match outcome {
            Err(UnprotectError::Authentication) if copy.restore(packet) => open(previous, packet, None),
            Ok(_) | Err(_) => outcome,
        }
    }
}

/// One master key's view of what is received.
#[derive(Debug)]
struct Receiver {
    transforms: Transforms,
    streams: Streams,
    /// First packets for which no rollover counter was found.
    unfound: u64,
}

impl Receiver {
    fn new(key: &MasterKey) -> Self {
        Self {
            transforms: Transforms::new(key),
            streams: Streams::default(),
            unfound: 0,
        }
    }

    #[inline]
    fn unprotect_rtp(
        &mut self,
        packet: &mut [u8],
        before: Option<&Streams>,
    ) -> Result<usize, UnprotectError> {
        let (header_len, sequence, ssrc) = rtp_header(packet).map_err(|_| UnprotectError::Malformed)?;
        if packet.len() < header_len + self.transforms.suite.rtp_trailer_bytes() {
            return Err(UnprotectError::Malformed);
        }
        let window = self.streams.find(ssrc).map(|stream| stream.rtp);
        let Some((window, newest)) = window.and_then(|window| Some((window, window.newest()?))) else {
            return self.unprotect_first(packet, header_len, sequence, ssrc, before);
        };
        let index = estimate(newest, sequence);
        let len = self.open_rtp(&window, packet, header_len, ssrc, index)?;
        self.streams.entry(ssrc).rtp.insert(index);
        Ok(len)
    }

    /// RTP of an SSRC that is new: how often its sequence rolled over is not known.
    ///
    /// RFC 3711 has it begin at zero. Three things are tried beyond that. Peers differ in whether the counter goes on or
    /// starts anew when a key is changed. The peer may have begun shortly below a rollover and reached it before the
    /// first packet that we could read. And it may have kept key and counter in a call that came here in its middle, or
    /// gone back to a key it had: then each packet tries one more counter, so that the right one is found within seconds
    /// and who only guesses costs us little.
    #[cold]
    fn unprotect_first(
        &mut self,
        packet: &mut [u8],
        header_len: usize,
        sequence: u16,
        ssrc: u32,
        before: Option<&Streams>,
    ) -> Result<usize, UnprotectError> {
        let first = u64::from(sequence);
        let goes_on = before
            .and_then(|before| before.find(ssrc)?.rtp.newest())
            .map(|newest| estimate(newest, sequence))
            .filter(|index| *index != first);
        let rolled_over = (sequence < 0x8000).then_some(1 << 16 | first);
        let searched = 1 + self.unfound % ROLLOVERS_SEARCHED;
        let searched = Some(searched << 16 | first);
        let copy = match self.transforms.suite.is_checked_first() {
            true => Copied::needless(),
            false => Copied::of(packet),
        };
        let mut outcome = self.open_rtp(&Window::default(), packet, header_len, ssrc, first);
        let mut index = first;
        for other in [goes_on, rolled_over, searched].into_iter().flatten() {
            if outcome != Err(UnprotectError::Authentication) || !copy.restore(packet) {
                break;
            }
            index = other;
            outcome = self.open_rtp(&Window::default(), packet, header_len, ssrc, index);
        }
        self.unfound += u64::from(outcome.is_err());
        let len = outcome?;
        self.streams.entry(ssrc).rtp.insert(index);
        Ok(len)
    }

    #[inline]
    fn open_rtp(
        &self,
        window: &Window,
        packet: &mut [u8],
        header_len: usize,
        ssrc: u32,
        index: u64,
    ) -> Result<usize, UnprotectError> {
        if index >= RTP_INDEX_END || !window.is_new(index) {
            return Err(UnprotectError::Replay);
        }
        let opened = self.transforms.open_rtp(packet, header_len, ssrc, index);
        opened.map_err(|Forged| UnprotectError::Authentication)
    }

    fn unprotect_rtcp(&mut self, packet: &mut [u8]) -> Result<usize, UnprotectError> {
        let ssrc = rtcp_sender(packet).ok_or(UnprotectError::Malformed)?;
        if packet.len() < RTCP_HEADER_BYTES + self.transforms.suite.rtcp_trailer_bytes() {
            return Err(UnprotectError::Malformed);
        }
        let index = u64::from(self.transforms.rtcp_index(packet));
        if self
            .streams
            .find(ssrc)
            .is_some_and(|stream| !stream.rtcp.is_new(index))
        {
            return Err(UnprotectError::Replay);
        }
        let opened = self.transforms.open_rtcp(packet, ssrc);
        let len = opened.map_err(|Forged| UnprotectError::Authentication)?;
        self.streams.entry(ssrc).rtcp.insert(index);
        Ok(len)
    }
}

/// A packet as it was, for another attempt.
struct Copied {
    bytes: [u8; RETRY_BYTES_MAX],
    state: CopyState,
}

#[derive(Clone, Copy)]
enum CopyState {
    Copied,
    TooLong,
    /// No attempt spoils it.
    Needless,
}

impl Copied {
    fn of(packet: &[u8]) -> Self {
        let mut bytes = [0; RETRY_BYTES_MAX];
        let state = match bytes.get_mut(..packet.len()) {
            Some(room) => {
                room.copy_from_slice(packet);
                CopyState::Copied
            }
            None => CopyState::TooLong,
        };
        Self { bytes, state }
    }

    fn needless() -> Self {
        Self {
            bytes: [0; RETRY_BYTES_MAX],
            state: CopyState::Needless,
        }
    }

    /// True if `packet` is what it was.
    fn restore(&self, packet: &mut [u8]) -> bool {
        match self.state {
            CopyState::Copied => {
                let len = packet.len();
                packet.copy_from_slice(&self.bytes[..len]);
                true
            }
            CopyState::TooLong => false,
            CopyState::Needless => true,
        }
    }
}

/// Length of the header, sequence number and SSRC.
#[inline]
fn rtp_header(packet: &[u8]) -> Result<(usize, u16, u32), RtpError> {
    let reader = RtpReader::parse_encrypted(packet)?;
    let header = reader.header();
    Ok((reader.header_len(), header.sequence, header.ssrc.0))
}

/// SSRC of the first packet of a compound one.
#[inline]
fn rtcp_sender(packet: &[u8]) -> Option<u32> {
    let &[first, _, _, _, a, b, c, d] = packet.first_chunk()?;
    (first >> 6 == 2).then_some(u32::from_be_bytes([a, b, c, d]))
}

#[cfg(test)]
mod tests;
