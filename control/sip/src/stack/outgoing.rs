//! Sending requests: outside of dialogs, again with other content, and cancelled.

use bytes::Bytes;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Instant;

use super::client::{Cancel, Client, ClientMachine};
use super::event::{ClientTxn, StackError};
use super::flow::{Target, Transport};
use super::hop::Hop;
use super::{ClientTimer, Due, Stack};
use crate::auth::ClientSession;
use crate::dialog::SessionTimer;
use crate::header::{CSeq, MAGIC_COOKIE, Reason, Via};
use crate::limits::Limits;
use crate::message::{self, Header, HeaderName, Headers, Message, Method, Request, Response, StatusCode};
use crate::transaction::{Actions, InviteClient, InviteClientState, NonInviteClient, Path};

/// How a request is sent.
#[derive(Debug, Clone, Default)]
pub(super) struct Outgoing {
    pub(super) hops: VecDeque<Hop>,
    /// See [`Client::udp_only`].
    pub(super) udp_only: Option<SocketAddr>,
    pub(super) dialog: Option<u64>,
    /// The stack's own: no events.
    pub(super) silent: bool,
}

/// An INVITE that was sent, as plain data for a journal: enough to cancel it from another process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InviteRecord {
    /// The INVITE as sent, with its Via.
    pub request: Bytes,
    /// Where it was sent.
    pub target: Target,
}

impl Stack {
    /// Sends a request outside of dialogs to the first of `targets`; the others take over when it cannot be reached,
    /// does not answer, or answers 503 (RFC 3263 §4.3).
    ///
    /// The request needs its Request-URI, From and To. What else is missing is added: From tag, Call-ID, CSeq,
    /// Max-Forwards, Contact, Allow, Supported, Session-Expires (INVITE), User-Agent (left out when it is empty), Via.
    ///
    /// # Errors
    /// [`StackError::Malformed`]: From or To is missing or cannot be read, or the method is ACK or CANCEL;
    /// [`StackError::NoTarget`]; [`StackError::NoIdentity`]; [`StackError::Overloaded`]; [`StackError::TooLarge`]: a
    /// MESSAGE of which only UDP leads on.
    pub fn request(
        &mut self,
        now: Instant,
        request: Request,
        targets: &[Target],
    ) -> Result<ClientTxn, StackError> {
        let hops = targets.iter().cloned().map(Hop::Target);
        self.request_to(now, request, hops.collect())
    }

    /// [`Stack::request`] to hops that may be names. A name is looked up ([`Stack::poll_lookup`]) when its turn comes;
    /// its targets then stand in its place.
    ///
    /// # Errors
    /// As [`Stack::request`].
    pub fn request_to(
        &mut self,
        now: Instant,
        mut request: Request,
        hops: Vec<Hop>,
    ) -> Result<ClientTxn, StackError> {
        if self.clients.len() + self.parked.len() >= self.config.limits.client_transactions {
            return Err(StackError::Overloaded);
        }
        if matches!(request.method, Method::Ack | Method::Cancel) {
            return Err(StackError::Malformed);
        }
        self.complete_request(&mut request)?;
        let txn = self.new_id();
        let outgoing = Outgoing {
            hops: hops.into(),
            ..Outgoing::default()
        };
        self.start_client(now, txn, request, outgoing)?;
        Ok(ClientTxn(txn))
    }

    /// Nobody waits for the answer to a request outside of dialogs any more: it is not sent again, and what comes is a stray.
    pub fn forget_request(&mut self, txn: ClientTxn) {
        if self.take_parked(txn.0).is_none() {
            self.end_client(txn.0);
        }
    }

    fn complete_request(&mut self, request: &mut Request) -> Result<(), StackError> {
        let malformed = |_| StackError::Malformed;
        let from = request.headers.from().map_err(malformed)?;
        request.headers.to().map_err(malformed)?;
        if from.tag().is_none() {
            let tagged = from.with_tag(&self.random.token());
            request.headers.set_value(HeaderName::From, &tagged);
        }
        if !request.headers.contains(HeaderName::MaxForwards) {
            request
                .headers
                .push_front(Header::from_typed(HeaderName::MaxForwards, b"70"));
        }
        if !request.headers.contains(HeaderName::CallId) {
            let call_id = self.random.token() + &self.random.token();
            let field = Header::from_typed(HeaderName::CallId, call_id);
            request.headers.push_field(field);
        }
        request.headers.call_id().map_err(malformed)?;
        if !request.headers.contains(HeaderName::CSeq) {
            let method = request.method.clone();
            request
                .headers
                .push_value(HeaderName::CSeq, &CSeq { number: 1, method });
        }
        let cseq = request.headers.cseq().map_err(malformed)?;
        if cseq.method != request.method {
            return Err(StackError::Malformed);
        }
        if request.method == Method::Invite {
            self.name_capabilities(&mut request.headers);
            if self.config.extensions.contains(&"timer")
                && self.config.session_timer.is_some()
                && !request.headers.contains(HeaderName::SessionExpires)
            {
                SessionTimer::default()
                    .write_request(&mut request.headers, self.config.session_timer.as_ref());
            }
        }
        self.write_user_agent(&mut request.headers);
        Ok(())
    }

    /// Allow and Supported, where they are missing.
    pub(super) fn name_capabilities(&self, headers: &mut Headers) {
        for field in [&self.allow, &self.supported] {
            if !headers.contains(field.name()) {
                headers.push_field(field.clone());
            }
        }
    }

    /// Adds Via and Contact for a target, and starts the transaction.
    pub(super) fn start_client(
        &mut self,
        now: Instant,
        id: u64,
        mut request: Request,
        mut outgoing: Outgoing,
    ) -> Result<(), StackError> {
        let mut hops = std::mem::take(&mut outgoing.hops);
        let target = match hops.pop_front().ok_or(StackError::NoTarget)? {
            Hop::Target(target) => target,
            Hop::Name(name) => {
                let outgoing = Outgoing { hops, ..outgoing };
                return self.park(now, id, name, request, outgoing);
            }
        };
        let reserve = self.config.limits.client_transactions / 4;
        if self.clients.len() >= self.config.limits.client_transactions + reserve {
            return Err(StackError::Overloaded);
        }
        let own_contact = names_us(&request.method) && !request.headers.contains(HeaderName::Contact);
        let branch = self.new_branch();
        self.address(&mut request, &target, &branch, own_contact)?;
        let wire = request.to_bytes();
        if let Some(instead) = self.instead_of(&target, &request, wire.len(), &outgoing) {
            self.stats.too_large_for_udp += u64::from(!instead.is_empty());
            request.headers.pop_first_value(HeaderName::Via);
            if own_contact {
                request.headers.remove(HeaderName::Contact);
            }
            let udp_only = Some(target.remote());
            let instead = instead.into_iter().map(Hop::Target);
            hops = instead.chain(hops).collect();
            if hops.is_empty() {
                return Err(StackError::TooLarge);
            }
            let outgoing = Outgoing {
                hops,
                udp_only,
                ..outgoing
            };
            return self.start_client(now, id, request, outgoing);
        }
        self.count_request_sent(&request);
        let path = Path {
            timing: self.config.timing,
            reliable: target.transport().is_reliable(),
        };
        let (machine, actions) = start_machine(&request.method, &path);
        let client = Client {
            machine,
            branch,
            method: request.method.clone(),
            wire,
            living: Some(request),
            path,
            target,
            hops,
            udp_only: outgoing.udp_only,
            own_contact,
            dialog: outgoing.dialog,
            forks: Vec::new(),
            acks: Vec::new(),
            last_ack: None,
            cancel: Cancel::No,
            silent: outgoing.silent,
        };
        self.insert_client(id, client);
        self.run_client(now, id, actions, None);
        Ok(())
    }

    /// User-Agent, unless there is one. One that is empty says that its user wants none.
    pub(super) fn write_user_agent(&self, headers: &mut Headers) {
        match headers.get(HeaderName::UserAgent) {
            Some([]) => drop(headers.remove(HeaderName::UserAgent)),
            Some(_) => {}
            None => {
                if let Some(user_agent) = &self.user_agent {
                    headers.push_field(user_agent.clone());
                }
            }
        }
    }

    /// Where a request goes that is too large for the address it was to go to (RFC 3261 §18.1.1): over TCP, and as it was
    /// meant to if that cannot be. A phone behind a NAT is reached through its flow alone.
    ///
    /// RFC 3428 §8: no message outside of a dialog goes over UDP then.
    fn instead_of(
        &self,
        target: &Target,
        request: &Request,
        bytes: usize,
        outgoing: &Outgoing,
    ) -> Option<Vec<Target>> {
        if target.transport() != Transport::Udp || bytes <= self.config.udp_request_bytes_max {
            return None;
        }
        let is_page = request.method == Method::Message && outgoing.dialog.is_none();
        let over_tcp = match target {
            Target::Address { remote, .. } if outgoing.udp_only != Some(*remote) => {
                Some(Target::address(Transport::Tcp, *remote))
            }
            Target::Address { .. } | Target::Flow(_) => None,
        };
        let over_tcp = over_tcp.filter(|over_tcp| self.identity_for(over_tcp).is_some());
        match (over_tcp, is_page) {
            (Some(over_tcp), false) => Some(vec![over_tcp, target.clone()]),
            (None, false) => None,
            (over_tcp, true) => Some(over_tcp.into_iter().collect()),
        }
    }

    pub(super) fn insert_client(&mut self, id: u64, client: Client) {
        self.clients_by_branch
            .insert(&(&client.branch, client.is_cancel()), id);
        self.clients.insert(id, Box::new(client));
    }

    pub(super) fn new_branch(&mut self) -> Bytes {
        let mut branch = MAGIC_COOKIE.to_vec();
        branch.extend_from_slice(self.random.token().as_bytes());
        branch.into()
    }

    /// Puts our Via on top, and our Contact if it is ours to write.
    pub(super) fn address(
        &self,
        request: &mut Request,
        target: &Target,
        branch: &Bytes,
        own_contact: bool,
    ) -> Result<(), StackError> {
        let index = self
            .identity_for(target)
            .ok_or_else(|| StackError::NoIdentity(target.clone()))?;
        let identity = &self.config.identities[index];
        let via = Via::new(
            target.transport().via_token(),
            identity.via_host.clone(),
            identity.via_port,
            branch,
        );
        request.headers.push_front_value(HeaderName::Via, &via);
        if own_contact {
            let contact = Header::from_typed(HeaderName::Contact, &self.contacts[index]);
            request.headers.set_field(contact);
        }
        Ok(())
    }

    /// Sends a request again after a final response, changed by `edit`: a new transaction with the next CSeq number,
    /// the same Call-ID, From and dialog (RFC 3261 §8.1.3.5).
    ///
    /// # Errors
    /// [`StackError::NoTransaction`]: too late, the first one is forgotten; [`StackError::NoDialog`];
    /// [`StackError::RequestPending`]: another offer has begun in the dialog since.
    pub fn retry(
        &mut self,
        now: Instant,
        txn: ClientTxn,
        edit: impl FnOnce(&mut Request),
    ) -> Result<ClientTxn, StackError> {
        let client = self.clients.get(&txn.0).ok_or(StackError::NoTransaction)?;
        let (dialog, own_contact) = (client.dialog, client.own_contact);
        let request = client.request().ok_or(StackError::NoTransaction)?;
        let mut request = request.into_owned();
        let mut hops = VecDeque::from([Hop::Target(client.target.clone())]);
        hops.extend(client.hops.iter().cloned());
        let udp_only = client.udp_only;
        request.headers.pop_first_value(HeaderName::Via);
        if own_contact {
            request.headers.remove(HeaderName::Contact);
        }
        let method = request.method.clone();
        let mut number = request.headers.cseq().map_err(|_| StackError::Malformed)?.number + 1;
        if let Some(key) = dialog {
            let entry = self.dialogs.get_mut(&key).ok_or(StackError::NoDialog)?;
            let offers = &entry.dialog.offers;
            match method {
                Method::Invite if !offers.may_send_invite() => return Err(StackError::RequestPending),
                Method::Update if offers.update_sent => return Err(StackError::RequestPending),
                _ => {}
            }
            entry.dialog.local_cseq += 1;
            number = entry.dialog.local_cseq;
            self.mark_sequence(key);
        }
        request
            .headers
            .set_value(HeaderName::CSeq, &CSeq { number, method });
        edit(&mut request);
        let id = self.new_id();
        let outgoing = Outgoing {
            hops,
            udp_only,
            dialog,
            silent: false,
        };
        let method = request.method.clone();
        self.start_client(now, id, request, outgoing)?;
        if let Some(entry) = dialog.and_then(|key| self.dialogs.get_mut(&key)) {
            entry.note_sent(&method);
        }
        Ok(ClientTxn(id))
    }

    /// Answers a 401 or 407: [`Stack::retry`] with credentials from `session`.
    ///
    /// # Errors
    /// As [`Stack::retry`].
    pub fn retry_with_credentials(
        &mut self,
        now: Instant,
        txn: ClientTxn,
        response: &Response,
        session: &mut ClientSession,
    ) -> Result<ClientTxn, StackError> {
        let name = if response.status == StatusCode::PROXY_AUTHENTICATION_REQUIRED {
            HeaderName::ProxyAuthorization
        } else {
            HeaderName::Authorization
        };
        self.retry(now, txn, |request| {
            let credentials = session.credentials(request);
            request.headers.set_value(name, &credentials);
        })
    }

    /// Answers a 422 (RFC 4028 §7.4): [`Stack::retry`] with the interval the response asks for.
    ///
    /// # Errors
    /// As [`Stack::retry`]; [`StackError::Malformed`]: the response has no Min-SE, or one that the request kept.
    pub fn retry_with_session_interval(
        &mut self,
        now: Instant,
        txn: ClientTxn,
        response: &Response,
    ) -> Result<ClientTxn, StackError> {
        let min_se = response
            .headers
            .min_se()
            .ok()
            .flatten()
            .ok_or(StackError::Malformed)?;
        let client = self.clients.get(&txn.0).ok_or(StackError::NoTransaction)?;
        let request = client.request().ok_or(StackError::NoTransaction)?;
        let asked = request.headers.session_expires().ok().flatten();
        if asked.is_some_and(|asked| asked.seconds >= min_se) {
            // It would say so for ever.
            return Err(StackError::Malformed);
        }
        let mut timer = SessionTimer::default();
        let dialog = client.dialog;
        if let Some(entry) = dialog.and_then(|key| self.dialogs.get_mut(&key)) {
            entry.dialog.session.raise_min_se(min_se);
            timer = entry.dialog.session;
        }
        timer.raise_min_se(min_se);
        let config = self.config.session_timer;
        self.retry(now, txn, |request| {
            timer.write_request(&mut request.headers, config.as_ref());
        })
    }

    /// Cancels an INVITE (RFC 3261 §9.1). Before the first provisional response the CANCEL waits for it. What comes
    /// in the end is an [`Event::Response`](super::Event::Response) (487, or the 2xx that crossed the CANCEL) or an
    /// [`Event::Timeout`](super::Event::Timeout).
    ///
    /// # Errors
    /// [`StackError::NoTransaction`]: it is no INVITE, or has its final response.
    pub fn cancel(
        &mut self,
        now: Instant,
        txn: ClientTxn,
        reason: Option<&Reason>,
    ) -> Result<(), StackError> {
        if self.unpark(now, txn.0) {
            return Ok(());
        }
        let client = self.clients.get_mut(&txn.0).ok_or(StackError::NoTransaction)?;
        let ClientMachine::Invite(machine) = &client.machine else {
            return Err(StackError::NoTransaction);
        };
        let state = machine.state();
        match (&client.cancel, state) {
            (Cancel::Wanted(_) | Cancel::Sent, _) => Ok(()),
            (Cancel::No, InviteClientState::Calling) => {
                client.cancel = Cancel::Wanted(reason.cloned());
                Ok(())
            }
            (Cancel::No, InviteClientState::Proceeding) => {
                self.send_cancel(now, txn.0, reason);
                Ok(())
            }
            (
                Cancel::No,
                InviteClientState::Completed | InviteClientState::Accepted | InviteClientState::Terminated,
            ) => Err(StackError::NoTransaction),
        }
    }

    pub(super) fn send_cancel(&mut self, now: Instant, id: u64, reason: Option<&Reason>) {
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        client.cancel = Cancel::Sent;
        let Some(mut cancel) = client.derived(Method::Cancel) else {
            return;
        };
        let to = client.request();
        if let Some(to) = to
            .as_ref()
            .and_then(|request| request.headers.field(HeaderName::To))
        {
            cancel.headers.push_field(to.clone());
        }
        drop(to);
        if let Some(reason) = reason {
            cancel.headers.push_value(HeaderName::Reason, reason);
        }
        let (machine, actions) = NonInviteClient::start(&client.path);
        let entry = Client {
            machine: ClientMachine::NonInvite(machine),
            branch: client.branch.clone(),
            wire: cancel.to_bytes(),
            path: client.path,
            target: client.target.clone(),
            hops: VecDeque::new(),
            udp_only: None,
            own_contact: false,
            dialog: None,
            forks: Vec::new(),
            acks: Vec::new(),
            last_ack: None,
            cancel: Cancel::No,
            silent: true,
            method: Method::Cancel,
            living: Some(cancel),
        };
        self.timers.stop(Due::Client(id, ClientTimer::Ring));
        self.timers.start(
            Due::Client(id, ClientTimer::CancelWait),
            now + self.config.timing.give_up(),
        );
        self.stats.requests_sent.count(&Method::Cancel);
        let cancel_id = self.new_id();
        self.insert_client(cancel_id, entry);
        self.run_client(now, cancel_id, actions, None);
    }

    /// An INVITE that waits for its final response, as plain data.
    pub fn export_invite(&self, txn: ClientTxn) -> Option<InviteRecord> {
        let client = self.clients.get(&txn.0)?;
        (client.method == Method::Invite).then(|| InviteRecord {
            request: client.wire.clone(),
            target: client.target.clone(),
        })
    }

    /// Takes over an INVITE sent by another process, as if a provisional response had come: to
    /// [cancel](Stack::cancel) it, or to wait for its end.
    ///
    /// # Errors
    /// [`StackError::Malformed`]: the record is not one of ours.
    pub fn adopt_invite(&mut self, now: Instant, record: &InviteRecord) -> Result<ClientTxn, StackError> {
        let parsed = message::parse_datagram(record.request.clone(), &Limits::DEFAULT);
        let Ok(Message::Request(request)) = parsed else {
            return Err(StackError::Malformed);
        };
        let via = request.headers.top_via().map_err(|_| StackError::Malformed)?;
        let branch = via.params.value_bytes("branch").ok_or(StackError::Malformed)?;
        let path = Path {
            timing: self.config.timing,
            reliable: record.target.transport().is_reliable(),
        };
        let client = Client {
            machine: ClientMachine::Invite(InviteClient::adopted(&path)),
            branch,
            method: Method::Invite,
            wire: record.request.clone(),
            living: Some(request),
            path,
            target: record.target.clone(),
            hops: VecDeque::new(),
            udp_only: None,
            own_contact: false,
            dialog: None,
            forks: Vec::new(),
            acks: Vec::new(),
            last_ack: None,
            cancel: Cancel::No,
            silent: false,
        };
        let id = self.new_id();
        self.insert_client(id, client);
        self.timers
            .start(Due::Client(id, ClientTimer::Ring), now + self.config.ring_max);
        Ok(ClientTxn(id))
    }
}

/// RFC 3261 §8.1.1.8, RFC 3515, RFC 3311: methods whose peer must learn where we are.
fn names_us(method: &Method) -> bool {
    matches!(
        method,
        Method::Invite | Method::Subscribe | Method::Refer | Method::Update
    )
}

fn start_machine(method: &Method, path: &Path) -> (ClientMachine, Actions) {
    if *method == Method::Invite {
        let (machine, actions) = InviteClient::start(path);
        (ClientMachine::Invite(machine), actions)
    } else {
        let (machine, actions) = NonInviteClient::start(path);
        (ClientMachine::NonInvite(machine), actions)
    }
}
