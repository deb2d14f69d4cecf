//! What a stack tells its user.

use std::fmt;

use super::flow::{Flow, Target};
use crate::message::{Method, Request, Response, StatusCode};

/// A request received and to be answered. Never reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerTxn(pub(crate) u64);

/// A request sent. Never reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientTxn(pub(crate) u64);

/// A dialog. Never reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DialogKey(pub(crate) u64);

impl fmt::Debug for ServerTxn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "server#{}", self.0)
    }
}

impl fmt::Debug for ClientTxn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "client#{}", self.0)
    }
}

impl fmt::Debug for DialogKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "dialog#{}", self.0)
    }
}

/// Why a dialog is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndReason {
    /// The peer sent BYE (already answered with 200).
    RemoteBye,
    /// Our BYE was answered, or nobody answered it.
    LocalBye,
    /// The INVITE that would have confirmed it failed with this status, or was cancelled (487).
    Failed(StatusCode),
    /// Another fork answered and this one did not within 64·T1.
    OtherFork,
    /// The peer answered 481 to a request of ours: it does not know the dialog any more.
    Unknown,
    /// Our INVITE got no final response, or could not be sent.
    NoResponse,
    /// Dropped by [`Stack::forget_dialog`](super::Stack::forget_dialog).
    Forgotten,
}

/// What a stack tells its user. Take it with [`Stack::poll_event`](super::Stack::poll_event).
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A request to answer with [`Stack::respond`](super::Stack::respond). What a stack must refuse by itself is
    /// already refused; retransmissions never come here.
    Request {
        /// The transaction.
        txn: ServerTxn,
        /// The request, its topmost Via stamped with its source.
        request: Request,
        /// How it came.
        flow: Flow,
        /// The dialog it belongs to. A first INVITE has one too: the one its answer will make.
        dialog: Option<DialogKey>,
        /// True when the request has no To tag: it stands outside of dialogs.
        initial: bool,
        /// The dialog an INVITE asks to replace (RFC 3891); it exists and may be replaced.
        replaces: Option<DialogKey>,
    },
    /// A request for a dialog that is not known here (with [`UnknownDialogs::Ask`](super::UnknownDialogs::Ask)).
    /// [`Stack::adopt`](super::Stack::adopt) and then [`Stack::readmit`](super::Stack::readmit), or answer it.
    /// For an ACK `txn` is `None` and nothing is to be answered.
    UnknownDialog {
        /// The transaction.
        txn: Option<ServerTxn>,
        /// The request.
        request: Request,
        /// How it came.
        flow: Flow,
    },
    /// The INVITE was cancelled. The CANCEL is answered with 200 and the INVITE with 487; do not answer it.
    Cancelled {
        /// The INVITE's transaction.
        txn: ServerTxn,
        /// Its dialog; it ends now, unless the INVITE was sent inside it.
        dialog: DialogKey,
        /// The CANCEL, with its Reason.
        request: Request,
    },
    /// The ACK of our 2xx. Its body is the answer to a late offer.
    Ack {
        /// The dialog.
        dialog: DialogKey,
        /// The ACK.
        request: Request,
    },
    /// No ACK for our 2xx within 64·T1. RFC 3261 §13.3.1.4: the user should send BYE.
    AckTimedOut {
        /// The dialog.
        dialog: DialogKey,
    },
    /// The peer hung up. The BYE is answered with 200, and an INVITE still open with 487.
    Bye {
        /// The dialog.
        dialog: DialogKey,
        /// The BYE, with its Reason.
        request: Request,
    },
    /// A reliable provisional response of ours was acknowledged by a PRACK without body (answered with 200). A PRACK
    /// with a body comes as [`Event::Request`].
    ProvisionalAcknowledged {
        /// The INVITE's transaction.
        txn: ServerTxn,
        /// Its dialog.
        dialog: DialogKey,
        /// The RSeq acknowledged.
        rseq: u32,
    },
    /// No PRACK for a reliable provisional response within 64·T1. The INVITE is answered with 504 (RFC 3262 §3).
    ProvisionalTimedOut {
        /// The INVITE's transaction.
        txn: ServerTxn,
    },
    /// We have no answer yet to an INVITE with this dialog, and its sender was sent a 100: it repeats the INVITE no more.
    Trying {
        /// The dialog that the answer will make, or that the INVITE was sent inside.
        dialog: DialogKey,
    },
    /// We did not answer a request in time: 480 was sent for an INVITE, nothing for others.
    AnswerTimedOut {
        /// The transaction.
        txn: ServerTxn,
    },
    /// A response to a request of ours. Of what the stack sends by itself only a challenge to a PRACK comes here:
    /// [`Stack::retry_with_credentials`](super::Stack::retry_with_credentials) answers it.
    Response {
        /// The transaction.
        txn: ClientTxn,
        /// The response.
        response: Response,
        /// The dialog: of the request, or the one this response makes or belongs to.
        dialog: Option<DialogKey>,
        /// The response is reliable and holds an offer: call [`Stack::prack`](super::Stack::prack). All others are
        /// acknowledged by the stack.
        needs_prack: bool,
        /// The request was cancelled before this response came. A 2xx must still be ACKed, then ended by BYE:
        /// [`Stack::ack_and_bye`](super::Stack::ack_and_bye).
        cancelled: bool,
    },
    /// No final response: 408 in effect.
    Timeout {
        /// The transaction.
        txn: ClientTxn,
        /// The dialog of the request.
        dialog: Option<DialogKey>,
    },
    /// The request could not be sent to any of its targets: 503 in effect.
    TransportFailed {
        /// The transaction.
        txn: ClientTxn,
        /// The dialog of the request.
        dialog: Option<DialogKey>,
    },
    /// A request that failed with 491 may be tried again now (RFC 3261 §14.1).
    GlareOver {
        /// The dialog.
        dialog: DialogKey,
        /// INVITE or UPDATE.
        method: Method,
    },
    /// The dialog's requests have used up [`SEQUENCE_MARK`](crate::limits::SEQUENCE_MARK) more numbers. Who
    /// [exports](super::Stack::export) dialogs does so now, before the request leaves: the margin of who
    /// [adopts](super::Stack::adopt) it is twice that.
    SequenceMark {
        /// The dialog.
        dialog: DialogKey,
    },
    /// We are the refresher, and half of the session interval is over: send UPDATE or re-INVITE (RFC 4028 §10).
    SessionRefreshDue {
        /// The dialog.
        dialog: DialogKey,
    },
    /// No refresh came in time: send BYE (RFC 4028 §10).
    SessionExpired {
        /// The dialog.
        dialog: DialogKey,
    },
    /// The dialog is gone; its key means nothing any more. Comes exactly once for every key told.
    DialogEnded {
        /// The dialog.
        dialog: DialogKey,
        /// Why.
        reason: EndReason,
    },
}

/// Why a call into the stack was refused. Nothing was sent or changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StackError {
    /// The server transaction is over, or was already answered (perhaps by the stack: cancelled, timed out).
    #[error("the request is already answered")]
    Answered,
    /// The client transaction is over.
    #[error("the transaction is over")]
    NoTransaction,
    /// The dialog is over.
    #[error("the dialog is over")]
    NoDialog,
    /// The dialog is not confirmed, and the request needs that; or it is ending.
    #[error("the dialog is not in a state for this request")]
    WrongState,
    /// An offer or an INVITE is outstanding in either direction (RFC 3261 §14.1, RFC 3311 §5.1): wait for its end.
    #[error("another offer is outstanding in this dialog")]
    RequestPending,
    /// A table is full.
    #[error("too many transactions or dialogs")]
    Overloaded,
    /// No identity fits the target's transport and address family.
    #[error("no local identity for {0:?}")]
    NoIdentity(Target),
    /// It is too large for UDP (RFC 3428 §8), and no other way leads there.
    #[error("the message is too large for UDP")]
    TooLarge,
    /// A header or URI we need is missing or malformed.
    #[error("the message is incomplete or malformed")]
    Malformed,
    /// No target was given and none is known.
    #[error("no target for the request")]
    NoTarget,
}
