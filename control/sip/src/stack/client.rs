//! The sending half: responses, forks, failover.

use bytes::Bytes;
use std::borrow::Cow;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Instant;

use super::dialogs::DialogEntry;
use super::event::{ClientTxn, DialogKey, EndReason, Event};
use super::flow::{Target, Transmit};
use super::hop::Hop;
use super::outgoing::Outgoing;
use super::{ClientTimer, Due, Stack};
use crate::dialog::{Dialog, DialogId, DialogState, ProvisionalOrder};
use crate::header::{CSeq, RAck, Reason};
use crate::limits::{FORK_COUNT_MAX, Limits};
use crate::message::{self, Header, HeaderName, Message, Method, Request, Response, StatusCode};
use crate::transaction::{Action, Actions, InviteClient, NonInviteClient, Path, Timer};

#[derive(Debug, Clone)]
pub(super) enum ClientMachine {
    Invite(InviteClient),
    NonInvite(NonInviteClient),
}

#[derive(Debug, Clone)]
pub(super) enum Cancel {
    No,
    /// Waits for the first provisional response.
    Wanted(Option<Reason>),
    Sent,
}

/// A client transaction.
#[derive(Debug, Clone)]
pub(super) struct Client {
    pub(super) machine: ClientMachine,
    pub(super) branch: Bytes,
    pub(super) method: Method,
    /// As sent.
    pub(super) wire: Bytes,
    /// The same, until its final response: see [`Client::request`].
    pub(super) living: Option<Request>,
    pub(super) path: Path,
    pub(super) target: Target,
    /// Where to try next.
    pub(super) hops: VecDeque<Hop>,
    /// Sent there over UDP although it is large: there is no connection to be had.
    pub(super) udp_only: Option<SocketAddr>,
    /// The Contact is ours to write anew for another target.
    pub(super) own_contact: bool,
    /// The dialog the request was sent in.
    pub(super) dialog: Option<u64>,
    /// The dialogs its responses made.
    pub(super) forks: Vec<u64>,
    /// ACKs of 2xx by To tag.
    pub(super) acks: Vec<(Bytes, Transmit)>,
    /// The ACK of another final response.
    pub(super) last_ack: Option<Bytes>,
    pub(super) cancel: Cancel,
    /// The stack's own: no events.
    pub(super) silent: bool,
}

impl Client {
    /// What was sent. Once there is a final response only its text is kept: for repeating it with credentials, and for
    /// forks that answer later.
    pub(super) fn request(&self) -> Option<Cow<'_, Request>> {
        if let Some(request) = &self.living {
            return Some(Cow::Borrowed(request));
        }
        match message::parse_datagram(self.wire.clone(), &Limits::DEFAULT) {
            Ok(Message::Request(request)) => Some(Cow::Owned(request)),
            // We would have written what we cannot read.
            Ok(Message::Response(_)) | Err(_) => None,
        }
    }

    /// The start of a CANCEL, or of an ACK for a response that is no 2xx: the same Request-URI, Via, Route, From,
    /// Call-ID and CSeq number (RFC 3261 §9.1, §17.1.1.3). To is missing.
    pub(super) fn derived(&self, method: Method) -> Option<Request> {
        let mut request = self.request()?.into_owned();
        request.method = method.clone();
        request.body = Bytes::new();
        let original = std::mem::take(&mut request.headers);
        let number = original.cseq().map_or(1, |cseq| cseq.number);
        let mut is_top = true;
        for field in &original {
            let kept = [
                HeaderName::Route,
                HeaderName::From,
                HeaderName::CallId,
                HeaderName::MaxForwards,
            ];
            let is_via = field.name() == HeaderName::Via;
            if kept.iter().any(|&name| field.name() == name) || (is_via && is_top) {
                request.headers.push_field(field.clone());
                is_top &= !is_via;
            }
        }
        request
            .headers
            .push_value(HeaderName::CSeq, &CSeq { number, method });
        Some(request)
    }

    pub(super) fn is_cancel(&self) -> bool {
        self.method == Method::Cancel
    }

    fn is_cancelled(&self) -> bool {
        !matches!(self.cancel, Cancel::No)
    }
}

impl Stack {
    pub(super) fn receive_response(&mut self, now: Instant, response: Response) {
        let class = usize::from(response.status.class());
        self.stats.responses_received[class - 1] += 1;
        let headers = &response.headers;
        let (Ok(vias), Ok(cseq)) = (headers.vias(), headers.cseq()) else {
            self.stats.malformed += 1;
            return;
        };
        let is_sound = headers.from().is_ok() && headers.to().is_ok() && headers.call_id().is_ok();
        // RFC 3261 §8.1.3.3: more than one Via means that it is not ours.
        let ([via], true) = (&vias[..], is_sound) else {
            self.stats.strays += 1;
            return;
        };
        let branch = via.params.value_bytes("branch").unwrap_or_default();
        let Some(id) = self.client_of(&branch, cseq.method == Method::Cancel) else {
            let is_invited = cseq.method == Method::Invite && response.status.is_success();
            if !(is_invited && self.ack_inherited(&response, cseq.number)) {
                self.stats.strays += 1;
            }
            return;
        };
        let Some(client) = self
            .clients
            .get_mut(&id)
            .filter(|client| client.method == cseq.method)
        else {
            self.stats.strays += 1;
            return;
        };
        let status = response.status;
        // RFC 3263 §4.3; RFC 5626 §5.3.2: an edge proxy whose flow to the phone is gone.
        let asks_for_next = [StatusCode::SERVICE_UNAVAILABLE, StatusCode::FLOW_FAILED].contains(&status);
        let can_fail_over = asks_for_next && !client.hops.is_empty() && !client.is_cancelled();
        let actions = match &mut client.machine {
            ClientMachine::Invite(machine) if status.is_provisional() => machine.on_provisional(),
            ClientMachine::Invite(machine) if status.is_success() => machine.on_success(&client.path),
            ClientMachine::Invite(machine) => machine.on_failure(&client.path),
            ClientMachine::NonInvite(machine) if status.is_provisional() => machine.on_provisional(),
            ClientMachine::NonInvite(machine) => machine.on_final(&client.path),
        };
        let is_new = actions.iter().any(|action| action == Action::Deliver);
        if !is_new {
            self.stats.retransmissions_received += 1;
        }
        if asks_for_next && is_new {
            self.note_failed(id);
        }
        if can_fail_over && is_new {
            self.fail_over(now, id, Some((actions, response)));
        } else {
            self.run_client(now, id, actions, Some(response));
        }
    }

    /// Carries out what a client machine asks for. `response` is what came, if something came.
    pub(super) fn run_client(&mut self, now: Instant, id: u64, actions: Actions, response: Option<Response>) {
        let mut response = response;
        for action in actions.iter() {
            match action {
                Action::Send => {
                    if let Some(client) = self.clients.get(&id) {
                        let (target, wire) = (client.target.clone(), client.wire.clone());
                        self.transmit(target, None, wire);
                    }
                }
                Action::SendAck => self.send_failure_ack(id, response.as_ref()),
                Action::Deliver => {
                    if let Some(response) = response.take() {
                        self.deliver_response(now, id, response);
                    }
                }
                Action::Start(timer, after) => {
                    self.timers
                        .start(Due::Client(id, ClientTimer::Machine(timer)), now + after);
                }
                Action::Stop(timer) => {
                    self.timers.stop(Due::Client(id, ClientTimer::Machine(timer)));
                }
                Action::TimedOut => {
                    self.stats.timeouts += 1;
                    self.report_failure(now, id, true);
                }
                Action::TransportFailed => self.report_failure(now, id, false),
                Action::End => self.end_client(id),
                Action::SendTrying => {}
            }
        }
    }

    /// RFC 3261 §17.1.1.3.
    fn send_failure_ack(&mut self, id: u64, response: Option<&Response>) {
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        if client.last_ack.is_none() {
            let Some(mut ack) = client.derived(Method::Ack) else {
                return;
            };
            // The To of the response, tag included.
            if let Some(to) = response.and_then(|response| response.headers.field(HeaderName::To)) {
                ack.headers.push_field(to.clone());
            }
            client.last_ack = Some(ack.to_bytes());
            self.stats.requests_sent.count(&Method::Ack);
        }
        let Some(client) = self.clients.get(&id) else {
            return;
        };
        if let Some(wire) = client.last_ack.clone() {
            let target = client.target.clone();
            self.transmit(target, None, wire);
        }
    }

    fn deliver_response(&mut self, now: Instant, id: u64, response: Response) {
        let Some(client) = self.clients.get(&id) else {
            return;
        };
        let status = response.status;
        let is_invite = matches!(client.machine, ClientMachine::Invite(_));
        if is_invite && status.is_provisional() {
            self.deliver_invite_provisional(now, id, response);
        } else if is_invite && status.is_success() {
            self.deliver_invite_success(now, id, response);
        } else {
            let (dialog, method) = (client.dialog, client.method.clone());
            self.push_response(id, response.clone(), dialog, false);
            if status.is_final() {
                self.stop_waiting(id);
                self.after_final(now, id, dialog, &method, Some(&response));
                if let Some(client) = self.clients.get_mut(&id) {
                    client.living = None;
                }
            }
        }
    }

    fn push_response(&mut self, id: u64, response: Response, dialog: Option<u64>, needs_prack: bool) {
        // Who knows a password is our user alone, also for a PRACK that the stack sent by itself.
        let asks = [
            StatusCode::UNAUTHORIZED,
            StatusCode::PROXY_AUTHENTICATION_REQUIRED,
        ];
        let is_challenge = asks.contains(&response.status);
        let Some(client) = self.clients.get(&id) else {
            return;
        };
        if client.silent && !(is_challenge && client.method == Method::Prack) {
            return;
        }
        self.events.push_back(Event::Response {
            txn: ClientTxn(id),
            response,
            dialog: dialog.map(DialogKey),
            needs_prack,
            cancelled: client.is_cancelled(),
        });
    }

    fn stop_waiting(&mut self, id: u64) {
        self.timers.stop(Due::Client(id, ClientTimer::Ring));
        self.timers.stop(Due::Client(id, ClientTimer::CancelWait));
    }

    fn deliver_invite_provisional(&mut self, now: Instant, id: u64, response: Response) {
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        let is_trying = response.status == StatusCode::TRYING;
        match std::mem::replace(&mut client.cancel, Cancel::No) {
            Cancel::Wanted(reason) => self.send_cancel(now, id, reason.as_ref()),
            Cancel::Sent => client.cancel = Cancel::Sent,
            Cancel::No => {
                let ring = Due::Client(id, ClientTimer::Ring);
                // As timer C (RFC 3261 §16.7 step 2): every provisional response but 100 gives new patience.
                if !is_trying || self.timers.due(ring).is_none() {
                    self.timers.start(ring, now + self.config.ring_max);
                }
            }
        }
        let has_tag = response.headers.tag(HeaderName::To).is_some();
        let dialog = if is_trying || !has_tag {
            self.clients.get(&id).and_then(|client| client.dialog)
        } else {
            match self.dialog_of(id, &response) {
                Some(dialog) => Some(dialog),
                None => return,
            }
        };
        let mut needs_prack = false;
        let is_reliable = response
            .headers
            .require()
            .is_ok_and(|tags| tags.contains("100rel"));
        let rseq = response.headers.rseq().ok().flatten();
        if let (true, Some(rseq), Some(dialog)) = (is_reliable, rseq, dialog) {
            let Some(entry) = self.dialogs.get_mut(&dialog) else {
                return;
            };
            let invite = response.headers.cseq().map_or(0, |cseq| cseq.number);
            match entry.dialog.received.on_provisional(invite, rseq) {
                ProvisionalOrder::Next => {}
                ProvisionalOrder::Repeated | ProvisionalOrder::OutOfOrder => {
                    self.stats.retransmissions_received += 1;
                    return;
                }
            }
            needs_prack = self.acknowledge_provisional(now, id, dialog, rseq, &response);
        }
        self.push_response(id, response, dialog, needs_prack);
    }

    /// Sends the PRACK, unless it must hold an answer only our user can give; true then.
    fn acknowledge_provisional(
        &mut self,
        now: Instant,
        id: u64,
        dialog: u64,
        rseq: u32,
        response: &Response,
    ) -> bool {
        let Some(client) = self.clients.get(&id) else {
            return false;
        };
        let Some(request) = client.request() else {
            return false;
        };
        let Ok(cseq) = request.headers.cseq() else {
            return false;
        };
        let holds_offer = request.body.is_empty() && !response.body.is_empty();
        let Some(entry) = self.dialogs.get_mut(&dialog) else {
            return false;
        };
        entry.to_prack = Some(RAck { rseq, cseq });
        if !holds_offer {
            // But for a challenge, no answer to a PRACK of ours is anybody's business; its failure shows in the INVITE.
            let _sent = self.send_prack(now, DialogKey(dialog), None, true);
        }
        holds_offer
    }

    fn deliver_invite_success(&mut self, now: Instant, id: u64, response: Response) {
        self.stop_waiting(id);
        let Some(client) = self.clients.get(&id) else {
            return;
        };
        let tag = response.headers.tag(HeaderName::To).unwrap_or_default();
        if let Some((_, ack)) = client.acks.iter().find(|(known, _)| known == tag) {
            // RFC 3261 §13.2.2.4: every repetition of a 2xx gets the same ACK again.
            let ack = ack.clone();
            self.stats.retransmissions_received += 1;
            self.stats.retransmissions_sent += 1;
            self.transmits.push_back(ack);
            return;
        }
        let Some(dialog) = self.dialog_of(id, &response) else {
            return;
        };
        let Some(entry) = self.dialogs.get_mut(&dialog) else {
            return;
        };
        if entry.to_ack.is_some_and(|(txn, _)| txn == id) {
            // Our user has it already and has not acknowledged it yet.
            self.stats.retransmissions_received += 1;
            return;
        }
        let cseq = response.headers.cseq().map_or(0, |cseq| cseq.number);
        entry.to_ack = Some((id, cseq));
        entry.dialog.offers.invite_sent = false;
        match entry.dialog.state {
            DialogState::Invited | DialogState::Early => {
                // What cannot be read stays as the early dialog had it.
                let _kept = entry.dialog.confirm(&response);
            }
            DialogState::Confirmed => entry.dialog.refresh_target(&response.headers),
            DialogState::Ending => {}
        }
        if self.config.extensions.contains(&"timer") {
            entry.dialog.session.agree_as_uac(&response.headers);
        }
        self.follow_next_hop(dialog);
        self.start_session_timer(now, dialog);
        self.push_response(id, response, Some(dialog), false);
    }

    /// The dialog of a response with To tag: the one the INVITE was sent in, a known fork, or a new one.
    fn dialog_of(&mut self, id: u64, response: &Response) -> Option<u64> {
        let client = self.clients.get(&id)?;
        if client.dialog.is_some() {
            return client.dialog;
        }
        let dialog_id = DialogId::of_checked_response(&response.headers)?;
        if let Some(key) = self.dialog_known_as(&dialog_id) {
            return client.forks.contains(&key).then_some(key);
        }
        // Nobody could ever answer a silent INVITE, and a flood of forks must end somewhere.
        if client.forks.len() >= FORK_COUNT_MAX || self.dialogs.len() >= self.config.limits.dialogs {
            self.stats.overloaded += 1;
            return None;
        }
        let request = client.request()?;
        let contact = request.headers.get(HeaderName::Contact).unwrap_or_default();
        let contact = Bytes::copy_from_slice(contact);
        let made = Dialog::from_response(&request, response, contact, client.target.clone());
        let Ok(mut dialog) = made else {
            self.stats.malformed += 1;
            return None;
        };
        dialog.offers.invite_sent = true;
        if self.is_gruu_of_ours(&dialog.remote_target) {
            // The device was reached as it registered.
            dialog.registered = request.uri().ok();
        }
        let key = self.insert_dialog(DialogEntry::new(dialog));
        self.follow_next_hop(key);
        if let Some(client) = self.clients.get_mut(&id) {
            client.forks.reserve_exact(1);
            client.forks.push(key);
        }
        Some(key)
    }

    /// What follows from a final response that is no 2xx to INVITE, or from none at all.
    pub(super) fn after_final(
        &mut self,
        now: Instant,
        id: u64,
        dialog: Option<u64>,
        method: &Method,
        response: Option<&Response>,
    ) {
        let status = response.map(|response| response.status);
        let Some(key) = dialog else {
            if *method == Method::Invite {
                let reason = status.map_or(EndReason::NoResponse, EndReason::Failed);
                self.end_forks(id, reason, false);
            }
            return;
        };
        let Some(entry) = self.dialogs.get_mut(&key) else {
            return;
        };
        match (method, response) {
            (Method::Invite, _) => entry.dialog.offers.invite_sent = false,
            (Method::Update, response) => {
                entry.dialog.offers.update_sent = false;
                if let Some(response) = response.filter(|response| response.status.is_success()) {
                    entry.dialog.refresh_target(&response.headers);
                    if self.config.extensions.contains(&"timer") {
                        entry.dialog.session.agree_as_uac(&response.headers);
                    }
                    self.follow_next_hop(key);
                    self.start_session_timer(now, key);
                }
            }
            (Method::Bye, _) => {
                entry.bye_open = false;
                let challenged = status.is_some_and(|status| {
                    status == StatusCode::UNAUTHORIZED || status == StatusCode::PROXY_AUTHENTICATION_REQUIRED
                });
                if challenged {
                    // The user may want to send it again with credentials.
                    let due = Due::Dialog(key, super::DialogTimer::Subscription);
                    self.timers.start(due, now + self.config.timing.give_up());
                } else {
                    self.settle(key);
                }
                return;
            }
            (Method::Refer, Some(response)) if response.status.is_success() => {
                let request = self.clients.get(&id).and_then(|client| client.request());
                if request.is_some_and(|request| !super::server::declines_subscription(&request)) {
                    entry.subscriptions = entry.subscriptions.saturating_add(1);
                }
            }
            (Method::Notify, _) => {
                if let Some(request) = self.clients.get(&id).and_then(|client| client.request()) {
                    entry.note_notify_answered(&request.headers, status);
                }
                self.settle(key);
                return;
            }
            _ => {}
        }
        let is_offer = matches!(method, Method::Invite | Method::Update);
        if status == Some(StatusCode::REQUEST_PENDING) && is_offer {
            self.start_glare_timer(now, key, method.clone());
        }
        // RFC 5057 §5.1: the peer does not know the dialog. A PRACK's 481 speaks of its INVITE only.
        if status == Some(StatusCode::CALL_DOES_NOT_EXIST) && *method != Method::Prack {
            self.remove_dialog(key, EndReason::Unknown);
        }
    }

    /// Ends the dialogs an INVITE made; with `only_early` those that a 2xx confirmed stay.
    fn end_forks(&mut self, id: u64, reason: EndReason, only_early: bool) {
        let forks = match self.clients.get_mut(&id) {
            Some(client) => std::mem::take(&mut client.forks),
            None => return,
        };
        for key in forks {
            let state = self.dialogs.get(&key).map(|entry| entry.dialog.state);
            if !only_early || state == Some(DialogState::Early) {
                self.remove_dialog(key, reason);
            }
        }
    }

    fn report_failure(&mut self, now: Instant, id: u64, timed_out: bool) {
        let Some(client) = self.clients.get(&id) else {
            return;
        };
        let (dialog, method) = (client.dialog, client.method.clone());
        if !client.silent {
            let (txn, dialog) = (ClientTxn(id), dialog.map(DialogKey));
            self.events.push_back(if timed_out {
                Event::Timeout { txn, dialog }
            } else {
                Event::TransportFailed { txn, dialog }
            });
        }
        self.after_final(now, id, dialog, &method, None);
    }

    pub(super) fn client_timer(&mut self, now: Instant, id: u64, timer: ClientTimer) {
        match timer {
            ClientTimer::Lookup => return self.lookup_overdue(now, id),
            ClientTimer::Machine(Timer::B | Timer::F) => self.note_failed(id),
            ClientTimer::Machine(_) | ClientTimer::Ring | ClientTimer::CancelWait => {}
        }
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        match timer {
            ClientTimer::Machine(timer @ (Timer::B | Timer::F))
                if !client.hops.is_empty() && !client.is_cancelled() =>
            {
                let _ = timer;
                self.fail_over(now, id, None);
            }
            ClientTimer::Machine(timer) => {
                let actions = match &mut client.machine {
                    ClientMachine::Invite(machine) => machine.on_timer(timer),
                    ClientMachine::NonInvite(machine) => machine.on_timer(timer, &client.path),
                };
                if matches!(timer, Timer::A | Timer::E) && !actions.is_empty() {
                    self.stats.retransmissions_sent += 1;
                }
                self.run_client(now, id, actions, None);
            }
            ClientTimer::Ring => {
                let reason = Reason::new("SIP", 408, "Ringing too long");
                self.send_cancel(now, id, Some(&reason));
            }
            ClientTimer::Lookup => {}
            ClientTimer::CancelWait => {
                if let ClientMachine::Invite(machine) = &mut client.machine {
                    let actions = machine.on_abandon();
                    self.run_client(now, id, actions, None);
                }
            }
        }
    }

    pub(super) fn client_transport_error(&mut self, now: Instant, id: u64) {
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        let mut machine = client.machine.clone();
        let actions = match &mut machine {
            ClientMachine::Invite(machine) => machine.on_transport_error(),
            ClientMachine::NonInvite(machine) => machine.on_transport_error(),
        };
        let fails = actions.iter().any(|action| action == Action::TransportFailed);
        let goes_on = fails && !client.hops.is_empty() && !client.is_cancelled();
        if !goes_on {
            client.machine = machine;
        }
        if fails {
            self.note_failed(id);
        }
        if goes_on {
            self.fail_over(now, id, None);
        } else {
            self.run_client(now, id, actions, None);
        }
    }

    /// RFC 3263 §4.3: the same request with a new branch to the next target. A 503 to an INVITE leaves its old
    /// transaction behind, to acknowledge repetitions.
    fn fail_over(&mut self, now: Instant, id: u64, refused: Option<(Actions, Response)>) {
        self.end_forks(id, EndReason::Failed(StatusCode::SERVICE_UNAVAILABLE), false);
        let Some(mut client) = self.clients.remove(&id) else {
            return;
        };
        self.clients_by_branch.remove(&(&client.branch, false), id);
        self.timers.stop_all(id);
        if let (ClientMachine::Invite(_), Some((actions, response))) = (&client.machine, refused) {
            let left = Client {
                silent: true,
                dialog: None,
                hops: VecDeque::new(),
                ..Client::clone(&client)
            };
            let left_id = self.new_id();
            self.insert_client(left_id, left);
            self.run_client(now, left_id, actions, Some(response));
        }
        let hops = std::mem::take(&mut client.hops);
        let Some(mut request) = client.request().map(Cow::into_owned) else {
            return;
        };
        request.headers.pop_first_value(HeaderName::Via);
        if client.own_contact {
            request.headers.remove(HeaderName::Contact);
        }
        let outgoing = Outgoing {
            hops,
            udp_only: client.udp_only,
            dialog: client.dialog,
            silent: client.silent,
        };
        self.start_or_fail(now, id, request, outgoing);
    }

    /// Starts a transaction that its user knows already; tells when that cannot be.
    pub(super) fn start_or_fail(&mut self, now: Instant, id: u64, request: Request, outgoing: Outgoing) {
        let (dialog, silent, method) = (outgoing.dialog, outgoing.silent, request.method.clone());
        if self.start_client(now, id, request, outgoing).is_err() {
            if !silent {
                self.events.push_back(Event::TransportFailed {
                    txn: ClientTxn(id),
                    dialog: dialog.map(DialogKey),
                });
            }
            self.after_final(now, id, dialog, &method, None);
        }
    }

    /// Forgets a client transaction.
    pub(super) fn end_client(&mut self, id: u64) {
        self.end_forks(id, EndReason::OtherFork, true);
        let Some(client) = self.clients.remove(&id) else {
            return;
        };
        self.clients_by_branch
            .remove(&(&client.branch, client.is_cancel()), id);
        self.timers.stop_all(id);
    }

    /// Keeps the ACK of a 2xx for its repetitions.
    pub(super) fn keep_ack(&mut self, id: u64, tag: Bytes, ack: Transmit) {
        if let Some(client) = self.clients.get_mut(&id) {
            // What stays for half a minute has no room to spare.
            client.acks.reserve_exact(1);
            client.acks.push((tag, ack));
            client.living = None;
            client.hops = VecDeque::new();
        }
    }

    /// Fields of the INVITE that its ACK must repeat (RFC 3261 §13.2.2.4): credentials.
    pub(super) fn credentials_of(&self, id: u64) -> Vec<Header> {
        let request = self.clients.get(&id).and_then(|client| client.request());
        let Some(request) = request else {
            return Vec::new();
        };
        let names = [HeaderName::Authorization, HeaderName::ProxyAuthorization];
        let fields = request.headers.iter();
        fields
            .filter(|field| names.iter().any(|&name| field.name() == name))
            .cloned()
            .collect()
    }
}
