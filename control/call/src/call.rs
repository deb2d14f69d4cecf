//! A call: a caller and whoever is brought to it, with one media session.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use bytes::Bytes;
use proto::mediad::v1::EndpointStats;
use serde::{Deserialize, Serialize};
use sip::{
    header::NameAddr,
    message::{Header, StatusCode},
    stack::DialogKey,
    uri::Uri,
};

use crate::{
    cdr::{CallOrigin, RecordingDetail},
    controller::{Displacement, Notify},
    domain::{EntryId, Name, OfferId},
    journal::EndedBy,
    leg::Leg,
    media::MediaPlan,
    menu::{Choice, Selection},
    pool::HostId,
    registrar::Binding,
    routing::Destination,
    services::RecordingFormat,
    trunk::{TargetId, TrunkId},
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
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

    /// One of the two asked to bring the other to somebody else, or left it alone after that failed.
    pub(crate) fn on_transfer(&mut self) -> bool {
        self.step(&[Self::Connecting, Self::Talking], Self::Waiting)
    }

    /// Nobody took the transferred party; who transferred it has it back.
    pub(crate) fn on_returned(&mut self) -> bool {
        self.step(&[Self::Waiting], Self::Connecting)
    }

    /// Its media session is gone, and nobody rings: it begins again with another.
    pub(crate) fn on_displaced(&mut self) -> bool {
        self.step(&[Self::Waiting], Self::Preparing)
    }

    /// Lasts for more than a moment, so that it is worth going on with after a restart.
    pub(crate) fn is_lasting(self) -> bool {
        match self {
            Self::Waiting | Self::Ringing | Self::Connecting | Self::AwaitingAnswer | Self::Talking => true,
            Self::Preparing | Self::Offering | Self::Ended => false,
        }
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

/// A party of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Side {
    /// Who called; after a transfer by the caller, who was called and waits for somebody now.
    Caller,
    /// Who was brought to it.
    Callee,
    /// Who asked for a transfer that is under way.
    Transferor,
    /// Who takes another's place by INVITE with Replaces.
    Newcomer,
    /// A member of a conference; the number is the member's.
    Member,
}

/// How a call came to its end.
#[derive(Debug, Clone)]
pub(crate) struct End {
    pub(crate) by: EndedBy,
    pub(crate) status: StatusCode,
    pub(crate) reason: String,
    pub(crate) at_unix_us: u64,
}

/// A transfer under way: the party that asked for it stands aside until it is known how it ends.
#[derive(Debug)]
pub(crate) struct Transfer {
    /// Who asked. Its state says whether it is still there.
    pub(crate) leg: Leg,
    /// Where it wants to be told how it goes (RFC 3515), and the Event id to tell it with.
    pub(crate) notify: Option<(DialogKey, Option<u32>)>,
    /// What it was told last.
    pub(crate) told: Option<StatusCode>,
    /// To whom, as dialled.
    pub(crate) to: String,
    /// Whom the target is told that asked (Referred-By).
    pub(crate) referred_by: NameAddr,
    /// The party comes from this call, and leaves it when it is here.
    pub(crate) from: Option<(CallId, Side)>,
    /// The trunk's target by which who asked was reached, if it was by one.
    pub(crate) way: Option<TargetId>,
    /// The call's `last_way` before.
    pub(crate) last_way: Option<TargetId>,
}

/// Who takes another's place (RFC 3891).
#[derive(Debug)]
pub(crate) struct Newcomer {
    pub(crate) leg: Leg,
    /// Whose place.
    pub(crate) replaces: Side,
    /// Our tag, by which the journal knows that it waits and repeats nothing.
    pub(crate) waits: Option<String>,
}

/// A party that was in the call, for its detail record.
#[derive(Debug, Clone)]
pub(crate) struct Past {
    pub(crate) side: Side,
    pub(crate) address: NameAddr,
    pub(crate) user: Option<Name>,
    pub(crate) endpoint: String,
    pub(crate) codec: String,
    pub(crate) srtp: String,
    pub(crate) joined_unix_us: u64,
    pub(crate) left_unix_us: u64,
}

impl Past {
    pub(crate) fn of(leg: &Leg, side: Side, left_unix_us: u64) -> Self {
        Self {
            side,
            address: leg.address.clone(),
            user: leg.user.clone(),
            endpoint: leg.endpoint.clone(),
            codec: leg.codec(),
            srtp: leg.srtp().to_owned(),
            joined_unix_us: leg.joined_unix_us,
            left_unix_us,
        }
    }
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
    /// Devices that may be offered their audio in another profile too, by endpoint.
    pub(crate) others: BTreeMap<String, OtherProfile>,
    /// The best refusal so far.
    pub(crate) refusal: Option<StatusCode>,
    /// Where a phone wants its calls to go.
    pub(crate) moved_to: Option<Uri>,
}

/// Who was called sent the call elsewhere.
#[derive(Debug, Clone)]
pub(crate) struct Redirected {
    /// Who, the last time.
    pub(crate) by: Name,
    /// How often.
    pub(crate) count: u32,
}

/// A device that may want its audio offered in another profile.
#[derive(Debug)]
pub(crate) struct OtherProfile {
    pub(crate) binding: Binding,
    /// It was.
    pub(crate) is_tried: bool,
}

impl Round {
    /// Notes that a device refused; the best of them is what the caller is told.
    pub(crate) fn refused(&mut self, status: StatusCode) {
        let is_better = self.refusal.is_none_or(|best| rank(status) < rank(best));
        if is_better {
            self.refusal = Some(status);
        }
    }

    /// Those of the rest that the user prefers most; they are in that order.
    pub(crate) fn next_devices(&mut self) -> Vec<(String, Binding)> {
        let most = self.devices.first().map(|(_, device)| device.preference());
        let is_as_good = |(_, device): &&(String, Binding)| Some(device.preference()) == most;
        let count = self.devices.iter().take_while(is_as_good).count();
        self.devices.drain(..count).collect()
    }

    /// Nobody is left who could answer.
    pub(crate) fn is_over(&self) -> bool {
        !self.branches.iter().any(|leg| leg.state.is_pending())
    }
}

/// RFC 3261 §16.7 step 6: 6xx first, then what says most about the person, then what says least.
pub(crate) fn rank(status: StatusCode) -> u16 {
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

/// A call that is recorded.
#[derive(Debug)]
pub(crate) struct Recorded {
    /// As configured when it was begun, or this process was.
    pub(crate) format: RecordingFormat,
    /// The audio is masked: somebody says the number of a card.
    pub(crate) is_paused: bool,
    /// Of the session it has now: each media host writes a file of its own.
    pub(crate) segment: u32,
    /// The files that media hosts have finished.
    pub(crate) files: Vec<RecordingDetail>,
    /// The call is over and counted, and waits for the last file.
    pub(crate) counted: Option<Vec<EndpointStats>>,
}

impl Recorded {
    pub(crate) fn new(format: RecordingFormat) -> Self {
        Self {
            format,
            is_paused: false,
            segment: 1,
            files: Vec::new(),
            counted: None,
        }
    }

    /// The file of the session it has, or had last, is finished.
    pub(crate) fn is_finished(&self) -> bool {
        self.files.iter().any(|file| file.segment == self.segment)
    }
}

/// A machine asked for the call, and the party that is to be its caller is being rung.
#[derive(Debug, Clone)]
pub(crate) struct Summons {
    /// Where the party is brought when it has answered.
    pub(crate) next: Destination,
    /// Who calls, as its phone shows it.
    pub(crate) shown: NameAddr,
    /// Its phones ring this long.
    pub(crate) ring: Duration,
    /// They are asked to answer by themselves.
    pub(crate) auto_answer: bool,
}

/// A call.
#[derive(Debug)]
pub(crate) struct Call {
    /// Our name for it, and the media session's.
    pub(crate) name: String,
    pub(crate) stage: Stage,
    /// Whom it is for, now.
    pub(crate) destination: Destination,
    /// The queue it came by, or was transferred to.
    pub(crate) queue: Option<Name>,
    /// That whose agent took it last.
    pub(crate) served_by: Option<Name>,
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
    /// The endpoint of a phone that is heard before it answers.
    pub(crate) early: Option<String>,
    pub(crate) recorded: Option<Recorded>,
    pub(crate) transfer: Option<Transfer>,
    /// The call that one of its parties is asked to go to: the other has it brought there.
    pub(crate) goes_to: Option<CallId>,
    pub(crate) newcomer: Option<Newcomer>,
    /// Who was in it and left.
    pub(crate) past: Vec<Past>,
    /// The caller's place is taken by who was called: the caller transferred it.
    pub(crate) is_turned: bool,
    /// It was so when it joined the queue: whether who has the caller's place came by that.
    pub(crate) queued_turned: bool,
    /// Its place in the queue.
    pub(crate) entry: Option<EntryId>,
    /// Of those who wait in the queue; 1 is next.
    pub(crate) position: Option<usize>,
    /// The menu it is in, or that led it on and has it back when nobody takes it.
    pub(crate) menu: Option<Box<Selection>>,
    /// What it chose in menus.
    pub(crate) choices: Vec<Choice>,
    /// When a transfer failed and who asked for it had it back.
    pub(crate) returned: Option<Instant>,
    /// The media host does not have the prompt that should be played to who waits.
    pub(crate) lacks_prompt: bool,
    pub(crate) plan: MediaPlan,
    /// The trunk it came from. Who came by it counts for it, also in another call.
    pub(crate) rx_trunk: Option<TrunkId>,
    /// Its parties are not counted for trunks any more.
    pub(crate) has_left_trunks: bool,
    /// Who asked for it.
    pub(crate) origin: CallOrigin,
    pub(crate) summons: Option<Summons>,
    /// The account whose rights to call out count, where that is not the caller's: who sent it there is gone.
    pub(crate) behalf: Option<Name>,
    /// The number that trunks are shown in place of the other party's.
    pub(crate) caller_id: Option<String>,
    /// The trunk's target by which who has the caller's place was reached.
    pub(crate) caller_way: Option<TargetId>,
    /// The trunk's target that it was sent to, and those to try after it; then that by which who was called was reached.
    pub(crate) way: Option<TargetId>,
    /// That by which somebody was called last, known when the call counts for it no more.
    pub(crate) last_way: Option<TargetId>,
    /// Until when that target may say nothing.
    pub(crate) heard_by: Option<Instant>,
    pub(crate) ways: VecDeque<TargetId>,
    /// That target said something.
    pub(crate) heard: bool,
    /// Fields of the caller's INVITE that trunks may have to be told.
    pub(crate) said: Vec<Header>,
    /// Why it has no media host, and for how long it may have none.
    pub(crate) displaced: Option<Displacement>,
    /// The one device of the called user that is meant (RFC 5627), until it goes elsewhere.
    pub(crate) instance: Option<Bytes>,
    pub(crate) redirected: Option<Redirected>,
    /// A member of a room asked, by REFER, that this party be called into it.
    pub(crate) invited_for: Option<Notify>,
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
    /// When devices are rung that the called user prefers less.
    pub(crate) next_devices_at: Option<Instant>,
    /// Everybody rung.
    pub(crate) rung: Vec<String>,
}

impl Call {
    /// A call that has just come. What its INVITE says besides is filled in by who reads it.
    pub(crate) fn new(
        name: String,
        destination: Destination,
        caller: Leg,
        plan: MediaPlan,
        (started, started_unix_us): (Instant, u64),
    ) -> Box<Self> {
        Box::new(Self {
            name,
            stage: Stage::Preparing,
            queue: destination.queue().cloned(),
            served_by: None,
            destination,
            from: caller.address.clone(),
            to: String::new(),
            sip_call_id: String::new(),
            max_forwards: 0,
            caller,
            round: None,
            rounds: 0,
            offered: Vec::new(),
            callee: None,
            early: None,
            recorded: None,
            transfer: None,
            goes_to: None,
            newcomer: None,
            past: Vec::new(),
            is_turned: false,
            queued_turned: false,
            entry: None,
            position: None,
            menu: None,
            choices: Vec::new(),
            returned: None,
            lacks_prompt: false,
            plan,
            rx_trunk: None,
            has_left_trunks: false,
            origin: CallOrigin::default(),
            summons: None,
            behalf: None,
            caller_id: None,
            caller_way: None,
            way: None,
            last_way: None,
            heard_by: None,
            ways: VecDeque::new(),
            heard: false,
            said: Vec::new(),
            displaced: None,
            instance: None,
            redirected: None,
            invited_for: None,
            refused_by: BTreeSet::new(),
            started,
            started_unix_us,
            answered: None,
            answered_unix_us: None,
            ended: None,
            check_at: started,
            ring_until: None,
            next_devices_at: None,
            rung: Vec::new(),
        })
    }

    /// Somebody is called, or is here, by this way. Who takes the place of who called was not called.
    pub(crate) fn reached_by(&mut self, way: Option<TargetId>) {
        self.way = way;
        if !self.is_turned {
            self.last_way = way;
        }
    }

    /// The queue that who has the caller's place came by: who was brought to a caller came by none.
    pub(crate) fn came_by(&self) -> Option<&Name> {
        let is_its_own = self.is_turned == self.queued_turned;
        self.queue.as_ref().filter(|_| is_its_own)
    }

    /// Somebody sent it on from its queue: who asked for that has it back when nobody comes, or, when that one is gone, the
    /// queue.
    pub(crate) fn is_sent_on(&self) -> bool {
        let is_elsewhere = !matches!(self.destination, Destination::Queue(_));
        self.transfer.is_some() || (self.behalf.is_some() && self.came_by().is_some() && is_elsewhere)
    }

    /// When nobody takes it, it does not end: somebody, a queue or a menu has it back.
    pub(crate) fn comes_back(&self) -> bool {
        self.is_sent_on() || self.menu.is_some()
    }

    /// Who calls, as those who are rung now are shown.
    pub(crate) fn shown(&self) -> &NameAddr {
        match &self.summons {
            Some(summons) => &summons.shown,
            None => &self.caller.address,
        }
    }

    /// The endpoint of who is rung in this round; of several the first.
    pub(crate) fn endpoint_of_round(&self, round: u32) -> String {
        let seat = if self.summons.is_some() {
            "caller"
        } else {
            "callee"
        };
        format!("{seat}-{round}")
    }

    /// Takes back the endpoints of everybody rung but those that stay, which are not counted among them any more.
    pub(crate) fn withdraw_endpoints(&mut self, stays: impl Fn(&str) -> bool) {
        for name in std::mem::take(&mut self.offered) {
            if !stays(&name) {
                self.plan.remove(&name);
            }
        }
    }

    pub(crate) fn leg(&self, side: Side) -> Option<&Leg> {
        match side {
            Side::Caller => Some(&self.caller),
            Side::Callee => self.callee.as_ref(),
            Side::Transferor => self.transfer.as_ref().map(|transfer| &transfer.leg),
            Side::Newcomer => self.newcomer.as_ref().map(|newcomer| &newcomer.leg),
            Side::Member => None,
        }
    }

    pub(crate) fn leg_mut(&mut self, side: Side) -> Option<&mut Leg> {
        match side {
            Side::Caller => Some(&mut self.caller),
            Side::Callee => self.callee.as_mut(),
            Side::Transferor => self.transfer.as_mut().map(|transfer| &mut transfer.leg),
            Side::Newcomer => self.newcomer.as_mut().map(|newcomer| &mut newcomer.leg),
            Side::Member => None,
        }
    }

    /// Who talks to this party, or will.
    pub(crate) fn counterpart(&self, side: Side) -> Option<&Leg> {
        match side {
            Side::Caller => self.callee.as_ref(),
            Side::Callee => Some(&self.caller),
            Side::Transferor | Side::Newcomer | Side::Member => None,
        }
    }

    /// The dialogs that must be alive while the two talk.
    pub(crate) fn dialogs(&self) -> impl Iterator<Item = DialogKey> {
        let callee = self.callee.as_ref().and_then(|leg| leg.dialog);
        self.caller.dialog.into_iter().chain(callee)
    }

    /// Every dialog, that of a party on its way out or in included.
    pub(crate) fn all_dialogs(&self) -> impl Iterator<Item = DialogKey> {
        let others = [self.leg(Side::Transferor), self.leg(Side::Newcomer)];
        let others = others.into_iter().flatten().filter_map(|leg| leg.dialog);
        self.dialogs().chain(others)
    }

    /// What a party in this seat is in the records: who called, or who was called.
    pub(crate) fn role(&self, seat: Side) -> Side {
        match (seat, self.is_turned) {
            (Side::Caller, false) | (Side::Callee | Side::Transferor, true) => Side::Caller,
            (Side::Member, _) => Side::Member,
            (Side::Caller, true) | (Side::Callee | Side::Transferor | Side::Newcomer, _) => Side::Callee,
        }
    }

    /// Who ended it, when this party did.
    pub(crate) fn ended_by(&self, side: Side) -> EndedBy {
        match (side, self.is_turned) {
            (Side::Caller, false) | (Side::Callee, true) => EndedBy::Caller,
            (Side::Caller, true) | (Side::Callee, false) => EndedBy::Callee,
            (Side::Transferor | Side::Newcomer | Side::Member, _) => EndedBy::System,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every stage × every event: the next stage, or `.` where the event is too late or too early and does nothing.
    #[test]
    fn a_stage_is_left_by_its_own_events_only() {
        type On = fn(&mut Stage) -> bool;
        let events: [(&str, On); 10] = [
            ("prepared", Stage::on_prepared),
            ("offer", Stage::on_offer),
            ("offer_ready", Stage::on_offer_ready),
            ("round_over", Stage::on_round_over),
            ("answered", Stage::on_answered),
            ("late_offer", Stage::on_late_offer),
            ("joined", Stage::on_joined),
            ("transfer", Stage::on_transfer),
            ("returned", Stage::on_returned),
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
Waiting: offer>Offering returned>Connecting ended>Ended
Offering: offer_ready>Ringing round_over>Waiting ended>Ended
Ringing: round_over>Waiting answered>Connecting ended>Ended
Connecting: late_offer>AwaitingAnswer joined>Talking transfer>Waiting ended>Ended
AwaitingAnswer: joined>Talking ended>Ended
Talking: transfer>Waiting ended>Ended
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
            others: BTreeMap::new(),
            refusal: None,
            moved_to: None,
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
