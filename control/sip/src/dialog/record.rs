//! A dialog as plain data, for a journal.

use bytes::Bytes;

use super::{Dialog, DialogId, DialogState, Offers, ReliableReceiver, SessionTimer, Side};
use crate::header::{HeaderError, NameAddr, OptionTags};
use crate::message::HeaderName;
use crate::stack::Target;
use crate::uri::Uri;

/// Everything needed to go on with a confirmed dialog in another process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DialogRecord {
    /// The Call-ID.
    pub call_id: Bytes,
    /// Our tag.
    pub local_tag: Bytes,
    /// The peer's tag.
    pub remote_tag: Bytes,
    /// True when we sent the INVITE.
    pub is_uac: bool,
    /// Our From value, tag included.
    pub local: Bytes,
    /// The peer's value for our To, tag included.
    pub remote: Bytes,
    /// The number of our last request. Whoever adopts adds a margin for requests that were sent and not recorded.
    pub local_cseq: u32,
    /// The highest number received.
    pub remote_cseq: Option<u32>,
    /// Route values in order.
    pub route_set: Vec<Bytes>,
    /// The peer's Contact URI.
    pub remote_target: Bytes,
    /// Our Contact value.
    pub contact: Bytes,
    /// Where requests go.
    pub target: Target,
    /// Methods the peer allows.
    pub remote_allow: Vec<Bytes>,
    /// The session timer.
    pub session: SessionTimer,
}

impl DialogRecord {
    /// A copy of a dialog.
    pub fn of(dialog: &Dialog) -> Self {
        Self {
            call_id: dialog.id.call_id.clone(),
            local_tag: dialog.id.local_tag.clone(),
            remote_tag: dialog.id.remote_tag.clone(),
            is_uac: dialog.side == Side::Uac,
            local: dialog.local.clone(),
            remote: dialog.remote.clone(),
            local_cseq: dialog.local_cseq,
            remote_cseq: dialog.remote_cseq,
            route_set: dialog.route_set.clone(),
            remote_target: dialog.remote_target.as_bytes().clone(),
            contact: dialog.contact.clone(),
            target: dialog.target.clone(),
            remote_allow: dialog.remote_allow.iter().cloned().collect(),
            session: dialog.session,
        }
    }

    /// The dialog again, confirmed and with nothing outstanding.
    ///
    /// # Errors
    /// A text does not parse: the record is not one of ours.
    pub fn restore(&self) -> Result<Dialog, HeaderError> {
        for route in &self.route_set {
            let problem = |problem| HeaderError {
                header: HeaderName::Route,
                problem,
            };
            NameAddr::parse(route).map_err(problem)?;
        }
        let remote_target = Uri::parse(self.remote_target.clone()).map_err(|_| HeaderError {
            header: HeaderName::Contact,
            problem: "bad URI",
        })?;
        let mut remote_allow = OptionTags::default();
        for method in &self.remote_allow {
            remote_allow.push(method.clone());
        }
        Ok(Dialog {
            id: DialogId {
                local_tag: self.local_tag.clone(),
                remote_tag: self.remote_tag.clone(),
                call_id: self.call_id.clone(),
            },
            side: if self.is_uac { Side::Uac } else { Side::Uas },
            state: DialogState::Confirmed,
            local: self.local.clone(),
            remote: self.remote.clone(),
            local_cseq: self.local_cseq,
            remote_cseq: self.remote_cseq,
            route_set: self.route_set.clone(),
            remote_target,
            registered: None,
            contact: self.contact.clone(),
            target: self.target.clone(),
            remote_allow,
            remote_supported: OptionTags::default(),
            offers: Offers::default(),
            session: self.session,
            received: ReliableReceiver::default(),
            is_adopted: true,
        })
    }
}
