//! A call as the journal keeps it: enough to go on with it in another process.
//!
//! Keys of encrypted media are not in it: they never go to a disk.

pub(crate) mod parts;

use std::{
    borrow::Cow,
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use sdp::{Codec, Crypto, CryptoSuite, Direction, NegotiatedFormat, NegotiatedMedia, NegotiatedSdes};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sip::{
    dialog::{DialogRecord, SessionTimer, SessionTimerRole},
    header::{HeaderValue as _, NameAddr},
    stack::{Flow, FlowId, InviteRecord, InvitedRecord, Target, Transport},
};

use crate::{
    call::{End, Recorded, Stage, Summons},
    cdr::{CallOrigin, RecordingDetail},
    journal::EndedBy,
    leg::LegState,
    menu::{Choice, Menu, Selection},
    routing::Destination,
    security::Security,
    services::RecordingFormat,
};
pub(crate) use parts::Part;
use parts::{impl_part, in_parts, told_as_a_whole, told_unless_absent};

in_parts! {
    /// A call in the journal. The newest one of a call counts, with the changes after it.
    pub struct SavedCall, CallChange, CallDigests {
        call: String,
        stage: Stage,
        destination: SavedDestination,
        #[serde(skip_serializing_if = "Option::is_none")]
        queue: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        served_by: Option<String>,
        from: Octets,
        to: String,
        sip_call_id: String,
        max_forwards: u8,
        caller: SavedLeg,
        #[serde(skip_serializing_if = "Option::is_none")]
        callee: Option<SavedLeg>,
        /// Phones that ring.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        ringing: Vec<SavedInvite>,
        /// Parties on their way out or in.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        others: Vec<SavedDialog>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        past: Vec<SavedPast>,
        is_turned: bool,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        queued_turned: bool,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        recorded: Option<SavedRecorded>,
        rounds: u32,
        rung: Vec<String>,
        /// The trunk it came from, and the one it was sent to with the target's number.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rx_trunk: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        way: Option<(String, usize)>,
        /// Where it went out last, also when it does no more.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        last_way: Option<(String, usize)>,
        /// The account whose rights to call out count, where that is not the caller's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        behalf: Option<String>,
        /// As `way`, for the caller of a call that a machine asked for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        caller_way: Option<(String, usize)>,
        #[serde(default)]
        origin: CallOrigin,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        summons: Option<SavedSummons>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        caller_id: Option<String>,
        /// The one device of the called user that is meant (RFC 5627).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        instance: Option<Octets>,
        /// The menu it is in, or has it back.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        menu: Option<SavedSelection>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        choices: Vec<Choice>,
        /// Its place in the queue.
        #[serde(skip_serializing_if = "Option::is_none")]
        place: Option<SavedPlace>,
        media: SavedMedia,
        started_unix_us: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        answered_unix_us: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        ended: Option<SavedEnd>,
    }
}

told_as_a_whole! {
    String, Octets, u8, u32, u64, IpAddr, Stage, LegState, Security, SavedDestination, SavedExchange, SavedMedia,
}

told_unless_absent! {
    bool, CallOrigin, Vec<String>, Vec<SavedInvite>, Vec<SavedDialog>, Vec<SavedPast>,
    Option<String>, Option<Octets>, Option<u64>, Option<(u64, u64)>, Option<(String, usize)>,
    Option<SavedDialog>, Option<SavedInvited>, Option<SavedAgreed>, Option<SavedRecorded>, Option<SavedSummons>,
    Option<SavedPlace>, Option<SavedSelection>, Vec<Choice>, Option<SavedEnd>, Option<SocketAddr>, Option<(SocketAddr, Option<u16>)>,
}

impl Part for Option<SavedLeg> {
    type Change = Option<LegChange>;
    type Digest = Option<LegDigests>;

    fn digest(&self) -> Self::Digest {
        self.as_ref().map(Part::digest)
    }

    fn change(self, told: &mut Self::Digest) -> Option<Self::Change> {
        match self {
            Some(leg) => leg.change(told.get_or_insert_default()).map(Some),
            None => told.take().map(|_| None),
        }
    }

    fn apply(&mut self, change: Self::Change) {
        match (self, change) {
            (Some(leg), Some(change)) => leg.apply(change),
            (leg, change) => *leg = SavedLeg::whole(change),
        }
    }

    fn whole(change: Option<Self::Change>) -> Option<Self> {
        match change.flatten() {
            Some(change) => SavedLeg::whole(Some(change)).map(Some),
            None => Some(None),
        }
    }
}

impl SavedCall {
    /// Our name for the call.
    pub fn call(&self) -> &str {
        &self.call
    }
}

/// Its recording, the files of media hosts it was on before included.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct SavedRecorded {
    pub(crate) paused: bool,
    pub(crate) segment: u32,
    pub(crate) files: Vec<RecordingDetail>,
}

impl SavedRecorded {
    pub(crate) fn of(recorded: &Recorded) -> Self {
        Self {
            paused: recorded.is_paused,
            segment: recorded.segment,
            files: recorded.files.clone(),
        }
    }

    pub(crate) fn restore(&self, format: RecordingFormat) -> Recorded {
        Recorded {
            is_paused: self.paused,
            segment: self.segment,
            files: self.files.clone(),
            ..Recorded::new(format)
        }
    }
}

/// See [`Summons`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct SavedSummons {
    next: SavedDestination,
    shown: Octets,
    ring_s: u64,
    auto_answer: bool,
}

impl SavedSummons {
    pub(crate) fn of(summons: &Summons) -> Self {
        Self {
            next: SavedDestination::of(&summons.next),
            shown: Octets(written(&summons.shown)),
            ring_s: summons.ring.as_secs(),
            auto_answer: summons.auto_answer,
        }
    }

    pub(crate) fn restore(&self) -> Option<Summons> {
        Some(Summons {
            next: self.next.restore(),
            shown: NameAddr::parse(&self.shown.0).ok()?,
            ring: Duration::from_secs(self.ring_s),
            auto_answer: self.auto_answer,
        })
    }
}

/// See [`Selection`]. What was typed is asked for again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct SavedSelection {
    name: String,
    asked: u32,
    tries: u32,
    is_given_up: bool,
}

impl SavedSelection {
    pub(crate) fn of(selection: &Selection) -> Self {
        Self {
            name: selection.menu.name.clone(),
            asked: selection.asked,
            tries: selection.tries,
            is_given_up: selection.is_given_up,
        }
    }

    /// `None` if the menu is not among these any more.
    pub(crate) fn restore(&self, menus: &[Menu]) -> Option<Box<Selection>> {
        let menu = menus.iter().find(|menu| menu.name == self.name)?;
        Some(Box::new(Selection {
            asked: self.asked,
            tries: self.tries,
            is_given_up: self.is_given_up,
            ..Selection::new(Arc::new(menu.clone()))
        }))
    }
}

in_parts! {
    /// A member of a conference in the journal. The newest one of a call counts, with the changes after it.
    pub struct SavedMember, MemberChange, MemberDigests {
        call: String,
        /// The conference's session.
        conference: String,
        from: Octets,
        to: String,
        sip_call_id: String,
        leg: SavedLeg,
        /// The trunk it came from, or the one with the target's number that it was called by.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rx_trunk: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        way: Option<(String, usize)>,
        /// Where the media host receives its audio.
        #[serde(skip_serializing_if = "Option::is_none")]
        local: Option<(SocketAddr, Option<u16>)>,
        /// Where it believes that to be, if elsewhere.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        told: Option<SocketAddr>,
        /// It hears and is heard; otherwise it has our offer and did not answer it yet.
        is_joined: bool,
        is_muted: bool,
        /// It typed the room's PIN, or there is none.
        is_admitted: bool,
        started_unix_us: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        answered_unix_us: Option<u64>,
        /// It left as the last, and is told of when the media host has counted.
        #[serde(skip_serializing_if = "Option::is_none")]
        ended: Option<SavedEnd>,
    }
}

impl SavedMember {
    /// Our name for the call.
    pub fn call(&self) -> &str {
        &self.call
    }
}

/// Where a conference is, in the journal. Who is in it, its members say.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SavedConference {
    /// The media session.
    pub(crate) session: String,
    pub(crate) room: String,
    pub(crate) host: String,
    pub(crate) epoch: u64,
    pub(crate) started_unix_us: u64,
}

impl SavedConference {
    /// The media session's name.
    pub fn session(&self) -> &str {
        &self.session
    }
}

/// See [`Destination`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SavedDestination {
    User(String),
    Queue(String),
    Menu(String),
    Room(String),
    Out(String),
}

impl SavedDestination {
    pub(crate) fn of(destination: &Destination) -> Self {
        match destination {
            Destination::User(user) => Self::User(user.to_string()),
            Destination::Queue(queue) => Self::Queue(queue.to_string()),
            Destination::Menu(menu) => Self::Menu(menu.to_string()),
            Destination::Room(room) => Self::Room(room.to_string()),
            Destination::Out(number) => Self::Out(number.to_string()),
        }
    }

    pub(crate) fn restore(&self) -> Destination {
        match self {
            Self::User(user) => Destination::User(user.as_str().into()),
            Self::Queue(queue) => Destination::Queue(queue.as_str().into()),
            Self::Menu(menu) => Destination::Menu(menu.as_str().into()),
            Self::Room(room) => Destination::Room(room.as_str().into()),
            Self::Out(number) => Destination::Out(number.as_str().into()),
        }
    }
}

in_parts! {
    /// One party.
    pub(crate) struct SavedLeg, LegChange, LegDigests {
        state: LegState,
        address: Octets,
        #[serde(skip_serializing_if = "Option::is_none")]
        user: Option<String>,
        peer: IpAddr,
        endpoint: String,
        #[serde(default)]
        security: Security,
        /// Once it is confirmed.
        #[serde(skip_serializing_if = "Option::is_none")]
        dialog: Option<SavedDialog>,
        /// The party's INVITE, while it has no final answer, or has not acknowledged that.
        #[serde(skip_serializing_if = "Option::is_none")]
        invited: Option<SavedInvited>,
        /// The party's request that holds a new offer, while it has no answer: what follows stands until then.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reoffer: Option<SavedInvited>,
        exchange: SavedExchange,
        #[serde(skip_serializing_if = "Option::is_none")]
        media: Option<SavedAgreed>,
        /// Id and version of our description.
        #[serde(skip_serializing_if = "Option::is_none")]
        session: Option<(u64, u64)>,
        is_described: bool,
        is_silent: bool,
        /// When the media host noticed that, by its clock.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        silent_unix_us: Option<u64>,
        /// It is an agent in a conversation that a queue brought.
        converses: bool,
        /// The trunk that it came by.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rx_trunk: Option<String>,
        joined_unix_us: u64,
    }
}

/// A party that left.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct SavedPast {
    pub(crate) was_caller: bool,
    pub(crate) address: Octets,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) user: Option<String>,
    pub(crate) endpoint: String,
    pub(crate) codec: String,
    #[serde(default)]
    pub(crate) srtp: String,
    pub(crate) joined_unix_us: u64,
    pub(crate) left_unix_us: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SavedExchange {
    None,
    Theirs(Octets),
    Ours(Octets),
}

/// A description as it is kept: without the lines that hold keys.
pub(crate) fn without_keys(description: Bytes) -> Bytes {
    let holds_key = |line: &[u8]| line.starts_with(b"a=crypto:");
    let lines = || description.split_inclusive(|byte| *byte == b'\n');
    if !lines().any(holds_key) {
        return description;
    }
    let kept: Vec<u8> = lines()
        .filter(|line| !holds_key(line))
        .flatten()
        .copied()
        .collect();
    kept.into()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct SavedPlace {
    pub(crate) since_unix_us: u64,
    pub(crate) priority: u32,
}

/// The session at the media host.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct SavedMedia {
    pub(crate) host: String,
    pub(crate) epoch: u64,
    pub(crate) local: BTreeMap<String, (SocketAddr, Option<u16>)>,
    /// Where parties still believe it to be that were not told, or have not answered.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) told: BTreeMap<String, SocketAddr>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct SavedEnd {
    pub(crate) by: EndedBy,
    pub(crate) status: u16,
    pub(crate) reason: String,
    pub(crate) at_unix_us: u64,
}

impl SavedEnd {
    pub(crate) fn of(end: &End) -> Self {
        Self {
            by: end.by,
            status: end.status.code(),
            reason: end.reason.clone(),
            at_unix_us: end.at_unix_us,
        }
    }
}

/// What was agreed with a party; see [`NegotiatedMedia`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct SavedAgreed {
    index: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    remote: Option<SocketAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remote_rtcp: Option<SocketAddr>,
    rtcp_mux: bool,
    formats: Vec<SavedFormat>,
    ptime_ms: u16,
    sends: bool,
    receives: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    mid: Option<String>,
    #[serde(default)]
    secure: bool,
    /// How it was encrypted: the keys are at the media host only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sdes: Option<SavedSdes>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct SavedSdes {
    suite: String,
    tag: u32,
    local_tag: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct SavedFormat {
    tx: u8,
    rx: u8,
    name: Cow<'static, str>,
    clock_hz: u32,
    channels: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    fmtp: Option<Cow<'static, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    local_fmtp: Option<Cow<'static, str>>,
}

impl SavedAgreed {
    pub(crate) fn of(media: &NegotiatedMedia) -> Self {
        let format = |format: &NegotiatedFormat| SavedFormat {
            tx: format.tx_payload_type,
            rx: format.rx_payload_type,
            name: format.codec.name.clone(),
            clock_hz: format.codec.clock_hz,
            channels: format.codec.channels,
            fmtp: format.codec.fmtp.clone(),
            local_fmtp: format.local_fmtp.clone(),
        };
        Self {
            index: media.index,
            remote: media.remote,
            remote_rtcp: media.remote_rtcp,
            rtcp_mux: media.rtcp_mux,
            formats: media.formats.iter().map(format).collect(),
            ptime_ms: media.ptime_ms,
            sends: media.direction.sends(),
            receives: media.direction.receives(),
            mid: media.mid.clone(),
            secure: media.secure,
            sdes: media.sdes.as_ref().map(|sdes| SavedSdes {
                suite: sdes.remote.suite.as_str().to_owned(),
                tag: sdes.remote.tag,
                local_tag: sdes.local_tag,
            }),
        }
    }

    pub(crate) fn restore(&self) -> NegotiatedMedia {
        let format = |format: &SavedFormat| NegotiatedFormat {
            tx_payload_type: format.tx,
            rx_payload_type: format.rx,
            codec: Codec {
                name: format.name.clone(),
                clock_hz: format.clock_hz,
                channels: format.channels,
                fmtp: format.fmtp.clone(),
            },
            local_fmtp: format.local_fmtp.clone(),
        };
        NegotiatedMedia {
            index: self.index,
            remote: self.remote,
            remote_rtcp: self.remote_rtcp,
            rtcp_mux: self.rtcp_mux,
            formats: self.formats.iter().map(format).collect(),
            ptime_ms: self.ptime_ms,
            direction: match (self.sends, self.receives) {
                (true, true) => Direction::SendRecv,
                (true, false) => Direction::SendOnly,
                (false, true) => Direction::RecvOnly,
                (false, false) => Direction::Inactive,
            },
            secure: self.secure,
            sdes: self.sdes.as_ref().and_then(|sdes| {
                Some(NegotiatedSdes {
                    remote: Crypto::without_key(sdes.tag, CryptoSuite::from_name(&sdes.suite)?),
                    local_tag: sdes.local_tag,
                })
            }),
            dtls: None,
            ice: None,
            mid: self.mid.clone(),
        }
    }
}

/// See [`DialogRecord`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct SavedDialog {
    call_id: Octets,
    local_tag: Octets,
    remote_tag: Octets,
    is_uac: bool,
    local: Octets,
    remote: Octets,
    local_cseq: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    remote_cseq: Option<u32>,
    route_set: Vec<Octets>,
    remote_target: Octets,
    contact: Octets,
    target: SavedTarget,
    remote_allow: Vec<Octets>,
    /// Interval in seconds, and whether we refresh.
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<(u64, bool)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    min_se_s: Option<u64>,
}

impl SavedDialog {
    pub(crate) fn of(record: DialogRecord) -> Self {
        let all = |list: Vec<Bytes>| list.into_iter().map(Octets).collect();
        Self {
            call_id: Octets(record.call_id),
            local_tag: Octets(record.local_tag),
            remote_tag: Octets(record.remote_tag),
            is_uac: record.is_uac,
            local: Octets(record.local),
            remote: Octets(record.remote),
            local_cseq: record.local_cseq,
            remote_cseq: record.remote_cseq,
            route_set: all(record.route_set),
            remote_target: Octets(record.remote_target),
            contact: Octets(record.contact),
            target: SavedTarget::of(&record.target),
            remote_allow: all(record.remote_allow),
            session: record
                .session
                .agreed
                .map(|(interval, role)| (interval.as_secs(), role == SessionTimerRole::Refresher)),
            min_se_s: record.session.min_se.map(|min_se| min_se.as_secs()),
        }
    }

    pub(crate) fn restore(&self) -> DialogRecord {
        let all = |list: &[Octets]| list.iter().map(|octets| octets.0.clone()).collect();
        let role = |refreshes| {
            if refreshes {
                SessionTimerRole::Refresher
            } else {
                SessionTimerRole::Watcher
            }
        };
        DialogRecord {
            call_id: self.call_id.0.clone(),
            local_tag: self.local_tag.0.clone(),
            remote_tag: self.remote_tag.0.clone(),
            is_uac: self.is_uac,
            local: self.local.0.clone(),
            remote: self.remote.0.clone(),
            local_cseq: self.local_cseq,
            remote_cseq: self.remote_cseq,
            route_set: all(&self.route_set),
            remote_target: self.remote_target.0.clone(),
            contact: self.contact.0.clone(),
            target: self.target.restore(),
            remote_allow: all(&self.remote_allow),
            session: SessionTimer {
                agreed: self
                    .session
                    .map(|(seconds, refreshes)| (Duration::from_secs(seconds), role(refreshes))),
                min_se: self.min_se_s.map(Duration::from_secs),
            },
        }
    }
}

/// See [`InviteRecord`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct SavedInvite {
    request: Octets,
    target: SavedTarget,
}

impl SavedInvite {
    pub(crate) fn of(record: &InviteRecord) -> Self {
        Self {
            request: Octets(without_body(&record.request)),
            target: SavedTarget::of(&record.target),
        }
    }

    pub(crate) fn restore(&self) -> InviteRecord {
        InviteRecord {
            request: self.request.0.clone(),
            target: self.target.restore(),
        }
    }
}

/// All that a CANCEL needs stands in the header fields, and the body may hold keys. The request is one of ours: names of
/// fields are written in full, one field a line.
fn without_body(request: &[u8]) -> Bytes {
    let is_of_body = |line: &[u8]| {
        let names = [&b"content-type:"[..], b"content-length:"];
        let is = |name: &[u8]| {
            line.get(..name.len())
                .is_some_and(|it| it.eq_ignore_ascii_case(name))
        };
        names.into_iter().any(is)
    };
    let mut kept = Vec::with_capacity(request.len());
    let lines = request.split_inclusive(|byte| *byte == b'\n');
    for line in lines.take_while(|line| *line != b"\r\n") {
        if !is_of_body(line) {
            kept.extend_from_slice(line);
        }
    }
    kept.extend_from_slice(b"Content-Length: 0\r\n\r\n");
    kept.into()
}

/// See [`InvitedRecord`]. A body that may hold keys is left out.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SavedInvited {
    request: Octets,
    flow: SavedTarget,
    local_tag: Octets,
}

impl SavedInvited {
    /// Its offer was left out.
    pub(crate) fn lacks_body(&self) -> bool {
        self.request.0.ends_with(b"\r\n\r\n")
    }

    pub(crate) fn of(request: Bytes, flow: Flow, local_tag: Bytes) -> Self {
        Self {
            request: Octets(request),
            flow: SavedTarget::of(&Target::Flow(flow)),
            local_tag: Octets(local_tag),
        }
    }

    pub(crate) fn restore(&self) -> Option<InvitedRecord> {
        let Target::Flow(flow) = self.flow.restore() else {
            return None;
        };
        Some(InvitedRecord {
            request: self.request.0.clone(),
            flow,
            local_tag: self.local_tag.0.clone(),
        })
    }
}

/// See [`Target`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct SavedTarget {
    transport: SavedTransport,
    remote: SocketAddr,
    /// Of a flow: our end, and which socket or connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    flow: Option<(SocketAddr, u64)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    server_name: Option<Octets>,
}

impl SavedTarget {
    fn of(target: &Target) -> Self {
        let (flow, server_name) = match target {
            Target::Flow(flow) => (Some((flow.local, flow.id.0)), None),
            Target::Address { server_name, .. } => (None, server_name.clone().map(Octets)),
        };
        Self {
            transport: SavedTransport(target.transport()),
            remote: target.remote(),
            flow,
            server_name,
        }
    }

    fn restore(&self) -> Target {
        let SavedTransport(transport) = self.transport;
        match self.flow {
            Some((local, id)) => Target::Flow(Flow {
                transport,
                local,
                remote: self.remote,
                id: FlowId(id),
            }),
            None => Target::Address {
                transport,
                remote: self.remote,
                server_name: self.server_name.as_ref().map(|name| name.0.clone()),
            },
        }
    }
}

/// As the `transport` parameter of a URI has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct SavedTransport(Transport);

impl Serialize for SavedTransport {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.0.uri_token())
    }
}

impl<'de> Deserialize<'de> for SavedTransport {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let token = String::deserialize(from)?;
        let transport = Transport::from_bytes(token.as_bytes());
        transport
            .map(Self)
            .ok_or_else(|| serde::de::Error::custom("an unknown transport"))
    }
}

/// Bytes as text: as they are when they are UTF-8, else in hexadecimal behind a mark.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Octets(pub(crate) Bytes);

const MARK: char = '\u{1}';

impl Serialize for Octets {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(&self.0) {
            Ok(text) if !text.starts_with(MARK) => to.serialize_str(text),
            _ => {
                let hex = self.0.iter().map(|byte| format!("{byte:02x}"));
                to.serialize_str(&std::iter::once(MARK.to_string()).chain(hex).collect::<String>())
            }
        }
    }
}

impl<'de> Deserialize<'de> for Octets {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let Some(hex) = text.strip_prefix(MARK) else {
            return Ok(Self(text.into()));
        };
        let byte = |at: usize| {
            hex.get(at..at + 2)
                .and_then(|two| u8::from_str_radix(two, 16).ok())
        };
        let bytes: Option<Vec<u8>> = (0..hex.len()).step_by(2).map(byte).collect();
        bytes
            .map(|bytes| Self(bytes.into()))
            .ok_or_else(|| serde::de::Error::custom("no hexadecimal"))
    }
}

/// An address as it stands in messages.
pub(crate) fn written(address: &NameAddr) -> Bytes {
    let mut text = Vec::with_capacity(48);
    address.write(&mut text);
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leg(endpoint: &str) -> SavedLeg {
        serde_json::from_value(serde_json::json!({
            "state": "inviting", "address": "<sip:a@h>;tag=1", "peer": "192.0.2.1", "endpoint": endpoint,
            "exchange": {"theirs": "v=0\r\n"}, "is_described": false, "is_silent": false, "converses": false,
            "joined_unix_us": 5,
        }))
        .unwrap()
    }

    fn call() -> SavedCall {
        let text = serde_json::json!({
            "call": "1-a", "stage": "ringing", "destination": {"user": "bob"}, "from": "<sip:a@h>;tag=1", "to": "sip:bob@h",
            "sip_call_id": "x", "max_forwards": 69, "caller": leg("caller"), "ringing": [], "others": [], "past": [],
            "is_turned": false, "rounds": 1, "rung": ["bob"], "media": {"host": "m1", "epoch": 1, "local": {}},
            "started_unix_us": 5,
        });
        serde_json::from_value(text).unwrap()
    }

    /// Tells of the call as it is now; gives the text, and makes the change of it in `known`.
    fn tell(now: &SavedCall, told: &mut CallDigests, known: &mut SavedCall) -> Option<String> {
        let change = now.clone().change(told)?;
        let text = serde_json::to_string(&change).unwrap();
        known.apply(serde_json::from_str(&text).unwrap());
        Some(text)
    }

    #[test]
    fn what_changed_is_told_and_nothing_else() {
        let (mut now, mut known) = (call(), call());
        let mut told = now.digest();
        assert_eq!(tell(&now, &mut told, &mut known), None);
        now.caller.state = LegState::Ringing;
        let text = tell(&now, &mut told, &mut known);
        assert_eq!(text.as_deref(), Some(r#"{"caller":{"state":"ringing"}}"#));
        assert_eq!(tell(&now, &mut told, &mut known), None);

        // What comes is told as a whole, without what it has not; what goes, as nothing.
        now.callee = Some(leg("callee-1"));
        now.answered_unix_us = Some(9);
        let text = tell(&now, &mut told, &mut known).unwrap();
        assert!(text.starts_with(r#"{"callee":{"state":"inviting""#), "{text}");
        assert!(
            text.ends_with(r#""joined_unix_us":5},"answered_unix_us":9}"#),
            "{text}"
        );
        assert!(!text.contains("null") && !text.contains("is_silent"), "{text}");
        now.callee.as_mut().unwrap().user = Some("bob".to_owned());
        let text = tell(&now, &mut told, &mut known);
        assert_eq!(text.as_deref(), Some(r#"{"callee":{"user":"bob"}}"#));
        assert_eq!(known, now);
        // Another party in its place.
        now.callee = Some(leg("callee-2"));
        let text = tell(&now, &mut told, &mut known);
        assert_eq!(
            text.as_deref(),
            Some(r#"{"callee":{"user":null,"endpoint":"callee-2"}}"#)
        );
        now.callee = None;
        now.answered_unix_us = None;
        let text = tell(&now, &mut told, &mut known);
        assert_eq!(
            text.as_deref(),
            Some(r#"{"callee":null,"answered_unix_us":null}"#)
        );
        now.callee = Some(leg("callee-3"));
        assert!(tell(&now, &mut told, &mut known).unwrap().contains("callee-3"));
        assert_eq!(known, now);
    }

    #[test]
    fn half_a_party_is_none() {
        let mut known = call();
        known.apply(serde_json::from_str(r#"{"callee":{"state":"ringing"}}"#).unwrap());
        assert_eq!(known, call());
    }

    #[test]
    fn every_byte_survives_the_journal() {
        for bytes in [
            &b""[..],
            b"<sip:a@h>;tag=1",
            b"\xff\x00\xfe",
            "Jos\u{e9}".as_bytes(),
            b"\x01ab",
            b"Jos\xe9",
        ] {
            let octets = Octets(Bytes::copy_from_slice(bytes));
            let text = serde_json::to_string(&octets).unwrap();
            assert_eq!(serde_json::from_str::<Octets>(&text).unwrap(), octets, "{text}");
        }
        assert!(serde_json::from_str::<Octets>("\"\\u0001zz\"").is_err());
    }

    #[test]
    fn a_request_is_kept_without_its_body() {
        let head = "INVITE sip:a@h SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\n";
        let body = "v=0\r\n\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:secret\r\n";
        let length = body.len();
        let fields = format!("Content-Type: application/sdp\r\nContent-Length: {length}\r\n");
        let kept = without_body(format!("{head}{fields}\r\n{body}").as_bytes());
        assert_eq!(kept, format!("{head}Content-Length: 0\r\n\r\n"));
    }

    #[test]
    fn keys_are_left_out() {
        let text = "v=0\r\nm=audio 1 RTP/SAVP 0\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:secret\r\na=sendrecv\r\n";
        let kept = "v=0\r\nm=audio 1 RTP/SAVP 0\r\na=sendrecv\r\n";
        assert_eq!(without_keys(text.into()), kept);
        assert_eq!(without_keys(kept.into()), kept);
    }
}
