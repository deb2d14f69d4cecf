//! The receiving half: requests, retransmissions, CANCEL, ACK, and the answers owed.

use bytes::Bytes;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::dialogs::DialogEntry;
use super::event::{DialogKey, EndReason, Event, ServerTxn, StackError};
use super::flow::{Flow, Target};
use super::{DialogTimer, Due, ServerTimer, Stack, UnknownDialogs};
use crate::check::{Policy, Role, Verdict, check_request};
use crate::dialog::{
    Dialog, DialogId, DialogState, Glare, ReliableSender, Sequence, SessionAnswer, SessionTimer, Side,
};
use crate::header::{RetryAfter, SessionExpires, Via};
use crate::message::{self, Header, HeaderName, Method, Request, Response, StatusCode};
use crate::transaction::{Action, Actions, InviteServer, MergeKey, NonInviteServer, Path, ServerKey, Timer};

/// RFC 3261 §13.3.1.1.
pub(super) const REFRESH_EVERY: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) enum ServerMachine {
    Invite(InviteServer),
    NonInvite(NonInviteServer),
}

/// A server transaction. What stays of one that has its final response absorbs repetitions, for half a minute.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) machine: ServerMachine,
    pub(super) key: ServerKey,
    pub(super) merge: Option<MergeKey>,
    pub(super) path: Path,
    pub(super) flow: Flow,
    /// Where responses go, and where to when that connection is gone.
    pub(super) reply: (Target, Option<Target>),
    pub(super) to_tag: Bytes,
    pub(super) dialog: Option<u64>,
    /// A final response was given (perhaps held until a PRACK comes).
    pub(super) answered: bool,
    /// The last response as sent, if it may have to be sent again.
    pub(super) last: Option<Bytes>,
    /// The request, until a final response was sent.
    pub(super) open: Option<Box<Open>>,
}

/// A request without final response.
#[derive(Debug)]
pub(super) struct Open {
    /// Via, From, To, Call-ID, CSeq, Timestamp.
    pub(super) skeleton: Response,
    pub(super) record_routes: Vec<Header>,
    pub(super) method: Method,
    pub(super) cseq: u32,
    /// It had no To tag.
    pub(super) initial: bool,
    pub(super) session: SessionAnswer,
    /// The peer knows 100rel; insists on it.
    pub(super) supports_100rel: bool,
    pub(super) requires_100rel: bool,
    pub(super) reliable: Option<Box<Reliable>>,
    /// Itself, if it has no dialog: for [`Stack::readmit`].
    parked: Option<Box<Request>>,
    /// A REFER that makes a subscription when it is accepted (RFC 3515 §2.4.4, RFC 4488).
    pub(super) subscribes: bool,
}

/// What an INVITE server keeps for reliable provisional responses.
#[derive(Debug, Default)]
pub(super) struct Reliable {
    pub(super) sender: ReliableSender,
    pub(super) wire: Bytes,
    pub(super) interval: Duration,
    /// The outstanding response holds a body: perhaps the answer.
    pub(super) has_body: bool,
}

impl Stack {
    pub(super) fn receive_request(&mut self, now: Instant, flow: Flow, mut request: Request) {
        let Ok(mut via) = request.headers.top_via() else {
            self.stats.malformed += 1;
            return;
        };
        if via.stamp_source(flow.remote) {
            request.headers.set_top_via(&via);
        }
        let key = ServerKey::of(&request, &via).ok();
        if let Some(id) = key.as_ref().and_then(|key| self.server_of(key)) {
            self.receive_again(now, id, request);
            return;
        }
        self.stats.requests_received.count(&request.method);
        let policy = Policy {
            role: Role::Endpoint,
            methods: &self.config.methods,
            extensions: &self.config.extensions,
            content_types: &self.config.content_types,
            tel: self.config.tel,
        };
        match check_request(&request, &policy) {
            Verdict::Pass => {}
            Verdict::Answer(response) => {
                self.count_refusal();
                self.answer_stateless(flow, response);
                return;
            }
            Verdict::Drop(_) => {
                self.stats.malformed += 1;
                return;
            }
        }
        message::drop_others(&request.method, &mut request.headers, &mut request.body);
        let Some(key) = key else { return };
        let dialog = DialogId::of_checked_request(&request.headers);
        let is_known = dialog
            .as_ref()
            .is_some_and(|id| self.dialog_known_as(id).is_some());
        match (&request.method, dialog) {
            (Method::Ack, Some(id)) => self.receive_dialog_ack(now, flow, &id, request),
            (Method::Ack, None) => self.stats.strays += 1,
            (Method::Cancel, _) => self.receive_cancel(now, flow, &via, request),
            (Method::Invite | Method::Message, None)
                if self.is_full(false) || self.overload.refuses(now, &key) =>
            {
                self.refuse_overload(flow, &request);
                self.overload.keep_in_mind(now, key);
            }
            (_, _) if self.is_full(is_known) => {
                self.refuse_overload(flow, &request);
            }
            (_, Some(id)) => self.receive_in_dialog(now, flow, &via, key, &id, request),
            (_, None) => self.receive_initial(now, flow, &via, key, request),
        }
    }

    /// New work is refused at the bound; what belongs to a dialog has a quarter more.
    pub(super) fn is_full(&self, in_dialog: bool) -> bool {
        let limits = &self.config.limits;
        if in_dialog {
            self.servers.len() >= limits.server_transactions + limits.server_transactions / 4
        } else {
            self.servers.len() >= limits.server_transactions
        }
    }

    fn refuse_overload(&mut self, flow: Flow, request: &Request) {
        self.stats.overloaded += 1;
        let mut response = Response::to_request(request, StatusCode::SERVICE_UNAVAILABLE);
        put_retry_after(&mut response, self.config.overload_retry_after);
        self.answer_stateless(flow, response);
    }

    /// Refuses a request and keeps nothing (RFC 3261 §8.2.7).
    fn refuse(&mut self, flow: Flow, request: &Request, status: StatusCode) {
        self.count_refusal();
        self.answer_stateless(flow, Response::to_request(request, status));
    }

    /// Sends a response without transaction. Its To tag depends on the request alone, so that a repetition gets the
    /// same one.
    pub(super) fn answer_stateless(&mut self, flow: Flow, mut response: Response) {
        let Ok(mut via) = response.headers.top_via() else {
            return;
        };
        if via.stamp_source(flow.remote) {
            response.headers.set_top_via(&via);
        }
        let mut text = via.branch().unwrap_or_default().to_vec();
        text.extend_from_slice(response.headers.get(HeaderName::CallId).unwrap_or_default());
        response.set_to_tag(&self.random.token_for(&text));
        self.write_server_name(&mut response);
        let (target, fallback) = reply_target(flow, &via);
        self.count_response_sent(&response);
        self.transmit(target, fallback, response.to_bytes());
    }

    pub(super) fn write_server_name(&self, response: &mut Response) {
        if let Some(server) = &self.server
            && !response.headers.contains(HeaderName::Server)
        {
            response.headers.push_field(server.clone());
        }
    }

    /// A request of a known transaction: a repetition, or an ACK.
    fn receive_again(&mut self, now: Instant, id: u64, request: Request) {
        let Some(server) = self.servers.get_mut(&id) else {
            return;
        };
        let is_ack = request.method == Method::Ack;
        let actions = match &mut server.machine {
            ServerMachine::Invite(machine) if is_ack => machine.on_ack(&server.path),
            ServerMachine::Invite(machine) => machine.on_retransmission(),
            ServerMachine::NonInvite(machine) => machine.on_retransmission(),
        };
        if !is_ack {
            self.stats.retransmissions_received += 1;
        } else if actions.iter().any(|action| action == Action::Deliver) {
            // RFC 6026 §7.1: an ACK of a 2xx with the INVITE's branch, as RFC 2543 peers write it.
            let flow = server.flow;
            if let Ok(Some(dialog)) = DialogId::of_request(&request.headers) {
                self.receive_dialog_ack(now, flow, &dialog, request);
            }
            return;
        } else {
            self.stats.requests_received.count(&request.method);
        }
        self.run_server(now, id, actions);
    }

    /// RFC 3261 §9.2.
    fn receive_cancel(&mut self, now: Instant, flow: Flow, via: &Via, request: Request) {
        let invite = ServerKey::of_cancelled(&request, via).ok();
        let invite = invite.and_then(|key| self.server_of(&key));
        let Some(id) = invite else {
            self.refuse(flow, &request, StatusCode::CALL_DOES_NOT_EXIST);
            return;
        };
        let Some(server) = self.servers.get(&id) else {
            return;
        };
        let mut response = Response::to_request(&request, StatusCode::OK);
        // §9.2: the same To tag as in the answers to the INVITE.
        response.set_to_tag(&String::from_utf8_lossy(&server.to_tag));
        let (answered, dialog) = (server.answered, server.dialog);
        // A CANCEL keeps no state: repeated, it gets the same 200 again.
        self.answer_stateless(flow, response);
        // A 2xx that waits for a PRACK has not been sent yet.
        if answered && !self.holds_answer(id) {
            return;
        }
        if let Some(dialog) = dialog {
            self.events.push_back(Event::Cancelled {
                txn: ServerTxn(id),
                dialog: DialogKey(dialog),
                request,
            });
        }
        self.answer_own(now, id, StatusCode::REQUEST_TERMINATED);
    }

    /// A request outside of dialogs.
    fn receive_initial(&mut self, now: Instant, flow: Flow, via: &Via, key: ServerKey, request: Request) {
        // These mean nothing without a dialog (RFC 3261 §15.1.2, RFC 3262 §3, RFC 3311 §5.2, RFC 6086 §4.2.2).
        if matches!(
            request.method,
            Method::Bye | Method::Prack | Method::Update | Method::Info
        ) {
            self.refuse(flow, &request, StatusCode::CALL_DOES_NOT_EXIST);
            return;
        }
        let Ok(merge) = MergeKey::of(&request.headers) else {
            return;
        };
        // RFC 3261 §8.2.2.2.
        if self.server_merged(&merge).is_some() {
            self.refuse(flow, &request, StatusCode::LOOP_DETECTED);
            return;
        }
        if request.method != Method::Invite {
            let id = self.new_server(now, flow, via, key, &request);
            self.set_merge(id, merge);
            self.push_request(id, request, flow, true, None);
            return;
        }
        if self.dialogs.len() >= self.config.limits.dialogs {
            self.refuse_overload(flow, &request);
            self.overload.keep_in_mind(now, key);
            return;
        }
        let session = SessionTimer::default().answer(&request.headers, self.config.session_timer.as_ref());
        let session = self.without_unless_known(session);
        if self.refuse_short_session(flow, &request, session) {
            return;
        }
        let replaces = match self.check_replaces(&request) {
            Ok(replaces) => replaces,
            Err(status) => {
                self.refuse(flow, &request, status);
                return;
            }
        };
        let id = self.new_server(now, flow, via, key, &request);
        if self.make_invited_dialog(id, flow, &request).is_err() {
            self.end_server(id);
            self.refuse(flow, &request, StatusCode::BAD_REQUEST);
            return;
        }
        self.set_merge(id, merge);
        if let Some(open) = self.open_mut(id) {
            open.session = session;
        }
        self.push_request(id, request, flow, true, replaces);
    }

    pub(super) fn set_merge(&mut self, id: u64, merge: MergeKey) {
        if let Some(server) = self.servers.get_mut(&id) {
            self.servers_by_merge.insert(&merge, id);
            server.merge = Some(merge);
        }
    }

    pub(super) fn without_unless_known(&self, session: SessionAnswer) -> SessionAnswer {
        if self.config.extensions.contains(&"timer") {
            session
        } else {
            SessionAnswer::Off
        }
    }

    /// RFC 4028 §9.
    fn refuse_short_session(&mut self, flow: Flow, request: &Request, session: SessionAnswer) -> bool {
        let SessionAnswer::TooSmall(min_se) = session else {
            return false;
        };
        self.count_refusal();
        let mut response = Response::to_request(request, StatusCode::SESSION_INTERVAL_TOO_SMALL);
        let value = SessionExpires {
            seconds: u32::try_from(min_se.as_secs()).unwrap_or(u32::MAX),
            refresher: None,
        };
        response.headers.push_value(HeaderName::MinSe, &value);
        self.answer_stateless(flow, response);
        true
    }

    /// RFC 3891 §3: which dialog an INVITE may replace, if it is to replace one.
    ///
    /// # Errors
    /// What it is answered with, as there is no such dialog, or none that may be replaced.
    pub fn check_replaces(&self, request: &Request) -> Result<Option<DialogKey>, StatusCode> {
        let replaces = request.headers.replaces().map_err(|_| StatusCode::BAD_REQUEST)?;
        let Some(replaces) = replaces.filter(|_| self.config.extensions.contains(&"replaces")) else {
            return Ok(None);
        };
        let found = self.find_dialog(&DialogId::of_replaces(&replaces));
        let key = found.ok_or(StatusCode::CALL_DOES_NOT_EXIST)?;
        let dialog = self.dialog(key).ok_or(StatusCode::CALL_DOES_NOT_EXIST)?;
        match (dialog.state, dialog.side) {
            (DialogState::Confirmed, _) if replaces.early_only => Err(StatusCode::BUSY_HERE),
            (DialogState::Confirmed, _) | (DialogState::Early, Side::Uac) => Ok(Some(key)),
            // An early dialog that we did not start cannot be replaced.
            (DialogState::Early | DialogState::Invited, _) => Err(StatusCode::CALL_DOES_NOT_EXIST),
            (DialogState::Ending, _) => Err(StatusCode::DECLINE),
        }
    }

    pub(super) fn make_invited_dialog(
        &mut self,
        id: u64,
        flow: Flow,
        request: &Request,
    ) -> Result<(), StackError> {
        let target = Target::Flow(flow);
        let identity = self.identity_for(&target).unwrap_or(0);
        let contact = self.contacts[identity].clone();
        let server = self.servers.get_mut(&id).ok_or(StackError::Answered)?;
        let tag = String::from_utf8_lossy(&server.to_tag).into_owned();
        let mut dialog =
            Dialog::from_request(request, &tag, contact, target).map_err(|_| StackError::Malformed)?;
        dialog.offers.invite_received = true;
        dialog.offers.offer_received = !request.body.is_empty();
        let key = self.insert_dialog(DialogEntry::new(dialog));
        self.follow_next_hop(key);
        if let Some(entry) = self.dialogs.get_mut(&key) {
            entry.invite_server = Some(id);
        }
        if let Some(server) = self.servers.get_mut(&id) {
            server.dialog = Some(key);
        }
        Ok(())
    }

    /// Makes the dialog that a 2xx to a REFER outside of dialogs begins (RFC 3515 §2.4.4), before that is sent: NOTIFYs go
    /// there, and it is over with the last of them or when none comes for long. `None` for one who wants to hear nothing
    /// (RFC 4488).
    ///
    /// # Errors
    /// [`StackError::WrongState`]: no such REFER; [`StackError::Answered`]; [`StackError::Malformed`]: it says not where
    /// to; [`StackError::Overloaded`].
    pub fn subscribe_referrer(
        &mut self,
        now: Instant,
        txn: ServerTxn,
        request: &Request,
    ) -> Result<Option<DialogKey>, StackError> {
        let server = self.servers.get(&txn.0).ok_or(StackError::Answered)?;
        let open = server.open.as_deref().ok_or(StackError::Answered)?;
        if open.method != Method::Refer || !open.initial || server.dialog.is_some() {
            return Err(StackError::WrongState);
        }
        if server.answered {
            return Err(StackError::Answered);
        }
        if !open.subscribes {
            return Ok(None);
        }
        if self.dialogs.len() >= self.config.limits.dialogs {
            return Err(StackError::Overloaded);
        }
        let target = Target::Flow(server.flow);
        let tag = String::from_utf8_lossy(&server.to_tag).into_owned();
        let identity = self.identity_for(&target).unwrap_or(0);
        let contact = self.contacts[identity].clone();
        let mut dialog =
            Dialog::from_request(request, &tag, contact, target).map_err(|_| StackError::Malformed)?;
        // There is no session in it, and never was.
        dialog.state = DialogState::Ending;
        let key = self.insert_dialog(DialogEntry::new(dialog));
        self.follow_next_hop(key);
        self.start_lingering(now, key);
        if let Some(server) = self.servers.get_mut(&txn.0) {
            server.dialog = Some(key);
        }
        Ok(Some(DialogKey(key)))
    }

    /// Makes a server transaction and starts its machine.
    pub(super) fn new_server(
        &mut self,
        now: Instant,
        flow: Flow,
        via: &Via,
        key: ServerKey,
        request: &Request,
    ) -> u64 {
        let id = self.new_id();
        let path = Path {
            timing: self.config.timing,
            reliable: flow.transport.is_reliable(),
        };
        let (machine, actions) = if request.method == Method::Invite {
            let (machine, actions) = InviteServer::start(&path);
            self.timers
                .start(Due::Server(id, ServerTimer::Answer), now + self.config.answer_max);
            (ServerMachine::Invite(machine), actions)
        } else {
            let (machine, actions) = NonInviteServer::start(&path);
            (ServerMachine::NonInvite(machine), actions)
        };
        let headers = &request.headers;
        let given_tag = headers.tag(HeaderName::To);
        let to_tag = match given_tag {
            Some(tag) => Bytes::copy_from_slice(tag),
            None => self.random.token().into(),
        };
        let lists = |header: HeaderName, tag: &str| {
            let tags = match header {
                HeaderName::Require => headers.require(),
                _ => headers.supported(),
            };
            tags.is_ok_and(|tags| tags.contains(tag))
        };
        let knows_100rel = self.config.extensions.contains(&"100rel") && request.method == Method::Invite;
        let requires_100rel = knows_100rel && lists(HeaderName::Require, "100rel");
        let open = Open {
            skeleton: Response::to_request(request, StatusCode::TRYING),
            record_routes: headers.fields(HeaderName::RecordRoute).cloned().collect(),
            method: request.method.clone(),
            cseq: headers.cseq().map_or(0, |cseq| cseq.number),
            initial: given_tag.is_none(),
            session: SessionAnswer::Off,
            supports_100rel: requires_100rel || (knows_100rel && lists(HeaderName::Supported, "100rel")),
            requires_100rel,
            reliable: None,
            parked: None,
            subscribes: request.method == Method::Refer && !declines_subscription(request),
        };
        let server = Server {
            machine,
            key,
            merge: None,
            path,
            flow,
            reply: reply_target(flow, via),
            to_tag,
            dialog: None,
            answered: false,
            last: None,
            open: Some(Box::new(open)),
        };
        self.servers_by_key.insert(&server.key, id);
        self.servers.insert(id, Box::new(server));
        self.run_server(now, id, actions);
        id
    }

    /// A request that has no final response.
    pub(super) fn open_mut(&mut self, id: u64) -> Option<&mut Open> {
        self.servers.get_mut(&id)?.open.as_deref_mut()
    }

    fn push_request(
        &mut self,
        id: u64,
        request: Request,
        flow: Flow,
        initial: bool,
        replaces: Option<DialogKey>,
    ) {
        let dialog = self.servers.get(&id).and_then(|server| server.dialog);
        self.events.push_back(Event::Request {
            txn: ServerTxn(id),
            request,
            flow,
            dialog: dialog.map(DialogKey),
            initial,
            replaces,
        });
    }

    /// A request with a To tag.
    fn receive_in_dialog(
        &mut self,
        now: Instant,
        flow: Flow,
        via: &Via,
        key: ServerKey,
        id: &DialogId,
        request: Request,
    ) {
        let known = self.dialog_known_as(id);
        let Some(dialog) = known else {
            match self.config.unknown_dialogs {
                UnknownDialogs::Refuse => {
                    self.refuse(flow, &request, StatusCode::CALL_DOES_NOT_EXIST);
                }
                UnknownDialogs::Ask => {
                    let txn = self.new_server(now, flow, via, key, &request);
                    if let Some(open) = self.open_mut(txn) {
                        open.parked = Some(Box::new(request.clone()));
                    }
                    self.events.push_back(Event::UnknownDialog {
                        txn: Some(ServerTxn(txn)),
                        request,
                        flow,
                    });
                }
            }
            return;
        };
        let refusal = self.check_in_dialog(dialog, &request);
        let txn = self.new_server(now, flow, via, key, &request);
        match refusal {
            // By its transaction: a repetition has taken its number, and gets the same answer.
            Some(response) => {
                self.count_refusal();
                self.finish_own(now, txn, response);
            }
            None => self.deliver_in_dialog(now, txn, dialog, flow, request),
        }
    }

    /// Hands a request that was [parked](Event::UnknownDialog) to the dialog that has been adopted since.
    ///
    /// # Errors
    /// [`StackError::Answered`]: the transaction is over; [`StackError::NoDialog`]: the dialog is still not known.
    pub fn readmit(&mut self, now: Instant, txn: ServerTxn) -> Result<(), StackError> {
        let open = self.open_mut(txn.0).ok_or(StackError::Answered)?;
        let request = open.parked.as_deref().ok_or(StackError::Answered)?;
        let id = DialogId::of_request(&request.headers).ok().flatten();
        let dialog = id.and_then(|id| self.dialog_known_as(&id));
        let dialog = dialog.ok_or(StackError::NoDialog)?;
        let server = self.servers.get_mut(&txn.0).ok_or(StackError::Answered)?;
        let parked = server.open.as_mut().and_then(|open| open.parked.take());
        let request = *parked.ok_or(StackError::Answered)?;
        let flow = server.flow;
        match self.check_in_dialog(dialog, &request) {
            Some(response) => {
                self.count_refusal();
                self.respond(now, txn, response)
            }
            None => {
                self.deliver_in_dialog(now, txn.0, dialog, flow, request);
                Ok(())
            }
        }
    }

    /// What the dialog refuses: sequence, state, glare, session interval.
    fn check_in_dialog(&mut self, dialog: u64, request: &Request) -> Option<Response> {
        let wait = u32::try_from(self.random.up_to(10)).unwrap_or(10);
        let entry = self.dialogs.get_mut(&dialog)?;
        let refuse = |status| Some(Response::to_request(request, status));
        let number = request.headers.cseq().map_or(0, |cseq| cseq.number);
        match entry.dialog.on_sequence(number) {
            Sequence::Next => {}
            // RFC 3261 §12.2.2.
            Sequence::Stale => return refuse(StatusCode::SERVER_INTERNAL_ERROR),
            Sequence::Repeated => return refuse(StatusCode::LOOP_DETECTED),
        }
        let is_over = entry.dialog.state == DialogState::Ending;
        if is_over && !matches!(request.method, Method::Bye | Method::Notify) {
            return refuse(StatusCode::CALL_DOES_NOT_EXIST);
        }
        let has_offer = !request.body.is_empty();
        let admitted = match request.method {
            Method::Invite => entry.dialog.offers.receive_invite(has_offer),
            Method::Update => {
                let early = entry.dialog.state != DialogState::Confirmed;
                entry.dialog.offers.receive_update(has_offer, early)
            }
            _ => Ok(()),
        };
        match admitted {
            Ok(()) => {}
            Err(Glare::RequestPending) => return refuse(StatusCode::REQUEST_PENDING),
            Err(Glare::Busy) => {
                let mut response = Response::to_request(request, StatusCode::SERVER_INTERNAL_ERROR);
                put_retry_after(&mut response, wait);
                return Some(response);
            }
        }
        None
    }

    fn deliver_in_dialog(&mut self, now: Instant, txn: u64, dialog: u64, flow: Flow, request: Request) {
        let Some(server) = self.servers.get_mut(&txn) else {
            return;
        };
        server.dialog = Some(dialog);
        let Some(entry) = self.dialogs.get_mut(&dialog) else {
            return;
        };
        if matches!(request.method, Method::Invite | Method::Update) {
            let session = entry
                .dialog
                .session
                .answer(&request.headers, self.config.session_timer.as_ref());
            let Some(open) = server.open.as_deref_mut() else {
                return;
            };
            open.session = if self.config.extensions.contains(&"timer") {
                session
            } else {
                SessionAnswer::Off
            };
            if let SessionAnswer::TooSmall(min_se) = open.session {
                let mut response = open.skeleton.clone();
                response.status = StatusCode::SESSION_INTERVAL_TOO_SMALL;
                let value = SessionExpires {
                    seconds: u32::try_from(min_se.as_secs()).unwrap_or(u32::MAX),
                    refresher: None,
                };
                response.headers.push_value(HeaderName::MinSe, &value);
                response.set_reason(StatusCode::SESSION_INTERVAL_TOO_SMALL.reason());
                self.count_refusal();
                self.finish_own(now, txn, response);
                return;
            }
            entry.dialog.refresh_target(&request.headers);
            // A peer that moved (new NAT binding, new connection) is reached where it was heard last.
            if matches!(entry.dialog.target, Target::Flow(_)) && entry.dialog.route_set.is_empty() {
                entry.dialog.target = Target::Flow(flow);
            }
            self.follow_next_hop(dialog);
        }
        let Some(entry) = self.dialogs.get_mut(&dialog) else {
            return;
        };
        match request.method {
            Method::Invite => {
                entry.invite_server = Some(txn);
                self.push_request(txn, request, flow, false, None);
            }
            Method::Bye => self.receive_bye(now, txn, dialog, request),
            Method::Prack => self.receive_prack(now, txn, dialog, flow, request),
            Method::Notify => {
                entry.note_notify(&request.headers);
                self.push_request(txn, request, flow, false, None);
                self.settle(dialog);
            }
            _ => self.push_request(txn, request, flow, false, None),
        }
    }

    fn receive_bye(&mut self, now: Instant, txn: u64, dialog: u64, request: Request) {
        self.answer_own(now, txn, StatusCode::OK);
        let Some(entry) = self.dialogs.get_mut(&dialog) else {
            return;
        };
        if entry.dialog.state == DialogState::Ending {
            // Both hung up at once; ours is still under way.
            return;
        }
        let open_invite = entry.invite_server.take();
        self.events.push_back(Event::Bye {
            dialog: DialogKey(dialog),
            request,
        });
        self.begin_ending(now, dialog, EndReason::RemoteBye);
        // RFC 3261 §15.1.2: requests still open should be answered 487.
        if let Some(invite) = open_invite {
            self.answer_own(now, invite, StatusCode::REQUEST_TERMINATED);
        }
        self.settle(dialog);
    }

    /// RFC 3262 §3.
    fn receive_prack(&mut self, now: Instant, txn: u64, dialog: u64, flow: Flow, request: Request) {
        let rack = request.headers.rack().ok().flatten();
        let invite = self.dialogs.get(&dialog).and_then(|entry| entry.invite_server);
        let acknowledged = invite.and_then(|id| {
            let open = self.servers.get_mut(&id)?.open.as_deref_mut()?;
            let rack = rack?;
            let reliable = open.reliable.as_mut()?;
            let matches = rack.cseq.number == open.cseq && rack.cseq.method == Method::Invite;
            (matches && reliable.sender.acknowledge(rack.rseq)).then_some((id, rack.rseq))
        });
        let Some((invite, rseq)) = acknowledged else {
            self.count_refusal();
            self.answer_own(now, txn, StatusCode::CALL_DOES_NOT_EXIST);
            return;
        };
        self.timers.stop(Due::Server(invite, ServerTimer::Reliable));
        self.timers.stop(Due::Server(invite, ServerTimer::ReliableGiveUp));
        let reliable = self.open_mut(invite).and_then(|open| open.reliable.as_deref());
        if reliable.is_some_and(|reliable| reliable.has_body)
            && let Some(entry) = self.dialogs.get_mut(&dialog)
        {
            entry.dialog.offers.offer_received = false;
        }
        if request.body.is_empty() {
            self.answer_own(now, txn, StatusCode::OK);
            self.events.push_back(Event::ProvisionalAcknowledged {
                txn: ServerTxn(invite),
                dialog: DialogKey(dialog),
                rseq,
            });
        } else {
            self.push_request(txn, request, flow, false, None);
        }
        self.continue_reliable(now, invite);
    }

    /// An ACK that belongs to a dialog: of a 2xx.
    fn receive_dialog_ack(&mut self, now: Instant, flow: Flow, id: &DialogId, request: Request) {
        let known = self.dialog_known_as(id);
        let Some(key) = known else {
            if self.config.unknown_dialogs == UnknownDialogs::Ask {
                self.events.push_back(Event::UnknownDialog {
                    txn: None,
                    request,
                    flow,
                });
            } else {
                self.stats.strays += 1;
            }
            return;
        };
        let number = request.headers.cseq().map_or(0, |cseq| cseq.number);
        let Some(entry) = self.dialogs.get_mut(&key) else {
            return;
        };
        if entry
            .unacknowledged
            .as_ref()
            .is_none_or(|sent| sent.cseq != number)
        {
            self.stats.strays += 1;
            return;
        }
        entry.unacknowledged = None;
        let deferred = entry.deferred_bye.take();
        self.timers.stop(Due::Dialog(key, DialogTimer::Repeat2xx));
        self.timers.stop(Due::Dialog(key, DialogTimer::AckGiveUp));
        self.events.push_back(Event::Ack {
            dialog: DialogKey(key),
            request,
        });
        if let Some(bye) = deferred {
            self.send_deferred(now, key, *bye);
        }
    }

    pub(super) fn server_timer(&mut self, now: Instant, id: u64, timer: ServerTimer) {
        let Some(server) = self.servers.get_mut(&id) else {
            return;
        };
        match timer {
            ServerTimer::Machine(timer) => {
                let actions = match &mut server.machine {
                    ServerMachine::Invite(machine) => machine.on_timer(timer, &server.path),
                    ServerMachine::NonInvite(machine) => machine.on_timer(timer),
                };
                if matches!(timer, Timer::G) && !actions.is_empty() {
                    self.stats.retransmissions_sent += 1;
                }
                self.run_server(now, id, actions);
            }
            ServerTimer::Answer => {
                self.events
                    .push_back(Event::AnswerTimedOut { txn: ServerTxn(id) });
                self.answer_own(now, id, StatusCode::TEMPORARILY_UNAVAILABLE);
            }
            ServerTimer::Reliable => {
                let open = server.open.as_deref_mut();
                let Some(reliable) = open.and_then(|open| open.reliable.as_mut()) else {
                    return;
                };
                reliable.interval *= 2;
                let (wire, interval) = (reliable.wire.clone(), reliable.interval);
                let (target, fallback) = server.reply.clone();
                self.stats.retransmissions_sent += 1;
                self.transmit(target, fallback, wire);
                self.timers
                    .start(Due::Server(id, ServerTimer::Reliable), now + interval);
            }
            ServerTimer::ReliableGiveUp => {
                self.events
                    .push_back(Event::ProvisionalTimedOut { txn: ServerTxn(id) });
                if let Some(reliable) = self.open_mut(id).and_then(|open| open.reliable.as_mut()) {
                    reliable.sender.take_final();
                }
                if let Some(server) = self.servers.get_mut(&id) {
                    server.answered = false;
                }
                self.answer_own(now, id, StatusCode::SERVER_TIMEOUT);
            }
            ServerTimer::Refresh => {
                let is_reliable = server.open.as_ref().is_some_and(|open| open.reliable.is_some());
                if let Some(wire) = server.last.clone().filter(|_| !is_reliable) {
                    let (target, fallback) = server.reply.clone();
                    self.transmit(target, fallback, wire);
                }
                self.timers
                    .start(Due::Server(id, ServerTimer::Refresh), now + REFRESH_EVERY);
            }
        }
    }

    /// Carries out what a server machine asks for. Delivery is the caller's.
    pub(super) fn run_server(&mut self, now: Instant, id: u64, actions: Actions) {
        for action in actions.iter() {
            match action {
                Action::Send => {
                    if let Some(server) = self.servers.get(&id)
                        && let Some(wire) = server.last.clone()
                    {
                        let (target, fallback) = server.reply.clone();
                        self.transmit(target, fallback, wire);
                    }
                }
                Action::SendTrying => self.send_trying(id),
                Action::Start(timer, after) => {
                    self.timers
                        .start(Due::Server(id, ServerTimer::Machine(timer)), now + after);
                }
                Action::Stop(timer) => {
                    self.timers.stop(Due::Server(id, ServerTimer::Machine(timer)));
                }
                Action::TimedOut => self.server_timed_out(id),
                Action::End => self.end_server(id),
                Action::Deliver | Action::SendAck | Action::TransportFailed => {}
            }
        }
    }

    fn server_timed_out(&mut self, id: u64) {
        let Some(server) = self.servers.get(&id) else {
            return;
        };
        // An INVITE refused and never acknowledged concerns nobody any more.
        if server.answered {
            return;
        }
        let is_update = server
            .open
            .as_ref()
            .is_some_and(|open| open.method == Method::Update);
        let dialog = server.dialog.filter(|_| is_update);
        if let Some(entry) = dialog.and_then(|dialog| self.dialogs.get_mut(&dialog)) {
            entry.dialog.offers.update_received = false;
        }
        self.events
            .push_back(Event::AnswerTimedOut { txn: ServerTxn(id) });
    }

    fn send_trying(&mut self, id: u64) {
        let Some(server) = self.servers.get_mut(&id) else {
            return;
        };
        let Some(open) = &server.open else { return };
        let trying = open.skeleton.clone();
        let wire = trying.to_bytes();
        server.last = Some(wire.clone());
        let (target, fallback) = server.reply.clone();
        let dialog = server.dialog.map(DialogKey);
        self.count_response_sent(&trying);
        self.transmit(target, fallback, wire);
        self.events.extend(dialog.map(|dialog| Event::Trying { dialog }));
    }

    /// Forgets a server transaction.
    pub(super) fn end_server(&mut self, id: u64) {
        let Some(server) = self.servers.remove(&id) else {
            return;
        };
        self.servers_by_key.remove(&server.key, id);
        if let Some(merge) = &server.merge {
            self.servers_by_merge.remove(merge, id);
        }
        self.timers.stop_all(id);
    }
}

/// RFC 4488: `Refer-Sub: false` or `Require: norefersub`.
pub(super) fn declines_subscription(request: &Request) -> bool {
    let field = request.headers.get(HeaderName::ReferSub);
    let says_false = field.is_some_and(|value| value.len() >= 5 && value[..5].eq_ignore_ascii_case(b"false"));
    says_false
        || request
            .headers
            .require()
            .is_ok_and(|tags| tags.contains("norefersub"))
}

pub(super) fn put_retry_after(response: &mut Response, seconds: u32) {
    let value = RetryAfter {
        seconds,
        params: crate::header::Params::new(),
    };
    response.headers.push_value(HeaderName::RetryAfter, &value);
}

/// Where responses go (RFC 3261 §18.2.2, RFC 3581 §4). `via` is stamped.
fn reply_target(flow: Flow, via: &Via) -> (Target, Option<Target>) {
    let source = flow.remote.ip();
    let received = via.received().or(via.sent_by.host.as_ip()).unwrap_or(source);
    let port = via.sent_by.port.unwrap_or(flow.transport.default_port());
    if flow.transport.is_reliable() {
        let fallback = Target::address(flow.transport, SocketAddr::new(received, port));
        return (Target::Flow(flow), Some(fallback));
    }
    let remote = match (via.maddr().and_then(|host| host.as_ip()), via.rport()) {
        (Some(maddr), _) => SocketAddr::new(maddr, port),
        // The source itself, so that an IPv4-mapped address stays what the socket gave us.
        (None, Some(_)) => flow.remote,
        (None, None) => SocketAddr::new(
            if via.received().is_some() {
                source
            } else {
                received
            },
            port,
        ),
    };
    (Target::Flow(Flow { remote, ..flow }), None)
}
