//! The SIP side of one party.

use std::{cell::OnceCell, net::IpAddr, ops::Deref};

use bytes::Bytes;
use sdp::{
    Codec, CryptoSuite, Description, Format, LocalSession, LocalTransport, MediaKind, NegotiatedMedia,
    OfferedMedia, Selection,
};
use serde::{Deserialize, Serialize};
use sip::{
    header::NameAddr,
    message::{HeaderName, Request},
    stack::{ClientTxn, DialogKey, Flow, ServerTxn},
};

use crate::{
    controller::Notify,
    domain::{Name, OfferId},
    media::{Endpoint, Party},
    saved::without_keys,
    security::{Security, Srtp},
    trunk::TrunkId,
};

/// How far a party is. Every `on_` method makes its step and says true, or changes nothing and says false: of two
/// events that cross, one finds the state it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LegState {
    /// INVITE sent or received.
    Inviting,
    /// 180 sent or received.
    Ringing,
    /// We sent CANCEL and wait for the INVITE's end.
    Cancelling,
    /// 2xx sent or received, without its ACK.
    Answered,
    /// ACK sent or received.
    Talking,
    /// Refused, cancelled, or hung up.
    Ended,
}

impl LegState {
    pub(crate) fn on_ringing(&mut self) -> bool {
        self.step(matches!(self, Self::Inviting), Self::Ringing)
    }

    pub(crate) fn on_answered(&mut self) -> bool {
        self.step(self.is_pending(), Self::Answered)
    }

    pub(crate) fn on_acknowledged(&mut self) -> bool {
        self.step(matches!(self, Self::Answered), Self::Talking)
    }

    pub(crate) fn on_cancel(&mut self) -> bool {
        self.step(self.is_pending(), Self::Cancelling)
    }

    pub(crate) fn on_ended(&mut self) -> bool {
        self.step(!matches!(self, Self::Ended), Self::Ended)
    }

    /// May still be answered, and we want it to be.
    pub(crate) fn is_pending(self) -> bool {
        matches!(self, Self::Inviting | Self::Ringing)
    }

    /// Its INVITE has no answer that is known to have arrived.
    pub(crate) fn is_open(self) -> bool {
        self.is_pending() || self == Self::Answered
    }

    /// Has a dialog to end by BYE.
    pub(crate) fn is_confirmed(self) -> bool {
        matches!(self, Self::Answered | Self::Talking)
    }

    fn step(&mut self, allowed: bool, next: Self) -> bool {
        if allowed {
            *self = next;
        }
        allowed
    }
}

/// The INVITE that made the leg.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Invite {
    /// From the party.
    Received(ServerTxn),
    /// To the party.
    Sent(ClientTxn),
    /// Answered by the process before this one.
    Adopted,
    /// None yet: the party is to be called.
    Due,
}

/// A description, and beside it its text and what the journal keeps of that: written once, however often its call is
/// recorded.
#[derive(Debug, Clone)]
pub(crate) struct Offer {
    description: Description,
    text: OnceCell<Bytes>,
    kept: OnceCell<Bytes>,
}

impl Offer {
    /// One that was read from this text, which is kept unless there may be keys in it: those are found in lines as we
    /// write them.
    pub(crate) fn received(description: Description, text: Bytes) -> Self {
        let offer = Self::from(description);
        let may_hold_keys = text.windows(6).any(|word| word.eq_ignore_ascii_case(b"crypto"));
        if may_hold_keys {
            return offer;
        }
        Self {
            text: text.into(),
            ..offer
        }
    }

    /// Its text, as it is sent.
    pub(crate) fn text(&self) -> Bytes {
        let write = || self.description.text().into();
        self.text.get_or_init(write).clone()
    }

    /// Its text without the lines that hold keys.
    pub(crate) fn kept(&self) -> Bytes {
        let write = || without_keys(self.text());
        self.kept.get_or_init(write).clone()
    }
}

impl From<Description> for Offer {
    fn from(description: Description) -> Self {
        Self {
            description,
            text: OnceCell::new(),
            kept: OnceCell::new(),
        }
    }
}

impl Deref for Offer {
    type Target = Description;

    fn deref(&self) -> &Description {
        &self.description
    }
}

/// The party's description in the exchange that is under way or was last.
#[derive(Debug, Clone)]
pub(crate) enum Exchange {
    /// None yet.
    None,
    /// The party offered; our answer is outstanding or was sent.
    Theirs {
        offer: Offer,
        selections: Vec<Selection>,
    },
    /// We offered.
    Ours { offer: Offer },
}

/// One party.
#[derive(Debug)]
pub(crate) struct Leg {
    pub(crate) state: LegState,
    pub(crate) invite: Invite,
    /// The INVITE it sent, and how it came, for who may have to answer it after a restart; until its ACK comes.
    pub(crate) arrived: Option<(Bytes, Flow)>,
    /// Its INVITE, which the process before answered, while the answer cannot be told again for lack of keys.
    pub(crate) unheard: Option<ServerTxn>,
    /// It was told the answer of the process before again, and has not acknowledged that.
    pub(crate) is_told_again: bool,
    /// The trunk that it came by, for which it counts as long as it is there.
    pub(crate) rx_trunk: Option<TrunkId>,
    /// The dialog: a caller's from the start, a callee's once it answered.
    pub(crate) dialog: Option<DialogKey>,
    /// Dialogs that ringing made, one for each phone that a proxy rings.
    pub(crate) early: Vec<DialogKey>,
    /// Who it is, when it is one of our users.
    pub(crate) user: Option<Name>,
    /// The name of the trunk that it came by, or is reached by, whose list of codecs is its own.
    pub(crate) trunk: Option<Name>,
    /// Its address, as others are told.
    pub(crate) address: NameAddr,
    /// The domain's offer that made it an agent's conversation: released exactly once, when the leg is over.
    pub(crate) conversation: Option<OfferId>,
    /// Where its signalling comes from.
    pub(crate) peer: IpAddr,
    /// Its endpoint in the media graph.
    pub(crate) endpoint: String,
    /// Whether its audio is to be encrypted.
    pub(crate) security: Security,
    /// It is offered encrypted audio only, though it need not encrypt: it refuses the other offer.
    pub(crate) insists: bool,
    pub(crate) exchange: Exchange,
    pub(crate) media: Option<NegotiatedMedia>,
    /// Our side's description, once one was written.
    pub(crate) session: Option<LocalSession>,
    /// The caller has our description: in a 183 or in the 200.
    pub(crate) is_described: bool,
    /// Digits reach it by INFO: it takes no telephone-events, and said that it takes those.
    pub(crate) takes_info: bool,
    /// A re-INVITE or UPDATE with an offer that waits for the media host.
    pub(crate) reoffer: Option<Reoffer>,
    /// A re-INVITE of the party's without offer was answered with ours: its ACK holds the answer.
    pub(crate) awaits_answer: bool,
    /// Its media stopped.
    pub(crate) is_silent: bool,
    /// When the media host noticed that, by its clock, in microseconds since the Unix epoch.
    pub(crate) silent_unix_us: u64,
    /// REFERs it sent: from the second on, NOTIFYs say which they are about (RFC 3515 §2.4.6).
    pub(crate) refers: u32,
    /// When it came into the call, in microseconds since the Unix epoch.
    pub(crate) joined_unix_us: u64,
}

/// A party's new offer, and what stands again should the media host refuse it.
#[derive(Debug)]
pub(crate) struct Reoffer {
    pub(crate) txn: ServerTxn,
    /// The request, and how it came, for who may have to answer it after a restart.
    pub(crate) arrived: Option<(Bytes, Flow)>,
    pub(crate) media: Option<NegotiatedMedia>,
    pub(crate) exchange: Exchange,
}

impl Leg {
    pub(crate) fn new(
        invite: Invite,
        address: NameAddr,
        peer: IpAddr,
        endpoint: &str,
        security: Security,
    ) -> Self {
        Self {
            state: LegState::Inviting,
            invite,
            arrived: None,
            unheard: None,
            is_told_again: false,
            rx_trunk: None,
            dialog: None,
            early: Vec::new(),
            user: None,
            trunk: None,
            address,
            conversation: None,
            peer,
            endpoint: endpoint.to_owned(),
            security,
            insists: false,
            exchange: Exchange::None,
            media: None,
            session: None,
            is_described: false,
            takes_info: false,
            reoffer: None,
            awaits_answer: false,
            is_silent: false,
            silent_unix_us: 0,
            refers: 0,
            joined_unix_us: 0,
        }
    }

    /// Whose list of codecs is its own.
    pub(crate) fn party(&self) -> Party {
        Party {
            user: self.user.clone(),
            trunk: self.trunk.clone(),
        }
    }

    /// The codec agreed on, as an rtpmap names it; empty before.
    pub(crate) fn codec(&self) -> String {
        let first = self.media.as_ref().and_then(|media| media.formats.first());
        first.map_or_else(String::new, |format| format.codec.name.to_string())
    }

    /// The suite its audio is encrypted with, by its registered name; empty when it is not.
    pub(crate) fn srtp(&self) -> &'static str {
        self.suite().map_or("", CryptoSuite::as_str)
    }

    pub(crate) fn suite(&self) -> Option<CryptoSuite> {
        let sdes = self.media.as_ref()?.sdes.as_ref()?;
        Some(sdes.remote.suite)
    }

    /// Its endpoint once this is agreed. While an offer of ours stands, each of its keys stays good: another phone that
    /// a proxy rings may choose another (RFC 4568 §7.3).
    pub(crate) fn endpoint_for(&self, media: &NegotiatedMedia) -> Endpoint {
        let chosen = media.sdes.as_ref().map(|sdes| sdes.remote.suite);
        let offered = match &self.exchange {
            Exchange::Ours { offer } => offer.media().get(media.index),
            Exchange::Theirs { .. } | Exchange::None => None,
        };
        let offered = offered.into_iter().flat_map(|line| &line.crypto);
        let mut suites: Vec<CryptoSuite> = offered.map(|crypto| crypto.suite).collect();
        match chosen {
            None => suites.clear(),
            Some(chosen) if !suites.contains(&chosen) => suites = vec![chosen],
            Some(_) => {}
        }
        Endpoint::agreed(media, self.peer, suites)
    }

    /// What a new offer of it may be answered with: what the policy lets it speak, and what it speaks already, though the
    /// policy may have become another one.
    pub(crate) fn offerable(&self, mut policy: Vec<Codec>) -> Vec<Codec> {
        for format in self.media.iter().flat_map(|media| &media.formats) {
            if !policy.iter().any(|codec| codec.matches(&format.codec)) {
                policy.push(Codec {
                    fmtp: format.local_fmtp.clone(),
                    ..format.codec.clone()
                });
            }
        }
        policy
    }

    /// Takes a new offer of the party, which `txn` is to answer. Gives its endpoint.
    pub(crate) fn take_offer(
        &mut self,
        txn: ServerTxn,
        (offer, selections): (Offer, Vec<Selection>),
        media: NegotiatedMedia,
    ) -> Endpoint {
        let exchange = std::mem::replace(&mut self.exchange, Exchange::Theirs { offer, selections });
        let endpoint = self.endpoint_for(&media);
        let media = self.media.replace(media);
        self.reoffer = Some(Reoffer {
            txn,
            arrived: None,
            media,
            exchange,
        });
        endpoint
    }

    /// An offer of audio to it. What was once said on an encrypted line stays encrypted (RFC 3264 §8.3.1 lets nobody
    /// change the profile unasked); a first one may be answered without, unless that is not allowed.
    pub(crate) fn offered_audio(&self, formats: Vec<Format>, mut transport: LocalTransport) -> OfferedMedia {
        let is_secure = self.media.as_ref().is_some_and(|media| media.secure);
        transport.opportunistic = self.security.srtp != Srtp::Required && !is_secure && !self.insists;
        OfferedMedia::Audio {
            formats,
            transport,
            rtcp_mux: false,
            mid: None,
        }
    }

    /// What is agreed with it, offered again: under the key in use, which thereby stays (RFC 4568 §7.1.4).
    pub(crate) fn audio_again(&self, mut transport: LocalTransport) -> Option<OfferedMedia> {
        let formats = self.media.as_ref()?.formats.iter().map(|format| Format {
            payload_type: format.rx_payload_type,
            codec: Codec {
                fmtp: format.local_fmtp.clone(),
                ..format.codec.clone()
            },
        });
        let suite = self.suite();
        transport.sdes.retain(|crypto| Some(crypto.suite) == suite);
        Some(self.offered_audio(formats.collect(), transport))
    }

    /// The lines of another offer to it: `audio` where the audio is, and those that are switched off in their places.
    pub(crate) fn lines_again(&self, audio: OfferedMedia) -> Vec<OfferedMedia> {
        let (before, place) = match &self.exchange {
            Exchange::None => return vec![audio],
            Exchange::Theirs { offer, selections } => {
                let is_audio = |selection: &Selection| matches!(selection, Selection::Audio(_));
                (offer, selections.iter().position(is_audio))
            }
            Exchange::Ours { offer } => {
                let is_on = |line: &sdp::Media| line.kind == MediaKind::Audio && !line.is_rejected();
                (offer, offer.media().iter().position(is_on))
            }
        };
        sdp::offer_again(before, place.unwrap_or(usize::MAX), audio)
    }

    /// It put its counterpart on hold: it does not want to hear anything.
    pub(crate) fn holds(&self) -> bool {
        self.media.as_ref().is_some_and(|media| !media.direction.sends())
    }

    /// The media host noticed that its media stopped.
    pub(crate) fn fell_silent(&mut self, at_unix_us: u64) {
        (self.is_silent, self.silent_unix_us) = (true, at_unix_us);
    }

    /// The media host says when it was heard last, which may have been since.
    pub(crate) fn was_heard(&mut self, last_unix_us: u64) {
        self.is_silent &= last_unix_us <= self.silent_unix_us;
    }

    /// It should be sending and does not. Who put its counterpart on hold need not.
    pub(crate) fn is_missed(&self) -> bool {
        self.is_silent && self.media.as_ref().is_none_or(|media| media.direction.receives())
    }

    /// It sent a REFER. Where NOTIFYs about that go, unless it wants none (RFC 4488).
    pub(crate) fn subscribe_refer(&mut self, request: &Request) -> Option<Notify> {
        let headers = &request.headers;
        let refuses = headers
            .get(HeaderName::ReferSub)
            .is_some_and(|value| value.eq_ignore_ascii_case(b"false"));
        self.refers += 1;
        // RFC 3515 §2.4.6: the first needs no id, the others must have one.
        let cseq = headers.cseq().map_or(0, |cseq| cseq.number);
        let event_id = (self.refers > 1).then_some(cseq);
        Some((self.dialog?, event_id)).filter(|_| !refuses)
    }

    /// Digits reach it as telephone-events.
    pub(crate) fn takes_events(&self) -> bool {
        let formats = self.media.iter().flat_map(|media| &media.formats);
        formats
            .into_iter()
            .any(|format| format.codec.is_telephone_event())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_party_moves_by_its_own_events_only() {
        type On = fn(&mut LegState) -> bool;
        let events: [(&str, On); 5] = [
            ("ringing", LegState::on_ringing),
            ("answered", LegState::on_answered),
            ("acknowledged", LegState::on_acknowledged),
            ("cancel", LegState::on_cancel),
            ("ended", LegState::on_ended),
        ];
        let states = [
            LegState::Inviting,
            LegState::Ringing,
            LegState::Cancelling,
            LegState::Answered,
            LegState::Talking,
            LegState::Ended,
        ];
        let mut table = String::new();
        for state in states {
            table += &format!("{state:?}:");
            for (name, on) in events {
                let mut next = state;
                if on(&mut next) {
                    table += &format!(" {name}>{next:?}");
                } else {
                    assert_eq!(next, state, "a lost race changes nothing");
                }
            }
            table += "\n";
        }
        let expected = "\
Inviting: ringing>Ringing answered>Answered cancel>Cancelling ended>Ended
Ringing: answered>Answered cancel>Cancelling ended>Ended
Cancelling: ended>Ended
Answered: acknowledged>Talking ended>Ended
Talking: ended>Ended
Ended:
";
        assert_eq!(table, expected);
    }
}
