//! Requests that another process received, and did not answer or may not have been heard answering: taken over, so that
//! who sent them is still served.

use bytes::Bytes;
use std::time::Instant;

use super::Stack;
use super::event::{DialogKey, ServerTxn, StackError};
use super::flow::Flow;
use super::server::put_retry_after;
use crate::dialog::{DialogId, SessionTimer};
use crate::limits::Limits;
use crate::message::{self, Message, Method, Request, Response, StatusCode};
use crate::transaction::{MergeKey, ServerKey};

/// An INVITE that was received and has no final response, as plain data for a journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvitedRecord {
    /// The INVITE as [`Event::Request`](super::Event::Request) held it, written with
    /// [`Request::to_bytes`].
    pub request: Bytes,
    /// How it came.
    pub flow: Flow,
    /// Our tag of its dialog, which provisional responses have told already.
    pub local_tag: Bytes,
}

impl Stack {
    /// A request within a dialog that was [adopted](Stack::adopt), and that the other process did not answer, is received
    /// as if it came now. `request` and `flow`: as of an [`InvitedRecord`].
    ///
    /// # Errors
    /// [`StackError::Malformed`]: it is none of ours; [`StackError::NoDialog`].
    pub fn receive_left(&mut self, now: Instant, flow: Flow, request: Bytes) -> Result<(), StackError> {
        let request = read_left(request)?;
        let number = request.headers.cseq().map_err(|_| StackError::Malformed)?.number;
        let id = DialogId::of_checked_request(&request.headers).ok_or(StackError::Malformed)?;
        let key = self.dialog_known_as(&id).ok_or(StackError::NoDialog)?;
        let entry = self.dialogs.get_mut(&key).ok_or(StackError::NoDialog)?;
        // What came after it was answered.
        entry.dialog.remote_cseq = Some(number);
        entry.dialog.is_adopted = true;
        self.handle_parsed(now, flow, Message::Request(request));
        Ok(())
    }

    /// As [`Stack::receive_left`], of a request that cannot be carried out any more: 500, and it may be sent again.
    ///
    /// # Errors
    /// [`StackError::Malformed`]: it is none of ours.
    pub fn refuse_left(&mut self, flow: Flow, request: Bytes) -> Result<(), StackError> {
        let request = read_left(request)?;
        let mut response = Response::to_request(&request, StatusCode::SERVER_INTERNAL_ERROR);
        put_retry_after(&mut response, LEFT_RETRY_AFTER_S);
        self.answer_stateless(flow, response);
        Ok(())
    }

    /// Takes over an INVITE that another process received. No event comes of it: the request is given back.
    ///
    /// # Errors
    /// [`StackError::Malformed`]: the record is not one of ours; [`StackError::WrongState`]: the INVITE is here
    /// already; [`StackError::Overloaded`].
    pub fn adopt_invited(
        &mut self,
        now: Instant,
        record: &InvitedRecord,
    ) -> Result<(ServerTxn, DialogKey, Request), StackError> {
        if self.dialogs.len() >= self.config.limits.dialogs {
            return Err(StackError::Overloaded);
        }
        let (id, request) = self.serve_left(now, record)?;
        if let Err(error) = self.make_invited_dialog(id, record.flow, &request) {
            self.end_server(id);
            return Err(error);
        }
        let dialog = self.servers.get(&id).and_then(|server| server.dialog);
        let dialog = dialog.ok_or(StackError::NoDialog)?;
        Ok((ServerTxn(id), DialogKey(dialog), request))
    }

    /// Takes over the INVITE that began a dialog which was [adopted](Stack::adopt), and whose 2xx nobody has acknowledged:
    /// that may never have left. It is to be answered with a 2xx once more, which is repeated until its ACK comes; a peer that
    /// has it acknowledges it again (RFC 3261 §13.2.2.4).
    ///
    /// # Errors
    /// [`StackError::Malformed`]: the record is not one of ours; [`StackError::WrongState`]: the INVITE is here
    /// already; [`StackError::NoDialog`]; [`StackError::Overloaded`].
    pub fn adopt_unacknowledged(
        &mut self,
        now: Instant,
        dialog: DialogKey,
        record: &InvitedRecord,
    ) -> Result<ServerTxn, StackError> {
        if !self.dialogs.contains_key(&dialog.0) {
            return Err(StackError::NoDialog);
        }
        let (id, _) = self.serve_left(now, record)?;
        if let Some(server) = self.servers.get_mut(&id) {
            server.dialog = Some(dialog.0);
        }
        if let Some(entry) = self.dialogs.get_mut(&dialog.0) {
            entry.invite_server = Some(id);
        }
        Ok(ServerTxn(id))
    }

    /// The server transaction of an INVITE that another process received, without its dialog.
    fn serve_left(&mut self, now: Instant, record: &InvitedRecord) -> Result<(u64, Request), StackError> {
        let request = read_left(record.request.clone())?;
        let via = request.headers.top_via().map_err(|_| StackError::Malformed)?;
        let key = ServerKey::of(&request, &via).map_err(|_| StackError::Malformed)?;
        let merge = MergeKey::of(&request.headers).map_err(|_| StackError::Malformed)?;
        if request.method != Method::Invite || self.server_of(&key).is_some() {
            return Err(StackError::WrongState);
        }
        if self.is_full(false) {
            return Err(StackError::Overloaded);
        }
        let session = SessionTimer::default().answer(&request.headers, self.config.session_timer.as_ref());
        let session = self.without_unless_known(session);
        let id = self.new_server(now, record.flow, &via, key, &request);
        if let Some(server) = self.servers.get_mut(&id) {
            server.to_tag = record.local_tag.clone();
        }
        if let Some(open) = self.open_mut(id) {
            open.session = session;
        }
        self.set_merge(id, merge);
        Ok((id, request))
    }
}

/// Our user is just beginning.
const LEFT_RETRY_AFTER_S: u32 = 2;

fn read_left(request: Bytes) -> Result<Request, StackError> {
    match message::parse_datagram(request, &Limits::DEFAULT) {
        Ok(Message::Request(request)) => Ok(request),
        Ok(Message::Response(_)) | Err(_) => Err(StackError::Malformed),
    }
}
