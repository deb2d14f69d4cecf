//! Page-mode messages (RFC 3428): to all devices of a user, out over a trunk, or within a call to the other party. Nothing
//! is kept for later: who sends one is told whether somebody took it.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use bytes::Bytes;
use sip::{
    message::{Header, HeaderName, Headers, Method, Request, Response, StatusCode},
    stack::{ClientTxn, Content, DialogRequest, Flow, Hop, ServerTxn, StackError},
};

use super::{
    Controller, Due, Now, Purpose,
    arrival::Arrival,
    calling::unavailable,
    outbound::{Outward, advances, name_of, origin_of},
    rounds::{address_of, presented, told},
};
use crate::{
    call::{CallId, Side, Stage, rank},
    domain::Name,
    limits,
    routing::Destination,
    trunk::TargetId,
};

/// Just less than a sender waits for its answer (RFC 3261 §17.1.2.2, timer F).
const PATIENCE: Duration = Duration::from_secs(30);
/// Fields that say what a body is, and what its sender says of it for people.
const CONTENT: [HeaderName; 10] = [
    HeaderName::InfoPackage,
    HeaderName::ContentType,
    HeaderName::ContentEncoding,
    HeaderName::ContentLanguage,
    HeaderName::ContentDisposition,
    HeaderName::MimeVersion,
    HeaderName::Date,
    HeaderName::Expires,
    HeaderName::Subject,
    HeaderName::Priority,
];
/// Fields that say what would have been taken instead.
const TAKEN: [HeaderName; 4] = [
    HeaderName::RecvInfo,
    HeaderName::Accept,
    HeaderName::AcceptEncoding,
    HeaderName::AcceptLanguage,
];

/// How digits come in an INFO: `application/` these.
const DIGITS: [&str; 2] = ["dtmf-relay", "dtmf"];

/// A message that nobody took yet.
#[derive(Debug)]
pub(super) struct Message {
    txn: ServerTxn,
    /// What is sent of it, whoever gets it.
    headers: Headers,
    body: Bytes,
    /// Requests without final answer.
    open: Vec<ClientTxn>,
    /// The refusal that says most.
    refusal: Option<Response>,
    until: Instant,
    outside: Option<Outside>,
}

/// It goes out.
#[derive(Debug)]
struct Outside {
    outward: Outward,
    /// Targets that were not asked yet.
    ways: VecDeque<TargetId>,
    /// The one that is.
    way: Option<TargetId>,
}

impl Controller {
    /// A message outside of dialogs.
    pub(super) fn receive_message(&mut self, now: Now, txn: ServerTxn, request: &Request, flow: Flow) {
        if let Err(refusal) = self.take_message(now, txn, request, flow) {
            // Who is asked for a password sends it again.
            let is_refused = refusal.status != StatusCode::UNAUTHORIZED;
            self.counters.messages_refused += u64::from(is_refused);
            self.respond(now, txn, *refusal);
        }
    }

    fn take_message(
        &mut self,
        now: Now,
        txn: ServerTxn,
        request: &Request,
        flow: Flow,
    ) -> Result<(), Box<Response>> {
        let refuse = |status| Box::new(Response::new(status));
        self.is_going_on()?;
        if self.messages.len() >= limits::MESSAGES_MAX {
            return Err(unavailable("too many messages"));
        }
        if request.body.len() > limits::MESSAGE_BODY_BYTES_MAX {
            return Err(refuse(StatusCode::REQUEST_ENTITY_TOO_LARGE));
        }
        let arrival = self.arrive(now, request, flow)?;
        let is_stranger = arrival.account.is_none() && arrival.trunk.is_none();
        if is_stranger && !self.config.trusted.contains(&flow.remote.ip()) {
            // Strangers may ring, perhaps, but leave no notes.
            return Err(refuse(StatusCode::FORBIDDEN));
        }
        let mut message = Message {
            txn,
            headers: Headers::new(),
            body: request.body.clone(),
            open: Vec::new(),
            refusal: None,
            until: now.mono + PATIENCE,
            outside: None,
        };
        let domain = self.config.domains.first().cloned().unwrap_or_default();
        let headers = &mut message.headers;
        headers.push_value(HeaderName::From, &presented(&arrival.address, &domain));
        let hops = arrival.max_forwards.to_string();
        let _digits = headers.set(HeaderName::MaxForwards, hops);
        copy(&CONTENT, &request.headers, headers);
        self.last_message += 1;
        let id = self.last_message;
        match &arrival.destination {
            Destination::User(user) => {
                let device = self.device_of(&arrival.uri);
                self.messages.insert(id, message);
                self.send_to_devices(now, id, user, device.as_ref());
            }
            Destination::Out(number) => {
                message.outside = Some(self.outside_of(now, number, &arrival, request));
                self.messages.insert(id, message);
                self.send_out(now, id);
            }
            Destination::Queue(_) | Destination::Menu(_) | Destination::Room(_) => {
                return Err(Self::no_messages());
            }
        }
        if let Some(message) = self.messages.get(&id) {
            self.deadlines.insert((message.until, Due::Message(id)));
        }
        Ok(())
    }

    fn outside_of(&self, now: Now, number: &Name, arrival: &Arrival, request: &Request) -> Outside {
        let origin = origin_of(arrival.trunk, arrival.account.as_deref());
        let caller = arrival.address.uri.user_unescaped().unwrap_or_default();
        Outside {
            outward: Outward {
                number: number.clone(),
                caller: String::from_utf8_lossy(&caller).into_owned(),
                display: name_of(&arrival.address),
                said: self.said(request),
                is_diverted: false,
            },
            ways: self.trunks.ways(now.mono, number, origin).into(),
            way: None,
        }
    }

    /// To every device of a user, or to the one that was addressed.
    fn send_to_devices(&mut self, now: Now, id: u64, user: &Name, only: Option<&Bytes>) {
        let domain = self.config.domains.first().cloned().unwrap_or_default();
        let devices = self.registrar.devices(user).into_iter();
        for binding in devices.filter(|binding| only.is_none_or(|only| binding.is_instance(only))) {
            let Some(mut request) = self.message_to(id, &binding.uri) else {
                return;
            };
            if let Some(to) = address_of(user, &domain) {
                request.headers.push_value(HeaderName::To, &to);
            }
            for hop in &binding.path {
                request.headers.push_value(HeaderName::Route, hop);
            }
            self.send_message(now, id, request, binding.hops());
        }
        self.close_message_if_over(now, id);
    }

    /// To the next target that can be reached.
    fn send_out(&mut self, now: Now, id: u64) {
        loop {
            let outside = self.messages.get_mut(&id).and_then(|it| it.outside.as_mut());
            let Some(outside) = outside else { return };
            outside.way = outside.ways.pop_front();
            let Some(way) = outside.way else { break };
            if !self.trunks.has(way) {
                continue;
            }
            let target = self.trunks.get(way.trunk).targets[way.target].uri.clone();
            let Some(mut request) = self.message_to(id, &target) else {
                return;
            };
            if let Some(outside) = self.messages.get(&id).and_then(|it| it.outside.as_ref()) {
                self.rewrite_for(way, &mut request, &outside.outward);
            }
            let hops = Hop::of_uri(&target).into_iter().collect();
            if self.send_message(now, id, request, hops) {
                return;
            }
        }
        self.close_message_if_over(now, id);
    }

    fn message_to(&self, id: u64, uri: &sip::uri::Uri) -> Option<Request> {
        let message = self.messages.get(&id)?;
        let mut request = Request::new(Method::Message, uri);
        request.headers = message.headers.clone();
        request.body = message.body.clone();
        Some(request)
    }

    /// False: it could not be sent.
    fn send_message(&mut self, now: Now, id: u64, request: Request, hops: Vec<Hop>) -> bool {
        let sent = self.stack.request_to(now.mono, request, hops);
        let Some(message) = self.messages.get_mut(&id) else {
            return false;
        };
        match sent {
            Ok(txn) => {
                message.open.push(txn);
                self.by_client.insert(txn, Purpose::Message(id));
                true
            }
            Err(error) => {
                message.refused(Response::new(match error {
                    StackError::TooLarge => StatusCode::MESSAGE_TOO_LARGE,
                    _ => StatusCode::TEMPORARILY_UNAVAILABLE,
                }));
                false
            }
        }
    }

    pub(super) fn message_answered(&mut self, now: Now, id: u64, txn: ClientTxn, response: &Response) {
        if !response.status.is_final() {
            return;
        }
        self.by_client.remove(&txn);
        let Some(message) = self.messages.get(&id) else {
            // Somebody took it before.
            return;
        };
        let way = message.outside.as_ref().and_then(|outside| outside.way);
        if let Some(way) = way {
            self.target_answered(now, way);
            self.asked_to_wait(now, way, response);
            if let Some(again) = self.answer_challenge(now, way.trunk, txn, response) {
                self.by_client.insert(again, Purpose::Message(id));
                self.still_open(id, txn, Some(again));
                return;
            }
        }
        if response.status.is_success() {
            self.answer_message(now, id, accepted(response.status));
        } else {
            self.message_refused(now, id, txn, refused_with(told(response.status), response));
        }
    }

    /// Nobody answered, or it could not be sent.
    pub(super) fn message_lost(&mut self, now: Now, id: u64, txn: ClientTxn) {
        self.by_client.remove(&txn);
        let outside = self.messages.get(&id).and_then(|it| it.outside.as_ref());
        if let Some(way) = outside.and_then(|outside| outside.way) {
            self.target_missed(now, way);
        }
        // RFC 4320 §4.2: no 408 for what is no INVITE.
        self.message_refused(now, id, txn, Response::new(StatusCode::TEMPORARILY_UNAVAILABLE));
    }

    fn message_refused(&mut self, now: Now, id: u64, txn: ClientTxn, refusal: Response) {
        let is_to_go_on = advances(refusal.status) || refusal.status == StatusCode::TEMPORARILY_UNAVAILABLE;
        self.still_open(id, txn, None);
        let Some(message) = self.messages.get_mut(&id) else {
            return;
        };
        message.refused(refusal);
        if message.outside.is_some() && is_to_go_on {
            self.send_out(now, id);
        } else {
            self.close_message_if_over(now, id);
        }
    }

    /// A request has its answer, or goes again as another one.
    fn still_open(&mut self, id: u64, txn: ClientTxn, again: Option<ClientTxn>) {
        if let Some(message) = self.messages.get_mut(&id) {
            message.open.retain(|open| *open != txn);
            message.open.extend(again);
        }
    }

    fn close_message_if_over(&mut self, now: Now, id: u64) {
        let Some(message) = self.messages.get_mut(&id) else {
            return;
        };
        if message.open.is_empty() {
            let refusal = message.refusal.take();
            let nobody = || Response::new(StatusCode::TEMPORARILY_UNAVAILABLE);
            self.answer_message(now, id, refusal.unwrap_or_else(nobody));
        }
    }

    /// Its sender waits no longer.
    pub(super) fn message_overdue(&mut self, now: Now, id: u64) {
        let Some(message) = self.messages.get_mut(&id) else {
            return;
        };
        for txn in std::mem::take(&mut message.open) {
            self.by_client.remove(&txn);
            self.tried.remove(&txn);
            self.stack.forget_request(txn);
        }
        self.close_message_if_over(now, id);
    }

    fn answer_message(&mut self, now: Now, id: u64, response: Response) {
        let Some(message) = self.messages.remove(&id) else {
            return;
        };
        self.deadlines.remove(&(message.until, Due::Message(id)));
        self.count_message(response.status);
        self.respond(now, message.txn, response);
    }

    /// Of queues and rooms.
    pub(super) fn no_messages() -> Box<Response> {
        let mut response = Response::new(StatusCode::METHOD_NOT_ALLOWED);
        response.set_reason("Method Not Allowed: queues and rooms take no messages");
        Box::new(response)
    }

    fn count_message(&mut self, status: StatusCode) {
        if status.is_success() {
            self.counters.messages_taken += 1;
        } else {
            self.counters.messages_refused += 1;
        }
    }

    /// A message of a party in a call is for the other one.
    pub(super) fn message_within(
        &mut self,
        now: Now,
        seat: (CallId, Side),
        txn: ServerTxn,
        request: &Request,
    ) {
        let sent = self.carry(now, seat, request, Purpose::Carried(txn));
        if let Err(refusal) = sent.and_then(|is_sent| is_sent.ok_or_else(later)) {
            self.counters.messages_refused += 1;
            self.respond(now, txn, refusal);
        }
    }

    /// What is in an INFO and no digit is for the other party of the call.
    pub(super) fn info_within(
        &mut self,
        now: Now,
        (id, side): (CallId, Side),
        txn: ServerTxn,
        request: &Request,
    ) {
        let Some(refusal) = info_refusal(request) else {
            self.pass_digits(now, id, side, request);
            self.respond(now, txn, Response::new(StatusCode::OK));
            return;
        };
        let sent = self.carry(now, (id, side), request, Purpose::Informed(txn));
        if let Err(refusal) = sent.and_then(|is_sent| is_sent.ok_or(refusal)) {
            self.respond(now, txn, refusal);
        }
    }

    /// Sends a request on to the other party; `None`: there is no other.
    fn carry(
        &mut self,
        now: Now,
        (id, side): (CallId, Side),
        request: &Request,
        purpose: Purpose,
    ) -> Result<Option<()>, Response> {
        let call = self.calls.get(&id).filter(|call| call.stage == Stage::Talking);
        let Some(dialog) = call.and_then(|call| call.counterpart(side)?.dialog) else {
            return Ok(None);
        };
        if request.body.len() > limits::MESSAGE_BODY_BYTES_MAX {
            return Err(Response::new(StatusCode::REQUEST_ENTITY_TOO_LARGE));
        }
        let mut message = DialogRequest::new(request.method.clone());
        copy(&CONTENT, &request.headers, &mut message.headers);
        message.content = message
            .headers
            .pop_first_value(HeaderName::ContentType)
            .map(|content_type| Content {
                content_type,
                body: request.body.clone(),
            });
        let sent = self.stack.dialog_request(now.mono, dialog, message);
        let sent = sent.map_err(|_| later())?;
        self.by_client.insert(sent, purpose);
        Ok(Some(()))
    }

    /// The other party's answer to a message within a call, or that there is none.
    pub(super) fn carried(&mut self, now: Now, sent: ClientTxn, txn: ServerTxn, response: &Response) {
        if response.status.is_final() {
            self.count_message(response.status);
        }
        self.informed(now, sent, txn, response);
    }

    /// As [`Controller::carried`], to an INFO.
    pub(super) fn informed(&mut self, now: Now, sent: ClientTxn, txn: ServerTxn, response: &Response) {
        if !response.status.is_final() {
            return;
        }
        self.by_client.remove(&sent);
        let response = match response.status.is_success() {
            true => accepted(response.status),
            false => refused_with(told_within(response.status), response),
        };
        self.respond(now, txn, response);
    }
}

impl Message {
    /// The refusal that says most is told.
    fn refused(&mut self, refusal: Response) {
        let best = self.refusal.as_ref().map(|best| rank(best.status));
        if best.is_none_or(|best| rank(refusal.status) < best) {
            self.refusal = Some(refusal);
        }
    }
}

/// RFC 3428 §7: 200, or 202 of who passes it on later.
fn accepted(status: StatusCode) -> Response {
    Response::new(match status {
        StatusCode::ACCEPTED => StatusCode::ACCEPTED,
        _ => StatusCode::OK,
    })
}

fn refused_with(status: StatusCode, by: &Response) -> Response {
    let mut response = Response::new(status);
    copy(&TAKEN, &by.headers, &mut response.headers);
    response
}

/// RFC 5057 §5.1: the other statuses would end the call of who is told them.
fn told_within(status: StatusCode) -> StatusCode {
    match status.code() {
        400 | 403 | 405 | 406 | 413 | 415 | 469 | 486 | 488 | 493 | 501 | 513 | 600 | 603 | 606 => status,
        _ => StatusCode::SERVER_INTERNAL_ERROR,
    }
}

/// What an INFO gets where there is nobody but us; `None`: it holds digits or nothing.
pub(super) fn info_refusal(request: &Request) -> Option<Response> {
    let kind = request.headers.content_type().ok().flatten();
    let is_digit = kind.is_some_and(|kind| DIGITS.iter().any(|digits| kind.is("application", digits)));
    let is_of_package = request.headers.contains(HeaderName::InfoPackage);
    if is_digit || (request.body.is_empty() && !is_of_package) {
        return None;
    }
    let (status, name, taken) = if is_of_package {
        // RFC 6086 §4.2.2 MUST: with those that we take.
        (StatusCode::BAD_INFO_PACKAGE, HeaderName::RecvInfo, String::new())
    } else {
        let kinds = DIGITS.map(|digits| format!("application/{digits}"));
        (
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            HeaderName::Accept,
            kinds.join(", "),
        )
    };
    let mut response = Response::new(status);
    let _text = response.headers.set(name, taken);
    Some(response)
}

/// There is nobody yet, or not now, to whom it could go.
fn later() -> Response {
    let mut response = Response::new(StatusCode::SERVER_INTERNAL_ERROR);
    let _digits = response.headers.set(HeaderName::RetryAfter, "2");
    response
}

fn copy(names: &[HeaderName], from: &Headers, to: &mut Headers) {
    let is_copied = |field: &&Header| names.iter().any(|name| field.name() == *name);
    for field in from.iter().filter(is_copied) {
        to.push_field(field.clone());
    }
}
