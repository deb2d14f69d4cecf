//! ACK and PRACK from our user.

use std::time::Instant;

use super::Stack;
use super::event::{ClientTxn, DialogKey, StackError};
use super::flow::Transmit;
use super::request::{Content, DialogRequest};
use crate::dialog::DialogId;
use crate::header::Reason;
use crate::message::{HeaderName, Method, Response};

impl Stack {
    /// Acknowledges a 2xx to an INVITE of ours. `content` is the answer when the 2xx held the offer. Repetitions of
    /// the 2xx are acknowledged by the stack.
    ///
    /// # Errors
    /// [`StackError::NoDialog`]; [`StackError::WrongState`]: there is nothing to acknowledge;
    /// [`StackError::NoIdentity`].
    pub fn ack(&mut self, dialog: DialogKey, content: Option<Content>) -> Result<(), StackError> {
        let entry = self.dialogs.get_mut(&dialog.0).ok_or(StackError::NoDialog)?;
        let (id, cseq) = entry.to_ack.ok_or(StackError::WrongState)?;
        let mut ack = entry.dialog.build_request(Method::Ack, Some(cseq));
        let (target, fallback) = (entry.dialog.target.clone(), entry.dialog.without_connection());
        let tag = entry.dialog.id.remote_tag.clone();
        for field in self.credentials_of(id) {
            ack.headers.push_field(field);
        }
        if let Some(content) = content {
            content.put(&mut ack.headers, &mut ack.body);
        }
        // RFC 3261 §17.1.1.3 is for other responses: this ACK is a request of its own, with its own branch.
        let branch = self.new_branch();
        self.address(&mut ack, &target, &branch, false)?;
        if let Some(entry) = self.dialogs.get_mut(&dialog.0) {
            entry.to_ack = None;
        }
        self.count_request_sent(&ack);
        let transmit = Transmit {
            target,
            fallback,
            bytes: ack.to_bytes(),
        };
        self.keep_ack(id, tag, transmit.clone());
        self.transmits.push_back(transmit);
        Ok(())
    }

    /// Acknowledges a 2xx to an INVITE that the process before sent within a dialog that was [adopted](Stack::adopt): a peer
    /// that waits for its ACK in vain ends the call (RFC 3261 §14.2). What it was asked stands for it; another offer tells it what
    /// stands for us. False: it is not such a 2xx.
    pub(super) fn ack_inherited(&mut self, response: &Response, cseq: u32) -> bool {
        let key = DialogId::of_checked_response(&response.headers).and_then(|id| self.dialog_known_as(&id));
        let Some(entry) = key.and_then(|key| self.dialogs.get_mut(&key)) else {
            return false;
        };
        if cseq > entry.inherited_cseq {
            return false;
        }
        let mut ack = entry.dialog.build_request(Method::Ack, Some(cseq));
        let target = entry.dialog.target.clone();
        let branch = self.new_branch();
        if self.address(&mut ack, &target, &branch, false).is_ok() {
            self.count_request_sent(&ack);
            self.transmits.push_back(Transmit {
                target,
                fallback: None,
                bytes: ack.to_bytes(),
            });
        }
        true
    }

    /// Acknowledges a 2xx nobody wants any more (it crossed our CANCEL, or another fork won) and hangs up.
    ///
    /// # Errors
    /// As [`Stack::ack`] and [`Stack::dialog_request`].
    pub fn ack_and_bye(
        &mut self,
        now: Instant,
        dialog: DialogKey,
        reason: Option<&Reason>,
    ) -> Result<ClientTxn, StackError> {
        self.ack(dialog, None)?;
        let mut bye = DialogRequest::new(Method::Bye);
        if let Some(reason) = reason {
            bye = bye.with_value(HeaderName::Reason, reason);
        }
        self.dialog_request(now, dialog, bye)
    }

    /// Acknowledges a reliable provisional response that held an offer; `content` is the answer (RFC 3262 §5).
    ///
    /// # Errors
    /// [`StackError::WrongState`]: there is nothing to acknowledge; [`StackError::NoDialog`];
    /// [`StackError::NoIdentity`].
    pub fn prack(
        &mut self,
        now: Instant,
        dialog: DialogKey,
        content: Option<Content>,
    ) -> Result<ClientTxn, StackError> {
        self.send_prack(now, dialog, content, false)
    }

    pub(super) fn send_prack(
        &mut self,
        now: Instant,
        dialog: DialogKey,
        content: Option<Content>,
        silent: bool,
    ) -> Result<ClientTxn, StackError> {
        let entry = self.dialogs.get_mut(&dialog.0).ok_or(StackError::NoDialog)?;
        let rack = entry.to_prack.take().ok_or(StackError::WrongState)?;
        let mut request = DialogRequest::new(Method::Prack).with_value(HeaderName::RAck, &rack);
        request.content = content;
        self.send_in_dialog(now, dialog, request, silent)
    }
}
