//! The one append-only log. A record is written before what it is about leaves: [`Output`](crate::Output) is ordered
//! so. Everything that counts or reports is a projection of it.

use serde::{Deserialize, Serialize};

use crate::{
    cdr::{CallDetail, RecordingDetail},
    domain::Standing,
    menu::Choice,
    originate::Originate,
    saved::{CallChange, MemberChange, SavedCall, SavedConference, SavedInvited, SavedMember},
};

/// One line of the journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Counts up, across restarts too: it starts at the wall clock's microseconds. The key for projecting exactly once.
    pub sequence: u64,
    /// When, in microseconds since the Unix epoch.
    pub at_unix_us: u64,
    /// It says again what stood when its segment was begun: for who goes on from here, not for who counts.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub repeated: bool,
    /// What happened.
    #[serde(flatten)]
    pub kind: RecordKind,
}

/// What a record tells.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum RecordKind {
    /// The beginning of a segment.
    Segment {
        /// So many records after this one repeat what stands.
        standing: u64,
    },
    /// A first INVITE waits for a media host. Its sender knows that it has come, and repeats it no more.
    InviteWaits {
        /// The tag that we answer it with.
        tag: String,
        /// The request.
        invite: Box<SavedInvited>,
    },
    /// It waits no more: it is a call now, was refused, or its sender gave up.
    InviteLeft {
        /// Its tag.
        tag: String,
    },
    /// A call came in and was accepted for routing.
    CallStarted {
        /// Our name for the call; also the media session's.
        call: String,
        /// The caller's SIP Call-ID.
        sip_call_id: String,
        /// The caller's address (From).
        from: String,
        /// What was dialled.
        to: String,
        /// The queue it goes to, if it goes to one.
        queue: Option<String>,
        /// The media host chosen for it.
        host: String,
    },
    /// The caller of a call that has only begun has our 100, and repeats its INVITE no more.
    CallInvited {
        /// The call.
        call: String,
        /// The request.
        invite: Box<SavedInvited>,
    },
    /// Phones of somebody are being rung.
    CallRinging {
        /// The call.
        call: String,
        /// Whose phones.
        user: String,
        /// How many devices.
        devices: usize,
    },
    /// Somebody who was rung did not take the call; it goes on.
    CallDeclined {
        /// The call.
        call: String,
        /// Who.
        user: String,
        /// The SIP status, or 408 for no answer in time, 487 when it was withdrawn.
        status: u16,
    },
    /// The two are connected.
    CallAnswered {
        /// The call.
        call: String,
        /// Who answered.
        user: String,
    },
    /// A caller chose in a menu, or chose nothing and is brought on all the same.
    CallChose {
        /// The call.
        call: String,
        /// What.
        choice: Choice,
    },
    /// A party asked that the other be brought to somebody else, or somebody took its place, and this is how it ended.
    CallTransferred {
        /// The call.
        call: String,
        /// Who asked, or whose place was taken.
        by: String,
        /// To whom.
        to: String,
        /// 200, or why not: then they are as before.
        status: u16,
    },
    /// The recording of a call is a file now, or there is none. May come again, and after the call's detail.
    Recorded {
        /// The call.
        call: String,
        /// The file.
        file: RecordingDetail,
    },
    /// A machine asked for the call that began with the CallStarted before this.
    CallOriginated {
        /// The call.
        call: String,
        /// What a repetition of the request is known by.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key: Option<String>,
        /// What was asked for.
        request: Box<Originate>,
        /// When, in microseconds since the Unix epoch: it may be said again later.
        asked_unix_us: u64,
    },
    /// The call is over; its detail follows when the media host has counted.
    CallEnded {
        /// The call.
        call: String,
        /// Who ended it.
        by: EndedBy,
        /// The SIP status the caller got, 200 for an answered call.
        status: u16,
        /// Why, for people.
        reason: String,
    },
    /// A call as it is: what is needed to go on with it after a restart. The newest one of a call counts.
    CallState(Box<SavedCall>),
    /// A call changed: what of its state is other than the records before this say.
    CallChange {
        /// The call.
        call: String,
        /// The parts that are others.
        change: Box<CallChange>,
    },
    /// A member of a conference as it is: what is needed to go on with it after a restart. The newest one of a call
    /// counts.
    MemberState(Box<SavedMember>),
    /// A member of a conference changed: what of its state is other than the records before this say.
    MemberChange {
        /// The member's call.
        call: String,
        /// The parts that are others.
        change: Box<MemberChange>,
    },
    /// A conference has a session: where. The newest one of a session counts.
    ConferenceState(Box<SavedConference>),
    /// Everything about a call that is over. Exactly one for each CallStarted.
    CallDetail(Box<CallDetail>),
    /// An agent's state changed.
    AgentState {
        /// The agent.
        agent: String,
        /// `away`, `paused`, `ready`, `reserved`, `talking`, `wrap_up`.
        state: String,
        /// What it was told to be, and what it did.
        #[serde(default)]
        standing: Standing,
    },
    /// A phone registered or refreshed its registration.
    Registered {
        /// The account.
        user: String,
        /// Its Contact.
        contact: String,
        /// Path values, in order.
        path: Vec<String>,
        /// Where it came from: transport, address.
        source: String,
        /// Our address that it came to.
        #[serde(default)]
        local: String,
        /// The device (RFC 5626), empty when it did not say.
        #[serde(default)]
        instance: String,
        /// Which of the device's flows it is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reg_id: Option<u32>,
        /// How much its user prefers it, in thousandths, when less than most.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        preference: Option<u16>,
        /// Call-ID of the REGISTER.
        #[serde(default)]
        call_id: String,
        /// Its CSeq number.
        #[serde(default)]
        cseq: u32,
        /// What its temporary addresses are made of (RFC 5627), and how many it was given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        gruu_secret: Option<String>,
        /// See `gruu_secret`.
        #[serde(default, skip_serializing_if = "is_zero")]
        gruu_count: u32,
        /// What the device calls itself.
        #[serde(default)]
        user_agent: String,
        /// When it ends, in microseconds since the Unix epoch.
        expires_unix_us: u64,
    },
    /// A registration ended.
    Unregistered {
        /// The account.
        user: String,
        /// Its Contact.
        contact: String,
        /// Which of the device's flows it was.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reg_id: Option<u32>,
        /// True when its phone did not ask: it was not refreshed in time, its connection or account is gone, or it answers
        /// no more.
        expired: bool,
    },
    /// A registration of ours with a trunk changed.
    TrunkRegistration {
        /// The trunk.
        trunk: String,
        /// 200, or the status it was refused with.
        status: u16,
    },
    /// A trunk's target came or went.
    TrunkTarget {
        /// The trunk.
        trunk: String,
        /// Its URI.
        target: String,
        /// It answers.
        up: bool,
    },
    /// A media host came or went.
    MediaHost {
        /// Its name.
        host: String,
        /// Its boot id, empty when it is down.
        boot_id: String,
        /// Why it is down.
        reason: String,
    },
}

/// Who ended a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndedBy {
    /// The caller hung up or cancelled.
    Caller,
    /// The called party hung up or refused.
    Callee,
    /// We did: time-outs, no agent, errors.
    System,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}
