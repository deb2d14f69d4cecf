//! An INVITE that another process received and did not answer: taken over, so that its caller is still served.

use bytes::Bytes;
use std::time::Instant;

use super::Stack;
use super::event::{DialogKey, ServerTxn, StackError};
use super::flow::Flow;
use crate::dialog::SessionTimer;
use crate::limits::Limits;
use crate::message::{self, Message, Method, Request};
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
        let parsed = message::parse_datagram(record.request.clone(), &Limits::DEFAULT);
        let Ok(Message::Request(request)) = parsed else {
            return Err(StackError::Malformed);
        };
        let via = request.headers.top_via().map_err(|_| StackError::Malformed)?;
        let key = ServerKey::of(&request, &via).map_err(|_| StackError::Malformed)?;
        let merge = MergeKey::of(&request.headers).map_err(|_| StackError::Malformed)?;
        if request.method != Method::Invite || self.server_of(&key).is_some() {
            return Err(StackError::WrongState);
        }
        if self.dialogs.len() >= self.config.limits.dialogs || self.is_full(false) {
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
        if let Err(error) = self.make_invited_dialog(id, record.flow, &request) {
            self.end_server(id);
            return Err(error);
        }
        self.set_merge(id, merge);
        let dialog = self.servers.get(&id).and_then(|server| server.dialog);
        let dialog = dialog.ok_or(StackError::NoDialog)?;
        Ok((ServerTxn(id), DialogKey(dialog), request))
    }
}
