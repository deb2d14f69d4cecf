//! The dialog table: life and death of dialogs, requests inside them, and their timers.

use bytes::Bytes;
use std::time::{Duration, Instant};

use super::client::Client;
use super::event::{ClientTxn, DialogKey, EndReason, Event, StackError};
use super::flow::{Flow, Target};
use super::hop::{Hop, NameHop};
use super::outgoing::Outgoing;
use super::request::{Content, DialogRequest};
use super::{DialogTimer, Due, Stack};
use crate::dialog::{Dialog, DialogRecord, DialogState, SessionTimerRole, Side};
use crate::header::RAck;
use crate::limits::SEQUENCE_MARK;
use crate::message::{Header, HeaderName, Headers, Method, Request, StatusCode};
use crate::uri::{Host, Uri};

/// How long a subscription made by REFER may outlive its session.
const SUBSCRIPTION_LINGER: Duration = Duration::from_secs(180);

/// A dialog with what is under way in it.
#[derive(Debug)]
pub(super) struct DialogEntry {
    pub(super) dialog: Dialog,
    /// Other targets of the same next hop, in order.
    pub(super) alternates: Vec<Target>,
    /// The name of the next hop that was asked for last.
    pub(super) looked_up: Option<NameHop>,
    /// A 2xx of ours without ACK.
    pub(super) unacknowledged: Option<Unacknowledged>,
    /// The INVITE of ours whose 2xx our user has to ACK: transaction and CSeq.
    pub(super) to_ack: Option<(u64, u32)>,
    /// The reliable response our user has to PRACK.
    pub(super) to_prack: Option<RAck>,
    /// The peer's INVITE that is not answered finally.
    pub(super) invite_server: Option<u64>,
    /// Subscriptions made by REFER, either way.
    pub(super) subscriptions: u8,
    /// The method that met a 491.
    pub(super) glare: Option<Method>,
    /// A BYE that waits for the ACK of our 2xx.
    pub(super) deferred_bye: Option<Box<DeferredBye>>,
    /// A BYE of ours has no answer yet.
    pub(super) bye_open: bool,
    /// Up to this number our requests may be those of the process that had the dialog before.
    pub(super) inherited_cseq: u32,
    /// Its requests have no User-Agent.
    is_unnamed: bool,
    /// Our user was told to refresh the session and has not done so yet.
    refresh_told: bool,
    end_reason: EndReason,
}

/// A 2xx that is repeated until its ACK comes.
#[derive(Debug)]
pub(super) struct Unacknowledged {
    pub(super) cseq: u32,
    pub(super) wire: Bytes,
    pub(super) reply: (Target, Option<Target>),
    pub(super) interval: Duration,
}

/// RFC 3261 §15: the callee must not send BYE before the ACK came or is overdue.
#[derive(Debug)]
pub(super) struct DeferredBye {
    pub(super) txn: u64,
    pub(super) request: Request,
    pub(super) outgoing: Outgoing,
}

impl DialogEntry {
    pub(super) fn new(dialog: Dialog) -> Self {
        Self {
            dialog,
            alternates: Vec::new(),
            looked_up: None,
            unacknowledged: None,
            to_ack: None,
            to_prack: None,
            invite_server: None,
            subscriptions: 0,
            glare: None,
            deferred_bye: None,
            bye_open: false,
            inherited_cseq: 0,
            is_unnamed: false,
            refresh_told: false,
            end_reason: EndReason::LocalBye,
        }
    }

    /// No INVITE or UPDATE is open in either direction (RFC 3261 §14.1).
    fn may_invite(&self) -> bool {
        self.dialog.offers.may_send_invite() && self.to_ack.is_none()
    }

    /// A request of ours has gone, or waits for its turn: until it is answered it is open.
    pub(super) fn note_sent(&mut self, method: &Method) {
        match method {
            Method::Invite => self.dialog.offers.invite_sent = true,
            Method::Update => self.dialog.offers.update_sent = true,
            Method::Bye => self.bye_open = true,
            _ => {}
        }
    }

    /// A NOTIFY came or went: `terminated` ends a subscription.
    pub(super) fn note_notify(&mut self, headers: &Headers) {
        let state = headers.subscription_state().ok().flatten();
        if state.is_some_and(|state| state.is_terminated()) {
            self.subscriptions = self.subscriptions.saturating_sub(1);
        }
    }

    /// A NOTIFY of ours was answered, or not.
    pub(super) fn note_notify_answered(&mut self, headers: &Headers, status: Option<StatusCode>) {
        let before = self.subscriptions;
        self.note_notify(headers);
        // RFC 5057 §5.1: the peer does not know the subscription; the session is another matter.
        if status == Some(StatusCode::CALL_DOES_NOT_EXIST) && self.subscriptions == before {
            self.subscriptions = before.saturating_sub(1);
        }
    }
}

impl Stack {
    /// Sends a request inside a dialog: BYE, re-INVITE, UPDATE, INFO, REFER, NOTIFY, MESSAGE, OPTIONS, or any other.
    ///
    /// A BYE ends the dialog. From the callee it waits for the ACK of the 2xx if that is missing (RFC 3261 §15). A 2xx that
    /// waits for a PRACK itself has not been sent: there the INVITE is refused with 487 instead, and the error is
    /// [`StackError::NoDialog`].
    ///
    /// # Errors
    /// [`StackError::RequestPending`]: an offer is outstanding; [`StackError::WrongState`]: ACK, CANCEL or PRACK, or
    /// the dialog is ending, or not confirmed yet; [`StackError::NoDialog`]; [`StackError::NoIdentity`].
    pub fn dialog_request(
        &mut self,
        now: Instant,
        dialog: DialogKey,
        request: DialogRequest,
    ) -> Result<ClientTxn, StackError> {
        let entry = self.dialogs.get(&dialog.0).ok_or(StackError::NoDialog)?;
        let held = entry.invite_server.filter(|id| self.holds_answer(*id));
        if let (Method::Bye, Some(id)) = (&request.method, held) {
            self.answer_own(now, id, StatusCode::REQUEST_TERMINATED);
            return Err(StackError::NoDialog);
        }
        check_sendable(entry, &request)?;
        if matches!(request.method, Method::Invite | Method::Update) {
            let early = entry.dialog.state != DialogState::Confirmed;
            let has_offer = request.content.is_some();
            let offers = &entry.dialog.offers;
            let free = match request.method {
                Method::Invite => entry.may_invite(),
                _ => offers.may_send_update(has_offer, early),
            };
            if !free {
                return Err(StackError::RequestPending);
            }
        }
        self.send_in_dialog(now, dialog, request, false)
    }

    /// True when a re-INVITE may go out: the dialog stands, and no other offer is outstanding there.
    pub fn may_reinvite(&self, dialog: DialogKey) -> bool {
        let entry = self.dialogs.get(&dialog.0);
        entry.is_some_and(|entry| entry.dialog.state == DialogState::Confirmed && entry.may_invite())
    }

    /// A BYE or CANCEL of ours has no answer yet. Looks at every transaction: for who is about to end.
    pub fn awaits_farewells(&self) -> bool {
        let is_open = |client: &Client| client.living.is_some();
        let ends = |client: &Client| matches!(client.method, Method::Bye | Method::Cancel);
        self.clients
            .values()
            .any(|client| ends(client) && is_open(client))
    }

    /// Our Contact in this dialog says this of us too from now on, as `isfocus` (RFC 3840).
    pub fn add_contact_param(&mut self, dialog: DialogKey, param: &str) {
        if let Some(entry) = self.dialogs.get_mut(&dialog.0) {
            let contact = &mut entry.dialog.contact;
            let param = format!(";{param}");
            if !contact.ends_with(param.as_bytes()) {
                *contact = [&contact[..], param.as_bytes()].concat().into();
            }
        }
    }

    /// Requests of ours in this dialog go over this flow from now on, unless a route leads them elsewhere.
    pub fn move_dialog(&mut self, dialog: DialogKey, flow: Flow) {
        if let Some(entry) = self.dialogs.get_mut(&dialog.0)
            && entry.dialog.route_set.is_empty()
        {
            entry.dialog.target = Target::Flow(flow);
            entry.alternates.clear();
        }
    }

    /// Our requests in this dialog do not say what software we are.
    pub fn leave_unnamed(&mut self, dialog: DialogKey) {
        if let Some(entry) = self.dialogs.get_mut(&dialog.0) {
            entry.is_unnamed = true;
        }
    }

    /// Builds and sends; the caller has checked.
    pub(super) fn send_in_dialog(
        &mut self,
        now: Instant,
        key: DialogKey,
        request: DialogRequest,
        silent: bool,
    ) -> Result<ClientTxn, StackError> {
        let DialogRequest {
            method,
            content,
            headers,
            targets,
        } = request;
        let built = self.build_in_dialog(key, &method, content, &headers)?;
        let entry = self.dialogs.get(&key.0).ok_or(StackError::NoDialog)?;
        let hops = if targets.is_empty() {
            let own = std::iter::once(&entry.dialog.target).chain(&entry.alternates);
            let own = own.cloned().chain(entry.dialog.without_connection());
            own.map(Hop::Target).collect()
        } else {
            targets.into_iter().map(Hop::Target).collect()
        };
        let waits_for_ack = method == Method::Bye && entry.unacknowledged.is_some();
        let outgoing = Outgoing {
            hops,
            udp_only: None,
            dialog: Some(key.0),
            silent,
        };
        let txn = self.new_id();
        if waits_for_ack {
            if let Some(entry) = self.dialogs.get_mut(&key.0) {
                entry.deferred_bye = Some(Box::new(DeferredBye {
                    txn,
                    request: built,
                    outgoing,
                }));
            }
        } else {
            self.start_client(now, txn, built, outgoing)?;
        }
        let Some(entry) = self.dialogs.get_mut(&key.0) else {
            return Ok(ClientTxn(txn));
        };
        entry.note_sent(&method);
        if method == Method::Bye {
            self.begin_ending(now, key.0, EndReason::LocalBye);
        }
        Ok(ClientTxn(txn))
    }

    /// The request with every field but Via and User-Agent.
    fn build_in_dialog(
        &mut self,
        key: DialogKey,
        method: &Method,
        content: Option<Content>,
        headers: &Headers,
    ) -> Result<Request, StackError> {
        let entry = self.dialogs.get_mut(&key.0).ok_or(StackError::NoDialog)?;
        let mut built = entry.dialog.build_request(method.clone(), None);
        for field in headers {
            built.headers.push_field(field.clone());
        }
        if let Some(content) = content {
            content.put(&mut built.headers, &mut built.body);
        }
        let is_unnamed = entry.is_unnamed;
        self.mark_sequence(key.0);
        let Some(entry) = self.dialogs.get(&key.0) else {
            return Err(StackError::NoDialog);
        };
        let refreshes = matches!(method, Method::Invite | Method::Update);
        let names_us = refreshes || matches!(method, Method::Refer | Method::Notify | Method::Subscribe);
        if names_us && !built.headers.contains(HeaderName::Contact) {
            let field = Header::from_typed(HeaderName::Contact, &entry.dialog.contact);
            built.headers.push_field(field);
        }
        if !is_unnamed {
            self.write_user_agent(&mut built.headers);
        }
        if !refreshes {
            return Ok(built);
        }
        let entry = self.dialogs.get_mut(&key.0).ok_or(StackError::NoDialog)?;
        let has_interval = built.headers.contains(HeaderName::SessionExpires);
        if self.config.extensions.contains(&"timer") && !has_interval {
            let config = self.config.session_timer.as_ref();
            entry.dialog.session.write_request(&mut built.headers, config);
        }
        self.name_capabilities(&mut built.headers);
        Ok(built)
    }

    /// A request of the dialog took a number.
    pub(super) fn mark_sequence(&mut self, key: u64) {
        let number = self.dialogs.get(&key).map(|entry| entry.dialog.local_cseq);
        if number.is_some_and(|number| number.is_multiple_of(SEQUENCE_MARK)) {
            let dialog = DialogKey(key);
            self.events.push_back(Event::SequenceMark { dialog });
        }
    }

    pub(super) fn send_deferred(&mut self, now: Instant, key: u64, bye: DeferredBye) {
        if self
            .start_client(now, bye.txn, bye.request, bye.outgoing)
            .is_err()
        {
            self.events.push_back(Event::TransportFailed {
                txn: ClientTxn(bye.txn),
                dialog: Some(DialogKey(key)),
            });
            if let Some(entry) = self.dialogs.get_mut(&key) {
                entry.bye_open = false;
            }
            self.settle(key);
        }
    }

    /// A dialog as plain data; `None` unless it is confirmed.
    pub fn export(&self, dialog: DialogKey) -> Option<DialogRecord> {
        let dialog = self.dialog(dialog)?;
        (dialog.state == DialogState::Confirmed).then(|| DialogRecord::of(dialog))
    }

    /// Takes over a dialog from a journal or another node. `cseq_margin` is added to our sequence number: requests
    /// that were sent after the record was written. The session timer starts anew.
    ///
    /// # Errors
    /// [`StackError::Malformed`]: the record does not parse; [`StackError::WrongState`]: the dialog is here already;
    /// [`StackError::Overloaded`].
    pub fn adopt(
        &mut self,
        now: Instant,
        record: &DialogRecord,
        cseq_margin: u32,
    ) -> Result<DialogKey, StackError> {
        let mut dialog = record.restore().map_err(|_| StackError::Malformed)?;
        if self.dialog_known_as(&dialog.id).is_some() {
            return Err(StackError::WrongState);
        }
        if self.dialogs.len() >= self.config.limits.dialogs {
            return Err(StackError::Overloaded);
        }
        dialog.local_cseq = dialog.local_cseq.saturating_add(cseq_margin) & 0x7fff_ffff;
        let mut entry = DialogEntry::new(dialog);
        entry.inherited_cseq = entry.dialog.local_cseq;
        let key = self.insert_dialog(entry);
        self.start_session_timer(now, key);
        Ok(DialogKey(key))
    }

    /// Drops a dialog without telling the peer: after its owner has changed. True when it was there.
    pub fn forget_dialog(&mut self, dialog: DialogKey) -> bool {
        let known = self.dialogs.contains_key(&dialog.0);
        self.remove_dialog(dialog.0, EndReason::Forgotten);
        known
    }

    /// The peer's Contact is an address that we gave its device: `contact` is what it registered, and `target` leads there.
    /// A route set leads elsewhere first.
    pub fn set_registered(&mut self, dialog: DialogKey, contact: Uri, target: Option<Target>) {
        let Some(entry) = self.dialogs.get_mut(&dialog.0) else {
            return;
        };
        entry.dialog.registered = Some(contact);
        if let Some(target) = target.filter(|_| entry.dialog.route_set.is_empty()) {
            entry.dialog.target = target;
            entry.alternates.clear();
            entry.looked_up = None;
        }
    }

    /// It leads to one device, and only our user knows where (RFC 5627 §3.1).
    pub(super) fn is_gruu_of_ours(&self, uri: &Uri) -> bool {
        let is_of = |host: &Host| self.config.gruu_domains.iter().any(|own| own.matches(host));
        uri.params().contains("gr") && uri.host().is_some_and(is_of)
    }

    /// Sends a dialog's requests where its route set leads, if we have a socket for that. While a name is looked up
    /// they go where they went so far.
    pub(super) fn follow_next_hop(&mut self, key: u64) {
        let Some(entry) = self.dialogs.get(&key) else {
            return;
        };
        let next = entry.dialog.next_hop();
        let hop = entry
            .dialog
            .new_next_hop()
            .filter(|_| !self.is_gruu_of_ours(&next));
        match hop {
            Some(Hop::Target(target)) if self.identity_for(&target).is_some() => {
                if let Some(entry) = self.dialogs.get_mut(&key) {
                    entry.dialog.target = target;
                    entry.alternates.clear();
                    entry.looked_up = None;
                }
            }
            Some(Hop::Name(name)) => self.look_up_next_hop(key, name),
            Some(Hop::Target(_)) | None => {}
        }
    }

    /// Once for each name: a dialog is refreshed often.
    fn look_up_next_hop(&mut self, key: u64, name: NameHop) {
        let Some(entry) = self.dialogs.get_mut(&key) else {
            return;
        };
        if entry.looked_up.as_ref() != Some(&name) {
            entry.looked_up = Some(name.clone());
            // Refused, the dialog keeps its target.
            let _refused = self.ask(key, name);
        }
    }

    pub(super) fn insert_dialog(&mut self, entry: DialogEntry) -> u64 {
        let key = self.new_id();
        self.dialogs_by_id.insert(&entry.dialog.id, key);
        self.dialogs.insert(key, Box::new(entry));
        key
    }

    pub(super) fn remove_dialog(&mut self, key: u64, reason: EndReason) {
        let Some(entry) = self.dialogs.remove(&key) else {
            return;
        };
        self.dialogs_by_id.remove(&entry.dialog.id, key);
        self.timers.stop_all(key);
        self.events.push_back(Event::DialogEnded {
            dialog: DialogKey(key),
            reason,
        });
    }

    /// The session is over; the dialog stays for what is still under way.
    pub(super) fn begin_ending(&mut self, now: Instant, key: u64, reason: EndReason) {
        let Some(entry) = self.dialogs.get_mut(&key) else {
            return;
        };
        entry.dialog.state = DialogState::Ending;
        entry.end_reason = reason;
        entry.to_prack = None;
        let keeps_2xx = entry.deferred_bye.is_some();
        let subscribed = entry.subscriptions > 0;
        if !keeps_2xx {
            entry.unacknowledged = None;
            self.timers.stop(Due::Dialog(key, DialogTimer::Repeat2xx));
            self.timers.stop(Due::Dialog(key, DialogTimer::AckGiveUp));
        }
        self.timers.stop(Due::Dialog(key, DialogTimer::Session));
        self.timers.stop(Due::Dialog(key, DialogTimer::Glare));
        if subscribed {
            self.start_lingering(now, key);
        }
    }

    /// Subscriptions without a session end in bounded time.
    pub(super) fn start_lingering(&mut self, now: Instant, key: u64) {
        self.timers.start(
            Due::Dialog(key, DialogTimer::Subscription),
            now + SUBSCRIPTION_LINGER,
        );
    }

    /// Removes a dialog that is ending and has nothing under way any more.
    pub(super) fn settle(&mut self, key: u64) {
        let Some(entry) = self.dialogs.get(&key) else {
            return;
        };
        let is_over = entry.dialog.state == DialogState::Ending
            && !entry.bye_open
            && entry.deferred_bye.is_none()
            && entry.subscriptions == 0;
        if is_over {
            let reason = entry.end_reason;
            self.remove_dialog(key, reason);
        }
    }

    pub(super) fn start_session_timer(&mut self, now: Instant, key: u64) {
        let Some(entry) = self.dialogs.get_mut(&key) else {
            return;
        };
        entry.refresh_told = false;
        let due = Due::Dialog(key, DialogTimer::Session);
        match entry.dialog.session.due_after() {
            Some((after, _)) if entry.dialog.state == DialogState::Confirmed => {
                self.timers.start(due, now + after);
            }
            Some(_) | None => {
                self.timers.stop(due);
            }
        }
    }

    /// RFC 3261 §14.1: who made the Call-ID waits 2.1 to 4 s, the other side up to 2 s, in steps of 10 ms.
    pub(super) fn start_glare_timer(&mut self, now: Instant, key: u64, method: Method) {
        let Some(side) = self.dialogs.get(&key).map(|entry| entry.dialog.side) else {
            return;
        };
        let steps = match side {
            Side::Uac => 210 + self.random.up_to(190),
            Side::Uas => self.random.up_to(200),
        };
        if let Some(entry) = self.dialogs.get_mut(&key) {
            entry.glare = Some(method);
        }
        let due = now + Duration::from_millis(steps * 10);
        self.timers.start(Due::Dialog(key, DialogTimer::Glare), due);
    }

    pub(super) fn dialog_timer(&mut self, now: Instant, key: u64, timer: DialogTimer) {
        let t2 = self.config.timing.t2;
        let Some(entry) = self.dialogs.get_mut(&key) else {
            return;
        };
        let dialog = DialogKey(key);
        match timer {
            DialogTimer::Repeat2xx => {
                let Some(sent) = entry.unacknowledged.as_mut() else {
                    return;
                };
                sent.interval = (sent.interval * 2).min(t2);
                let (interval, wire) = (sent.interval, sent.wire.clone());
                let (target, fallback) = sent.reply.clone();
                self.stats.retransmissions_sent += 1;
                self.transmit(target, fallback, wire);
                self.timers
                    .start(Due::Dialog(key, DialogTimer::Repeat2xx), now + interval);
            }
            DialogTimer::AckGiveUp => {
                entry.unacknowledged = None;
                let deferred = entry.deferred_bye.take();
                self.timers.stop(Due::Dialog(key, DialogTimer::Repeat2xx));
                match deferred {
                    Some(bye) => self.send_deferred(now, key, *bye),
                    None => self.events.push_back(Event::AckTimedOut { dialog }),
                }
            }
            DialogTimer::Session => match entry.dialog.session.agreed {
                Some((interval, SessionTimerRole::Refresher)) if !entry.refresh_told => {
                    // Should the refresh fail, the other half of the interval is left to end the call.
                    entry.refresh_told = true;
                    let rest = interval / 2 - Duration::from_secs(32).min(interval / 3);
                    self.timers
                        .start(Due::Dialog(key, DialogTimer::Session), now + rest);
                    self.events.push_back(Event::SessionRefreshDue { dialog });
                }
                Some((_, SessionTimerRole::Refresher | SessionTimerRole::Watcher)) => {
                    self.events.push_back(Event::SessionExpired { dialog });
                }
                None => {}
            },
            DialogTimer::Glare => {
                if let Some(method) = entry.glare.take() {
                    self.events.push_back(Event::GlareOver { dialog, method });
                }
            }
            DialogTimer::Subscription => {
                entry.subscriptions = 0;
                self.settle(key);
            }
        }
    }
}

fn check_sendable(entry: &DialogEntry, request: &DialogRequest) -> Result<(), StackError> {
    let allowed = match (&request.method, entry.dialog.state) {
        (Method::Ack | Method::Cancel | Method::Prack, _) => false,
        // What a subscription still needs after the session (RFC 3515 §2.4.4).
        (Method::Notify, DialogState::Ending) => entry.subscriptions > 0,
        (_, DialogState::Ending | DialogState::Invited) => false,
        (_, DialogState::Confirmed) => true,
        // RFC 3261 §15: in an early dialog only the caller may send BYE.
        (Method::Bye, DialogState::Early) => entry.dialog.side == Side::Uac,
        (Method::Invite, DialogState::Early) => false,
        (_, DialogState::Early) => true,
    };
    if allowed {
        Ok(())
    } else {
        Err(StackError::WrongState)
    }
}
