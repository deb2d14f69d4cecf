//! What the engine has to say: events, replies and sockets it no longer needs, in bounded queues.

use std::{collections::VecDeque, time::SystemTime};

use crate::{
    command::{EngineEvent, EventKind, Reply, ReplyToken, SessionKey, SocketId},
    limits,
    spec::Name,
};

/// Text of a peer, kept in place: the packet path does not allocate.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ByeReason {
    bytes: [u8; limits::BYE_REASON_BYTES_MAX],
    len: u8,
}

impl ByeReason {
    /// The first bytes of what the peer wrote.
    pub(crate) fn new(reason: &[u8]) -> Self {
        let len = reason.len().min(limits::BYE_REASON_BYTES_MAX);
        let mut bytes = [0; limits::BYE_REASON_BYTES_MAX];
        bytes[..len].copy_from_slice(&reason[..len]);
        Self {
            bytes,
            len: len as u8,
        }
    }

    /// As UTF-8; what is not, cut or never was, is left out or replaced.
    fn text(&self) -> Box<str> {
        let bytes = &self.bytes[..usize::from(self.len)];
        let whole = match std::str::from_utf8(bytes) {
            // A character that the cut went through.
            Err(error) if error.error_len().is_none() => &bytes[..error.valid_up_to()],
            Ok(_) | Err(_) => bytes,
        };
        String::from_utf8_lossy(whole).into()
    }
}

#[derive(Debug)]
struct Pending {
    event: EngineEvent,
    bye: Option<ByeReason>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Outbox {
    events: VecDeque<Pending>,
    lost_events: u64,
    replies: VecDeque<(ReplyToken, Reply)>,
    lost_replies: u64,
    releases: VecDeque<SocketId>,
}

impl Outbox {
    pub(crate) fn new() -> Self {
        Self {
            events: VecDeque::with_capacity(limits::ENGINE_EVENTS_MAX),
            lost_events: 0,
            replies: VecDeque::new(),
            lost_replies: 0,
            releases: VecDeque::new(),
        }
    }

    pub(crate) fn event(
        &mut self,
        session: SessionKey,
        subject: Option<&Name>,
        at: SystemTime,
        kind: EventKind,
    ) {
        self.push(Pending {
            event: EngineEvent {
                session,
                subject: subject.cloned(),
                at,
                kind,
            },
            bye: None,
        });
    }

    /// A BYE; its text is made when the event is taken.
    pub(crate) fn bye(&mut self, session: SessionKey, subject: &Name, at: SystemTime, reason: ByeReason) {
        let kind = EventKind::PeerBye {
            reason: Box::default(),
        };
        let event = EngineEvent {
            session,
            subject: Some(subject.clone()),
            at,
            kind,
        };
        self.push(Pending {
            event,
            bye: Some(reason),
        });
    }

    fn push(&mut self, pending: Pending) {
        // The queue has its whole capacity from the start, so this never allocates.
        if self.events.len() < limits::ENGINE_EVENTS_MAX {
            self.events.push_back(pending);
        } else {
            self.lost_events += 1;
        }
    }

    pub(crate) fn take_event(&mut self) -> Option<EngineEvent> {
        let Pending { mut event, bye } = self.events.pop_front()?;
        if let Some(bye) = bye {
            event.kind = EventKind::PeerBye { reason: bye.text() };
        }
        Some(event)
    }

    pub(crate) fn lost_events(&self) -> u64 {
        self.lost_events
    }

    pub(crate) fn reply(&mut self, token: ReplyToken, reply: Reply) {
        if self.replies.len() < limits::ENGINE_REPLIES_MAX {
            self.replies.push_back((token, reply));
        } else {
            self.lost_replies += 1;
        }
    }

    pub(crate) fn take_reply(&mut self) -> Option<(ReplyToken, Reply)> {
        self.replies.pop_front()
    }

    pub(crate) fn lost_replies(&self) -> u64 {
        self.lost_replies
    }

    /// Bounded by the sockets there are: each is released once.
    pub(crate) fn release(&mut self, socket: SocketId) {
        self.releases.push_back(socket);
    }

    pub(crate) fn take_release(&mut self) -> Option<SocketId> {
        self.releases.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_cut_at_a_character() {
        assert_eq!(&*ByeReason::new(b"bye").text(), "bye");
        assert_eq!(&*ByeReason::new(b"").text(), "");
        let long = "x".repeat(63) + "\u{e4}";
        assert_eq!(&*ByeReason::new(long.as_bytes()).text(), "x".repeat(63));
        assert_eq!(&*ByeReason::new(&[0xff, b'a']).text(), "\u{fffd}a");
    }

    #[test]
    fn a_full_queue_loses_the_newest_and_counts() {
        let mut outbox = Outbox::new();
        for n in 0..limits::ENGINE_EVENTS_MAX as u64 + 3 {
            outbox.event(SessionKey(n), None, SystemTime::UNIX_EPOCH, EventKind::Silent);
        }
        assert_eq!(outbox.lost_events(), 3);
        assert_eq!(
            outbox.take_event().map(|event| event.session),
            Some(SessionKey(0))
        );
    }
}
