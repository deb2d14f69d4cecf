//! Calls to and from trunks: identified, limited, their numbers and header fields rewritten, and sent on to the next
//! target when one does not take them.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use bytes::Bytes;
use sip::{
    header::{NameAddr, Reason},
    message::{Header, HeaderName, Headers, Request, Response, StatusCode},
    stack::ClientTxn,
    uri::{Host, Scheme, Uri},
};

use super::{
    Controller, Due, Now, Purpose,
    rounds::told_of_call,
    trunk::{host_towards, target_of},
};
use crate::{
    call::{Call, CallId, Round, Stage},
    cdr::OriginKind,
    domain::Name,
    journal::EndedBy,
    media::{Endpoint, Party},
    registrar::Binding,
    routing::Destination,
    security::is_safe_uri,
    trunk::{HeaderRules, Health, Origin, TargetId, TrunkId, config::is_structural, numbers},
};

/// A trunk, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrunkLive {
    /// Its name.
    pub name: String,
    /// Calls now, both ways.
    pub calls: usize,
    /// Calls sent there and received from there since the start.
    pub tx_calls: u64,
    /// See `tx_calls`.
    pub rx_calls: u64,
    /// Attempts that it did not take.
    pub tx_failures: u64,
    /// Calls that its limits refused.
    pub refused: u64,
    /// Where its registration stands.
    pub registration: crate::trunk::Registration,
    /// Its targets with their health.
    pub targets: Vec<(String, Health)>,
}

/// Who calls or writes, and whom, for a trunk that is to be told.
#[derive(Debug)]
pub(super) struct Outward {
    /// Who is called.
    pub(super) number: Name,
    /// Who calls: a number, or what stands for it.
    pub(super) caller: String,
    /// Its name for people.
    pub(super) display: Option<Vec<u8>>,
    /// Fields of its request that the trunk may be told.
    pub(super) said: Vec<Header>,
    /// It came from outside, and goes out again.
    pub(super) is_diverted: bool,
}

impl Controller {
    /// Trunks as they are.
    pub fn trunks_live(&self) -> Vec<TrunkLive> {
        let live = self.trunks.iter().map(|(_, trunk)| TrunkLive {
            name: trunk.name.to_string(),
            calls: trunk.gauge.calls(),
            tx_calls: trunk.tx_calls,
            rx_calls: trunk.rx_calls,
            tx_failures: trunk.tx_failures,
            refused: trunk.gauge.refused,
            registration: trunk.registration.clone(),
            targets: trunk
                .open_targets()
                .map(|index| {
                    let target = &trunk.targets[index];
                    (
                        String::from_utf8_lossy(target.uri.as_bytes()).into_owned(),
                        target.health,
                    )
                })
                .collect(),
        });
        live.collect()
    }

    /// The trunk a request comes from, by its source address or by the account it proved.
    pub(super) fn trunk_of(&self, source: IpAddr, account: Option<&Name>) -> Option<TrunkId> {
        let by_source = self.trunks.of_source(source);
        by_source.or_else(|| self.trunks.of_account(account?))
    }

    /// Whether one call more may begin; counts it for its trunk.
    pub(super) fn limit(&mut self, now: Now, trunk: Option<TrunkId>) -> Result<(), Box<Response>> {
        let refuse = |reason: &str, wait_s: u64| {
            let mut response = Response::new(StatusCode::SERVICE_UNAVAILABLE);
            response.set_reason(&format!("Service Unavailable: {reason}"));
            let _digits = response.headers.set(HeaderName::RetryAfter, wait_s.to_string());
            Box::new(response)
        };
        self.trunks
            .rate
            .take(now.mono)
            .map_err(|wait| refuse("too many calls a second", wait.as_secs() + 1))?;
        let Some(id) = trunk else { return Ok(()) };
        let trunk = self.trunks.get_mut(id);
        trunk
            .rx_rate
            .take(now.mono)
            .map_err(|wait| refuse("too many calls a second on this trunk", wait.as_secs() + 1))?;
        trunk
            .gauge
            .take_untimed()
            .map_err(|_| refuse("too many calls on this trunk", 5))?;
        trunk.rx_calls += 1;
        Ok(())
    }

    /// Where a dialled address leads: an account, a queue, or out.
    pub(super) fn destination_of(
        &self,
        uri: &Uri,
        trunk: Option<TrunkId>,
        account: Option<&Name>,
    ) -> Result<Destination, StatusCode> {
        // RFC 3966: a number of nobody's domain, as some carriers and phones dial.
        let is_number = uri.scheme() == Scheme::Tel;
        if trunk.is_none() && !is_number && !self.routing.is_ours(uri) {
            return Err(StatusCode::NOT_FOUND);
        }
        let user = uri.user_unescaped().ok_or(StatusCode::NOT_FOUND)?;
        let user = std::str::from_utf8(&user).map_err(|_| StatusCode::NOT_FOUND)?;
        let number = match trunk {
            Some(trunk) => numbers::rewrite(&self.trunks.get(trunk).config.rx_called, &numbers::plain(user)),
            None => self.trunks.dialled(user),
        };
        let here = if number == user && trunk.is_none() && !is_number {
            uri.clone()
        } else {
            Uri::sip(Some(&number), &self.own_host(), None)
        };
        match self.routing.route(&here, &self.registrar) {
            Err(StatusCode::NOT_FOUND) if self.trunks.knows(&number) => {
                let origin = origin_of(trunk, account.map(|name| &**name));
                if self.trunks.leads_out(&number, origin) {
                    Ok(Destination::Out(number.as_str().into()))
                } else {
                    Err(StatusCode::FORBIDDEN)
                }
            }
            other => other,
        }
    }

    /// Where an extension or number leads, for who may call whom it likes.
    pub(super) fn destination_for_operator(&self, dialled: &str) -> Result<Destination, StatusCode> {
        let number = self.trunks.dialled(dialled);
        let uri = Uri::sip(Some(&number), &self.own_host(), None);
        match self.routing.route(&uri, &self.registrar) {
            Err(status) if status != StatusCode::TEMPORARILY_UNAVAILABLE => {
                let leads_out = self.trunks.leads_out(&number, Origin::Operator);
                leads_out
                    .then(|| Destination::Out(number.as_str().into()))
                    .ok_or(status)
            }
            other => other,
        }
    }

    /// The device that an address of ours means, if it means one (RFC 5627).
    pub(super) fn device_of(&self, uri: &Uri) -> Option<Bytes> {
        let device = self.registrar.gruu(uri).filter(|_| self.routing.is_ours(uri));
        device.and_then(Result::ok).map(|(_, instance)| instance)
    }

    pub(super) fn own_host(&self) -> Host {
        let domain = self.config.domains.first().cloned().unwrap_or_default();
        Host::parse(domain.into()).unwrap_or_else(|| Host::from(IpAddr::from([127, 0, 0, 1])))
    }

    /// What a call from a trunk is here: its caller's number rewritten, or asserted.
    pub(super) fn caller_from(&self, trunk: TrunkId, request: &Request, from: &NameAddr) -> NameAddr {
        let config = &self.trunks.get(trunk).config;
        let asserted = request.headers.asserted_identities().unwrap_or_default();
        let asserted = asserted.first().filter(|_| config.identity.believe);
        let said = asserted.unwrap_or(from);
        let Some(user) = said.uri.user_unescaped() else {
            return from.clone();
        };
        let number = numbers::rewrite(
            &config.rx_caller,
            &numbers::plain(&String::from_utf8_lossy(&user)),
        );
        let address = NameAddr::new(Uri::sip(Some(&number), &self.own_host(), None));
        match said.display() {
            Some(name) => address.with_display(&String::from_utf8_lossy(&name)),
            None => address,
        }
    }

    /// Fields of a caller's INVITE that may have to be told to a trunk.
    pub(super) fn said(&self, request: &Request) -> Vec<Header> {
        let is_told = |name: &str| {
            let copied =
                |(_, trunk): (TrunkId, &crate::trunk::TrunkState)| is_named(&trunk.config.headers.copy, name);
            name.eq_ignore_ascii_case("Privacy") || self.trunks.iter().any(copied)
        };
        let fields = request.headers.iter().filter(|field| {
            let name = String::from_utf8_lossy(field.name_text());
            !is_structural(&name) && is_told(&name)
        });
        fields.cloned().collect()
    }

    /// Sends a call out: to the first target that takes it.
    pub(super) fn go_out(&mut self, now: Now, id: CallId, number: &Name) {
        let Some(call) = self.calls.get(&id) else { return };
        let origin = match (&call.redirected, &call.transfer, &call.behalf) {
            // Who has the party brought there answers for it.
            (Some(redirected), ..) => Origin::Account(&redirected.by),
            (None, Some(transfer), _) => origin_of(None, transfer.leg.user.as_deref()),
            (None, None, Some(behalf)) => Origin::Account(behalf),
            // A menu leads where who wrote it says.
            (None, None, None) if call.origin.kind == OriginKind::Api || call.menu.is_some() => {
                Origin::Operator
            }
            (None, None, None) => origin_of(call.rx_trunk, call.caller.user.as_deref()),
        };
        let ways = self.trunks.ways(now.mono, number, origin);
        if let Some(call) = self.calls.get_mut(&id) {
            call.ways = ways.into();
        }
        self.next_way(now, id, StatusCode::SERVICE_UNAVAILABLE);
    }

    /// The next target that has room. `status`: what is told when there is none.
    fn next_way(&mut self, now: Now, id: CallId, status: StatusCode) {
        loop {
            let Some(call) = self.calls.get_mut(&id) else {
                return;
            };
            let Some(way) = call.ways.pop_front() else {
                self.nobody_came(now, id, EndedBy::Callee, status, "no trunk took the call");
                return;
            };
            if self.trunks.take(now.mono, way).is_ok() {
                self.start_way(now, id, way);
                return;
            }
        }
    }

    fn start_way(&mut self, now: Now, id: CallId, way: TargetId) {
        let formats = self.formats_of_way(id, way);
        let uri = self.trunks.get(way.trunk).targets[way.target].uri.clone();
        let target = target_of(&uri);
        let trunk = &self.trunks.get(way.trunk).config;
        let security = self.security.of(Some(trunk), None, is_safe_uri(&uri));
        let suites = self.security.offered(security).to_vec();
        let family = self.family_of(way);
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        let Destination::Out(number) = call.destination.clone() else {
            return;
        };
        call.reached_by(Some(way));
        if !call.stage.on_offer() {
            return;
        }
        call.rounds += 1;
        call.withdraw_endpoints(|_| false);
        let endpoint = call.endpoint_of_round(call.rounds);
        // Where a name leads is not known yet, and for audio only the family counts.
        let remote = target
            .as_ref()
            .map_or_else(|| SocketAddr::new(family, 0), sip::stack::Target::remote);
        call.plan
            .put(&endpoint, Endpoint::offered(&formats, remote.ip(), &suites));
        call.offered.push(endpoint.clone());
        let transport = target.map_or(sip::stack::Transport::Udp, |target| target.transport());
        let binding = Binding::of_trunk(now.mono, uri, transport, remote);
        call.round = Some(Round {
            user: number,
            offer: None,
            devices: vec![(endpoint, binding)],
            branches: Vec::new(),
            others: BTreeMap::new(),
            refusal: None,
            moved_to: None,
        });
        self.send_media(now, id);
    }

    /// What is offered to a trunk.
    pub(super) fn formats_of_way(&self, id: CallId, way: TargetId) -> Vec<sdp::Format> {
        let trunk = self.trunks.get(way.trunk);
        let party = Party {
            user: None,
            trunk: Some(trunk.name.clone()),
        };
        let mut formats = self.formats_for(id, &party);
        // In its own order, whatever the caller speaks.
        let codecs = &trunk.config.codecs;
        formats.sort_by_key(|format| {
            let is_named = |name: &String| name.eq_ignore_ascii_case(&format.codec.name);
            codecs.iter().position(is_named).unwrap_or(codecs.len())
        });
        formats
    }

    /// Rewrites an INVITE for the trunk it goes to, and watches whether it is heard there.
    pub(super) fn dress(&mut self, now: Now, id: CallId, way: TargetId, request: &mut Request) {
        let patience = self.trunks.get(way.trunk).config.setup_timeout_s;
        let setup = now.mono + std::time::Duration::from_secs(patience.max(1));
        self.deadlines.insert((setup, Due::Setup(id)));
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        (call.heard, call.heard_by) = (false, Some(setup));
        let Destination::Out(number) = &call.destination else {
            return;
        };
        let outward = Outward {
            number: number.clone(),
            caller: caller_number(call),
            display: name_of(call.shown()).filter(|_| call.caller_id.is_none()),
            said: call.said.clone(),
            is_diverted: call.rx_trunk.is_some(),
        };
        self.rewrite_for(way, request, &outward);
    }

    /// Writes a request as the trunk wants it that it goes to.
    pub(super) fn rewrite_for(&self, way: TargetId, request: &mut Request, outward: &Outward) {
        let trunk = self.trunks.get(way.trunk);
        let config = &trunk.config;
        let target = &trunk.targets[way.target].uri;
        let number = &outward.number;
        let called = numbers::rewrite(&config.tx_called, number);
        let host = host_towards(&config.domain, target);
        let mut fresh = Request::new(
            request.method.clone(),
            &with_user(target, &called).unwrap_or_else(|| target.clone()),
        );
        std::mem::swap(&mut fresh.headers, &mut request.headers);
        std::mem::swap(&mut fresh.body, &mut request.body);
        *request = fresh;
        let caller = numbers::rewrite(&config.tx_caller, &outward.caller);
        let address = NameAddr::new(Uri::sip(Some(&caller), &host, None));
        let address = match &outward.display {
            Some(name) => address.with_display(&String::from_utf8_lossy(name)),
            None => address,
        };
        let wants_privacy = outward
            .said
            .iter()
            .any(|field| field.name() == HeaderName::Privacy && field.value() != b"none");
        let headers = &mut request.headers;
        if wants_privacy {
            // RFC 3323 §4.1.1.3.
            if let Ok(nobody) = Uri::parse(bytes::Bytes::from_static(b"sip:anonymous@anonymous.invalid")) {
                headers.set_value(HeaderName::From, &NameAddr::new(nobody).with_display("Anonymous"));
            }
            let _text = headers.set(HeaderName::Privacy, "id");
        } else {
            headers.set_value(HeaderName::From, &address);
        }
        headers.set_value(
            HeaderName::To,
            &NameAddr::new(Uri::sip(Some(&called), &host, None)),
        );
        if config.identity.assert {
            headers.set_value(HeaderName::PAssertedIdentity, &address);
        }
        // Names of ours say nothing to a carrier.
        headers.remove(HeaderName::Diversion);
        if config.identity.diversion && outward.is_diverted {
            let mut diverted = NameAddr::new(Uri::sip(Some(number), &self.own_host(), None));
            diverted.params.set("reason", Some(b"unconditional"));
            headers.push_value(HeaderName::Diversion, &diverted);
        }
        follow_rules(headers, &config.headers, &outward.said);
    }

    /// A trunk's target said something: it is there.
    pub(super) fn heard(&mut self, now: Now, id: CallId) {
        let Some(call) = self
            .calls
            .get_mut(&id)
            .filter(|call| call.way.is_some() && !call.heard)
        else {
            return;
        };
        call.heard = true;
        if let Some(way) = call.way {
            self.target_answered(now, way);
        }
    }

    /// A target was given its time.
    pub(super) fn setup_overdue(&mut self, now: Now, id: CallId) {
        let waits = self
            .calls
            .get(&id)
            .filter(|call| call.stage == Stage::Ringing && call.way.is_some() && !call.heard)
            // Not that of a target that was tried before.
            .is_some_and(|call| call.heard_by.is_some_and(|until| until <= now.mono));
        if waits {
            let reason = Reason::new("SIP", 408, "No answer from the trunk");
            self.give_up_round(now, id, &reason, StatusCode::REQUEST_TIMEOUT);
        }
    }

    /// The target does not take the call. True when another one is tried.
    pub(super) fn another_way(&mut self, now: Now, id: CallId, status: StatusCode) -> bool {
        let Some(call) = self.calls.get_mut(&id) else {
            return false;
        };
        let Some(way) = call.way.take() else { return false };
        let was_heard = call.heard;
        let has_more = !call.ways.is_empty();
        self.trunks.give_back(way);
        self.trunks.get_mut(way.trunk).tx_failures += 1;
        if !was_heard && matches!(status.code(), 408 | 503) {
            self.target_missed(now, way);
        }
        if !has_more || !advances(status) {
            return false;
        }
        self.next_way(now, id, told_of_call(status));
        true
    }

    /// The call counts no more for the trunk by which somebody was called, who is not any more.
    pub(super) fn leave_way(&mut self, id: CallId) {
        let way = self.calls.get_mut(&id).and_then(|call| call.way.take());
        self.trunks.give_back_all(way);
    }

    /// The call is over: it counts no more.
    pub(super) fn leave_trunks(&mut self, id: CallId) {
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        let caller_way = call.caller_way.filter(|_| !call.has_left_trunks);
        call.has_left_trunks = true;
        let from = call.caller.rx_trunk.take();
        let from_of_callee = call.callee.as_mut().and_then(|callee| callee.rx_trunk.take());
        self.trunks.release(from, caller_way);
        self.trunks.release(from_of_callee, call.way.take());
    }

    /// A trunk asks for our password.
    pub(super) fn branch_challenged(
        &mut self,
        now: Now,
        id: CallId,
        txn: ClientTxn,
        response: &Response,
    ) -> bool {
        let Some(way) = self.calls.get(&id).and_then(|call| call.way) else {
            return false;
        };
        let Some(again) = self.answer_challenge(now, way.trunk, txn, response) else {
            return false;
        };
        self.by_client.remove(&txn);
        self.by_client.insert(again, Purpose::Branch(id));
        self.replace_branch(id, txn, again);
        true
    }
}

/// A trunk that says so leaves what it was sent to the next one.
pub(super) fn advances(status: StatusCode) -> bool {
    matches!(status.code(), 300..=399 | 401 | 403 | 407 | 408 | 500..=599)
}

pub(super) fn origin_of(trunk: Option<TrunkId>, account: Option<&str>) -> Origin<'_> {
    match (trunk, account) {
        (Some(trunk), _) => Origin::Trunk(trunk),
        (None, Some(account)) => Origin::Account(account),
        (None, None) => Origin::Stranger,
    }
}

/// Its name for people.
pub(super) fn name_of(address: &NameAddr) -> Option<Vec<u8>> {
    address.display().map(std::borrow::Cow::into_owned)
}

fn caller_number(call: &Call) -> String {
    if let Some(number) = &call.caller_id {
        return number.clone();
    }
    let user = call.shown().uri.user_unescaped().unwrap_or_default();
    String::from_utf8_lossy(&user).into_owned()
}

/// A name in a list, or one that begins as an entry with `*` says.
fn is_named(list: &[String], name: &str) -> bool {
    list.iter().any(|entry| match entry.strip_suffix('*') {
        Some(start) => name
            .get(..start.len())
            .is_some_and(|begins| begins.eq_ignore_ascii_case(start)),
        None => name.eq_ignore_ascii_case(entry),
    })
}

/// The same address for another user.
fn with_user(uri: &Uri, user: &str) -> Option<Uri> {
    let mut with = Uri::sip(Some(user), uri.host()?, uri.port());
    if let Some(transport) = uri.transport() {
        with = with.with_param("transport", Some(&String::from_utf8_lossy(&transport)));
    }
    Some(with)
}

/// Writes what a trunk's rules say of header fields; `said` are those of the caller.
fn follow_rules(headers: &mut Headers, rules: &HeaderRules, said: &[Header]) {
    for field in said {
        if is_named(&rules.copy, &String::from_utf8_lossy(field.name_text())) {
            headers.push_field(field.clone());
        }
    }
    for (name, value) in &rules.set {
        // Checked with the configuration; a name that is no token is passed over.
        let _written = headers.set(name.as_str(), value);
    }
    for name in &rules.remove {
        headers.remove(name.as_str());
    }
    if rules.hides_software() {
        // Otherwise the stack writes its own.
        let _empty = headers.set(HeaderName::UserAgent, "");
    }
}
