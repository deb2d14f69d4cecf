//! A call: a caller and whoever is brought to it, with one media session.

use std::{collections::BTreeSet, time::Instant};

use sip::{header::NameAddr, message::StatusCode, stack::DialogKey};

use crate::{
    domain::{EntryId, Name, OfferId},
    journal::EndedBy,
    leg::Leg,
    media::MediaPlan,
    pool::HostId,
    registrar::Binding,
    routing::Destination,
};

/// A call's number here. Never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct CallId(pub(crate) u64);

impl CallId {
    /// Our name for the call: the number, and something that no other start of ours has.
    pub(crate) fn name(self, token: &str) -> String {
        format!("{}-{token}", self.0)
    }

    /// The number in a name of ours.
    pub(crate) fn of_name(name: &str) -> Option<Self> {
        let (number, _) = name.split_once('-')?;
        number.parse().ok().map(Self)
    }
}

/// How far a call is. Every `on_` method is a compare-and-set: true for the one event that makes the step, and only
/// then its effects are due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The caller's endpoint is being made.
    Preparing,
    /// Nobody rings: it waits for an agent.
    Waiting,
    /// An endpoint for those to be rung is being made.
    Offering,
    /// Phones ring.
    Ringing,
    /// Somebody answered; the two are being joined.
    Connecting,
    /// The caller has our 200 and will answer the offer in it by its ACK.
    AwaitingAnswer,
    /// Both answered and joined.
    Talking,
    /// Over. A sink.
    Ended,
}

impl Stage {
    pub(crate) fn on_prepared(&mut self) -> bool {
        self.step(&[Self::Preparing], Self::Waiting)
    }

    pub(crate) fn on_offer(&mut self) -> bool {
        self.step(&[Self::Waiting], Self::Offering)
    }

    pub(crate) fn on_offer_ready(&mut self) -> bool {
        self.step(&[Self::Offering], Self::Ringing)
    }

    /// Nobody of this round takes the call.
    pub(crate) fn on_round_over(&mut self) -> bool {
        self.step(&[Self::Offering, Self::Ringing], Self::Waiting)
    }

    pub(crate) fn on_answered(&mut self) -> bool {
        self.step(&[Self::Ringing], Self::Connecting)
    }

    pub(crate) fn on_late_offer(&mut self) -> bool {
        self.step(&[Self::Connecting], Self::AwaitingAnswer)
    }

    pub(crate) fn on_joined(&mut self) -> bool {
        self.step(&[Self::Connecting, Self::AwaitingAnswer], Self::Talking)
    }

    pub(crate) fn on_ended(&mut self) -> bool {
        let is_open = *self != Self::Ended;
        *self = Self::Ended;
        is_open
    }

    fn step(&mut self, from: &[Self], to: Self) -> bool {
        let allowed = from.contains(self);
        if allowed {
            *self = to;
        }
        allowed
    }
}

/// A party of a call that talks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Side {
    Caller,
    Callee,
}

/// How a call came to its end.
#[derive(Debug, Clone)]
pub(crate) struct End {
    pub(crate) by: EndedBy,
    pub(crate) status: StatusCode,
    pub(crate) reason: String,
    pub(crate) at_unix_us: u64,
}

/// The attempts to bring somebody to the caller at one time.
#[derive(Debug)]
pub(crate) struct Round {
    /// Whose phones.
    pub(crate) user: Name,
    /// The domain's offer, when the caller came by a queue.
    pub(crate) offer: Option<OfferId>,
    /// The devices to ring, each with an endpoint of its own: with one for all, who lost the race could be heard until
    /// its BYE arrives.
    pub(crate) devices: Vec<(String, Binding)>,
    /// One leg for each device.
    pub(crate) branches: Vec<Leg>,
    /// The best refusal so far.
    pub(crate) refusal: Option<StatusCode>,
}

impl Round {
    /// Notes that a device refused; the best of them is what the caller is told.
    pub(crate) fn refused(&mut self, status: StatusCode) {
        let is_better = self.refusal.is_none_or(|best| rank(status) < rank(best));
        if is_better {
            self.refusal = Some(status);
        }
    }

    /// Nobody is left who could answer.
    pub(crate) fn is_over(&self) -> bool {
        !self.branches.iter().any(|leg| leg.state.is_pending())
    }
}

/// RFC 3261 §16.7 step 6: 6xx first, then what says most about the person, then what says least.
fn rank(status: StatusCode) -> u16 {
    match status.code() {
        600.. => 0,
        486 => 1,
        480 => 3,
        408 => 5,
        400..=499 => 2,
        500..=599 => 6,
        _ => 4,
    }
}

/// A call.
#[derive(Debug)]
pub(crate) struct Call {
    /// Our name for it, and the media session's.
    pub(crate) name: String,
    pub(crate) stage: Stage,
    pub(crate) destination: Destination,
    pub(crate) from: NameAddr,
    /// As written in records.
    pub(crate) to: String,
    pub(crate) sip_call_id: String,
    /// Of the caller's INVITE, less one: so that a loop through us ends.
    pub(crate) max_forwards: u8,
    pub(crate) caller: Leg,
    pub(crate) round: Option<Round>,
    pub(crate) rounds: u32,
    /// Endpoints made for those who are or were rung.
    pub(crate) offered: Vec<String>,
    pub(crate) callee: Option<Leg>,
    /// Its place in the queue.
    pub(crate) entry: Option<EntryId>,
    /// The domain's offer that became the conversation.
    pub(crate) conversation: Option<OfferId>,
    pub(crate) plan: MediaPlan,
    /// Media hosts that did not take it.
    pub(crate) refused_by: BTreeSet<HostId>,
    pub(crate) started: Instant,
    pub(crate) started_unix_us: u64,
    pub(crate) answered: Option<Instant>,
    pub(crate) answered_unix_us: Option<u64>,
    pub(crate) ended: Option<(Instant, End)>,
    /// When it is looked after next.
    pub(crate) check_at: Instant,
    /// When the phones of a called user have rung long enough.
    pub(crate) ring_until: Option<Instant>,
    /// Everybody rung.
    pub(crate) rung: Vec<String>,
}

impl Call {
    pub(crate) fn queue(&self) -> Option<&Name> {
        match &self.destination {
            Destination::Queue(name) => Some(name),
            Destination::User(_) => None,
        }
    }

    /// Takes back the endpoints of everybody rung but this one.
    pub(crate) fn withdraw_endpoints(&mut self, but: Option<&str>) {
        for name in std::mem::take(&mut self.offered) {
            if Some(name.as_str()) != but {
                self.plan.remove(&name);
            }
        }
    }

    pub(crate) fn leg_mut(&mut self, side: Side) -> Option<&mut Leg> {
        match side {
            Side::Caller => Some(&mut self.caller),
            Side::Callee => self.callee.as_mut(),
        }
    }

    /// The dialogs that must be alive while the two talk.
    pub(crate) fn dialogs(&self) -> impl Iterator<Item = DialogKey> {
        let callee = self.callee.as_ref().and_then(|leg| leg.dialog);
        self.caller.dialog.into_iter().chain(callee)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every stage × every event: the next stage, or `.` where the event is too late or too early and does nothing.
    #[test]
    fn a_stage_is_left_by_its_own_events_only() {
        type On = fn(&mut Stage) -> bool;
        let events: [(&str, On); 8] = [
            ("prepared", Stage::on_prepared),
            ("offer", Stage::on_offer),
            ("offer_ready", Stage::on_offer_ready),
            ("round_over", Stage::on_round_over),
            ("answered", Stage::on_answered),
            ("late_offer", Stage::on_late_offer),
            ("joined", Stage::on_joined),
            ("ended", Stage::on_ended),
        ];
        let stages = [
            Stage::Preparing,
            Stage::Waiting,
            Stage::Offering,
            Stage::Ringing,
            Stage::Connecting,
            Stage::AwaitingAnswer,
            Stage::Talking,
            Stage::Ended,
        ];
        let mut table = String::new();
        for stage in stages {
            table += &format!("{stage:?}:");
            for (name, on) in events {
                let mut next = stage;
                if on(&mut next) {
                    table += &format!(" {name}>{next:?}");
                } else {
                    assert_eq!(next, stage, "a lost race changes nothing");
                }
            }
            table += "\n";
        }
        let expected = "\
Preparing: prepared>Waiting ended>Ended
Waiting: offer>Offering ended>Ended
Offering: offer_ready>Ringing round_over>Waiting ended>Ended
Ringing: round_over>Waiting answered>Connecting ended>Ended
Connecting: late_offer>AwaitingAnswer joined>Talking ended>Ended
AwaitingAnswer: joined>Talking ended>Ended
Talking: ended>Ended
Ended:
";
        assert_eq!(table, expected);
    }

    #[test]
    fn the_refusal_that_says_most_is_told() {
        let mut round = Round {
            user: "carol".into(),
            offer: None,
            devices: Vec::new(),
            branches: Vec::new(),
            refusal: None,
        };
        for (status, best) in [
            (503, 503),
            (408, 408),
            (480, 480),
            (404, 404),
            (486, 486),
            (480, 486),
            (603, 603),
        ] {
            round.refused(StatusCode::new(status).unwrap());
            assert_eq!(round.refusal.unwrap().code(), best);
        }
    }

    #[test]
    fn a_calls_number_is_read_from_its_name() {
        let name = CallId(42).name("00c0ffee00c0ffee");
        assert_eq!(
            (name.as_str(), CallId::of_name(&name)),
            ("42-00c0ffee00c0ffee", Some(CallId(42)))
        );
        for other in ["", "42", "x-1", "-1", "99999999999999999999-1"] {
            assert_eq!(CallId::of_name(other), None, "{other}");
        }
    }
}
