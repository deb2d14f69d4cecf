//! A phone: a SIP stack of its own with somebody who acts.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    time::{Duration, Instant},
};

use bytes::Bytes;
use sdp::{
    Answer, Capabilities, Codec, Crypto, CryptoSuite, Description, Direction, LocalSession, LocalTransport,
    MediaKind, OfferedMedia, Selection, assign_payload_types,
};
use sip::{
    auth::{ClientSession, Ha1, HashKind, choose_challenge},
    dialog::DialogState,
    header::NameAddr,
    limits::Limits,
    message::{HeaderName, Message, Method, Request, Response, StatusCode, parse_datagram},
    stack::{
        ClientTxn, Content, DialogKey, DialogRequest, Event, Identity, ServerTxn, Stack, StackConfig, Target,
        Transport,
    },
    uri::Uri,
};

use crate::{media_host::Cipher, world::server};

/// What it does when it is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behaviour {
    /// 180, then 200 after so many milliseconds.
    Answer(u64),
    /// 183 with a description, then 200 after so many milliseconds.
    Early(u64),
    /// 180 and nothing more.
    Ring,
    /// This status.
    Refuse(StatusCode),
    /// 503, with so many seconds in Retry-After: whatever a carrier is asked.
    Overloaded(u32),
    /// 302: its calls are to go to this user.
    Forward(&'static str),
    /// 407, and then as [`Behaviour::Answer`] for who proves itself.
    Challenge(u64),
}

pub struct Phone {
    pub name: &'static str,
    pub stack: Stack,
    pub address: SocketAddr,
    /// Where it receives audio.
    pub media: SocketAddr,
    pub behaviour: Behaviour,
    pub codecs: Vec<Codec>,
    /// What it signals over.
    pub transport: Transport,
    /// Suites it encrypts with, preferred first.
    pub suites: Vec<CryptoSuite>,
    /// It looks for keys on lines of RTP/SAVP only.
    pub takes_keys_by_profile: bool,
    /// It takes and offers nothing that is not encrypted.
    pub insists: bool,
    /// It offers video, in the first line of its descriptions.
    pub films: bool,
    /// Another number, other keys.
    pub key_generation: u8,
    /// Its key and the other side's, once agreed: what it sends and receives under.
    pub agreed: Option<(Crypto, Crypto)>,
    /// Receives nothing any more.
    pub dead: bool,
    /// The last answer to a REGISTER.
    pub registered: Option<u16>,
    /// The last REGISTER's answer itself.
    pub registration: Option<Response>,
    /// What its challenges are to be by.
    pub hash: HashKind,
    /// Statuses its calls got, in order, without 100 and repetitions.
    pub statuses: Vec<u16>,
    pub last_response: Option<Response>,
    pub dialog: Option<DialogKey>,
    /// What the other side described last.
    pub remote: Option<Description>,
    /// Calls that came in.
    pub rung: usize,
    /// Why the last call that came in stopped ringing, by CANCEL.
    pub cancelled: Vec<String>,
    pub password: &'static str,
    pub invite: Option<ClientTxn>,
    /// REGISTERs that came, for one that is a carrier.
    pub registers: Vec<Request>,
    /// Contacts of others that are registered under the same name.
    pub lodgers: Vec<&'static str>,
    /// It takes every nonce for an old one.
    pub forgets_nonces: bool,
    /// The last INVITE that came.
    pub invited_by: Option<Request>,
    /// The dialog that ringing made.
    pub early: Option<DialogKey>,
    /// What NOTIFYs told it, in order.
    pub notified: Vec<String>,
    /// Its REFER outside of dialogs, and the final answer to it.
    pub outside: (Option<ClientTxn>, Option<Response>),
    /// INFOs with digits it got, their bodies.
    pub informed: Vec<String>,
    /// MESSAGEs it got, and other INFOs.
    pub read: Vec<Request>,
    /// What the next of these are answered with, if not with 200; with 100, not at all.
    pub replies: VecDeque<Response>,
    /// The last BYE it got.
    pub bye: Option<Request>,
    /// The Path its registrations carry.
    pub path: Option<&'static str>,
    /// A proxy on the way writes the second in place of the first Request-URI.
    pub rewritten: Option<(&'static str, &'static str)>,
    /// It asks for addresses of its own (RFC 5627).
    pub knows_gruu: bool,
    /// The address that it gives as its Contact in calls, if not the one it is at.
    pub contact: Option<String>,
    /// How often it began anew: its registrations are then other ones.
    pub starts: u32,
    /// Of its last REGISTER, when it knows GRUUs.
    pub register_cseq: u32,
    /// What the next requests within its dialog are answered with, if not as they should be.
    pub balks: VecDeque<StatusCode>,
    /// An offer that its PRACKs hold.
    pub pracks_with: Option<String>,
    /// The last answer to a PRACK, which its stack keeps to itself.
    pub pracked: Option<Response>,
    /// What its 200 holds is no description: that was in its 183.
    pub answers_in_isup: bool,
    register: Option<ClientTxn>,
    /// It has answered the challenge to its request.
    has_tried: bool,
    answer_at: Option<(Instant, ServerTxn, Request)>,
    offer: Option<Description>,
    session: LocalSession,
    direction: Direction,
}

impl Phone {
    pub fn new(name: &'static str, index: usize, edit: impl Fn(&mut StackConfig)) -> Self {
        let ip = [10, 0, 1, index as u8 + 1].into();
        let address = SocketAddr::new(ip, 5060);
        let mut config = StackConfig::new(vec![Identity::new(Transport::Udp, address, address)]);
        config.server_name = format!("phone of {name}");
        edit(&mut config);
        let transport = config.identities[0].transport;
        Self {
            name,
            stack: Stack::new(config, [index as u8 + 1; 32]),
            address,
            media: SocketAddr::new(ip, 4_000),
            behaviour: Behaviour::Answer(1_000),
            codecs: vec![Codec::pcmu(), Codec::pcma(), Codec::telephone_event(8_000)],
            transport,
            suites: Vec::new(),
            takes_keys_by_profile: false,
            insists: false,
            films: false,
            key_generation: 0,
            agreed: None,
            dead: false,
            registered: None,
            registration: None,
            hash: HashKind::Sha256,
            statuses: Vec::new(),
            last_response: None,
            dialog: None,
            remote: None,
            rung: 0,
            cancelled: Vec::new(),
            password: "",
            invite: None,
            registers: Vec::new(),
            lodgers: Vec::new(),
            forgets_nonces: false,
            invited_by: None,
            early: None,
            notified: Vec::new(),
            outside: (None, None),
            informed: Vec::new(),
            read: Vec::new(),
            replies: VecDeque::new(),
            bye: None,
            path: None,
            rewritten: None,
            knows_gruu: false,
            contact: None,
            starts: 1,
            register_cseq: 0,
            balks: VecDeque::new(),
            pracks_with: None,
            pracked: None,
            answers_in_isup: false,
            register: None,
            has_tried: false,
            answer_at: None,
            offer: None,
            session: LocalSession::new(index as u64 + 10, ip),
            direction: Direction::SendRecv,
        }
    }

    fn request(method: Method, to: &str, from: &str, address_of_record: &str) -> Request {
        let uri = |text: &str| Uri::parse(text.to_owned().into()).unwrap();
        let mut request = Request::new(method, &uri(to));
        request
            .headers
            .push_value(HeaderName::From, &NameAddr::new(uri(from)));
        request
            .headers
            .push_value(HeaderName::To, &NameAddr::new(uri(address_of_record)));
        request
    }

    /// A message of its stack as it sends it.
    pub fn written(&self, message: &[u8]) -> Bytes {
        let text = std::str::from_utf8(message).expect("phones write text");
        if let (Some(offer), true) = (&self.pracks_with, text.starts_with("PRACK ")) {
            let length = format!("Content-Type: application/sdp\r\nContent-Length: {}", offer.len());
            return (text.replacen("Content-Length: 0", &length, 1) + offer).into();
        }
        if self.answers_in_isup && text.starts_with("SIP/2.0 200") && text.contains(" INVITE\r\n") {
            let (head, _) = text.split_once("\r\n\r\n").expect("an empty line");
            let fields = head.lines().filter(|field| !field.starts_with("Content-"));
            let fields: Vec<&str> = fields.collect();
            return format!(
                "{}\r\nContent-Type: application/ISUP\r\nContent-Length: 2\r\n\r\n\t\0",
                fields.join("\r\n")
            )
            .into();
        }
        if let Some((own, written)) = self.rewritten {
            let line = |uri| format!(" {uri} SIP/2.0");
            return text.replacen(&line(own), &line(written), 1).into();
        }
        let line = text.lines().find(|line| line.starts_with("Contact: "));
        let is_registration = text.starts_with("REGISTER ");
        match (&self.contact, line) {
            (Some(contact), Some(line)) if !is_registration => {
                text.replacen(line, &format!("Contact: <{contact}>"), 1).into()
            }
            _ => Bytes::copy_from_slice(message),
        }
    }

    /// Notes what its stack keeps to itself.
    pub fn receives(&mut self, message: &Bytes) {
        let Ok(Message::Response(response)) = parse_datagram(message.clone(), &Limits::default()) else {
            return;
        };
        let cseq = response.headers.cseq();
        if cseq.is_ok_and(|cseq| cseq.method == Method::Prack) {
            self.pracked = Some(response);
        }
    }

    fn own(&self) -> String {
        format!("sip:{}@example.com", self.name)
    }

    pub fn register(&mut self, now: Instant, password: &'static str, expires: u32) {
        let contact = format!("<sip:{}@{}>;expires={expires}", self.name, self.address);
        self.register_as(now, password, &contact);
    }

    pub fn register_as(&mut self, now: Instant, password: &'static str, contact: &str) {
        self.password = password;
        let own = self.own();
        let mut request = Self::request(Method::Register, "sip:example.com", &own, &own);
        request.headers.push(HeaderName::Contact, contact).unwrap();
        if let Some(path) = self.path {
            request.headers.push(HeaderName::Path, path).unwrap();
        }
        if self.knows_gruu {
            self.register_cseq += 10;
            let (call_id, cseq) = (
                format!("{}-{}", self.address, self.starts),
                format!("{} REGISTER", self.register_cseq),
            );
            for (name, value) in [
                (HeaderName::Supported, "gruu"),
                (HeaderName::CallId, &call_id),
                (HeaderName::CSeq, &cseq),
            ] {
                request.headers.push(name, value).unwrap();
            }
        }
        if contact == "*" {
            request.headers.push(HeaderName::Expires, "0").unwrap();
        }
        self.registered = None;
        self.has_tried = false;
        self.register = Some(self.stack.request(now, request, &[self.server()]).unwrap());
    }

    fn server(&self) -> Target {
        Target::address(self.transport, server())
    }

    fn key(&self, tag: u32, suite: CryptoSuite) -> Crypto {
        let std::net::IpAddr::V4(ip) = self.media.ip() else {
            unreachable!("phones have IPv4 addresses here");
        };
        let key = vec![ip.octets()[3] * 8 + self.key_generation; suite.key_length()];
        Crypto::new(tag, suite, key).unwrap()
    }

    /// What it encrypts with, and what it opens packets with.
    pub fn ciphers(&self) -> (Option<Cipher>, Option<Cipher>) {
        let cipher = |crypto: &Crypto| (crypto.suite.as_str().to_owned(), crypto.key.clone());
        let agreed = self.agreed.as_ref();
        (
            agreed.map(|(own, _)| cipher(own)),
            agreed.map(|(_, theirs)| cipher(theirs)),
        )
    }

    /// Reads the answer to its offer.
    fn take_answer(&mut self, answer: Description) {
        let offer = self.offer.as_ref().expect("it offered");
        let media = sdp::apply_answer(offer, &answer).expect("the answer fits its offer");
        let sdes = media.into_iter().flatten().next().and_then(|media| media.sdes);
        self.agreed = sdes.map(|sdes| (self.key(sdes.local_tag, sdes.remote.suite), sdes.remote));
        self.remote = Some(answer);
    }

    pub fn call(&mut self, now: Instant, to: &str, with_offer: bool) {
        self.call_with(now, to, with_offer, |_| {});
    }

    /// A call to a whole address.
    pub fn call_address(&mut self, now: Instant, uri: &str) {
        self.invite_to(now, uri, true, |_| {});
    }

    /// A call whose INVITE says more.
    pub fn call_with(&mut self, now: Instant, to: &str, with_offer: bool, edit: impl Fn(&mut Request)) {
        self.invite_to(now, &format!("sip:{to}@example.com"), with_offer, edit);
    }

    fn invite_to(&mut self, now: Instant, to: &str, with_offer: bool, edit: impl Fn(&mut Request)) {
        let own = self.own();
        let mut request = Self::request(Method::Invite, to, &own, to);
        self.statuses.clear();
        self.has_tried = false;
        self.offer = None;
        if with_offer {
            let offer = self.make_offer();
            request
                .headers
                .push(HeaderName::ContentType, "application/sdp")
                .unwrap();
            request.body = offer.to_string().into();
        }
        edit(&mut request);
        self.invite = Some(self.stack.request(now, request, &[self.server()]).unwrap());
    }

    /// Asks the other side to bring its party to this address.
    pub fn refer(&mut self, now: Instant, to: &str) {
        self.notified.clear();
        let refer = DialogRequest::new(Method::Refer);
        let refer = refer.with_header("Refer-To", format!("<{to}>")).unwrap();
        self.send(now, refer);
    }

    /// Asks a room, outside of dialogs, for what this address says.
    pub fn refer_room(&mut self, now: Instant, room: &str, to: &str, edit: impl Fn(&mut Request)) {
        self.notified.clear();
        let (own, room) = (self.own(), format!("sip:{room}@example.com"));
        let mut request = Self::request(Method::Refer, &room, &own, &room);
        let contact = format!("<sip:{}@{}>", self.name, self.address);
        for (name, value) in [
            (HeaderName::Contact, contact),
            (HeaderName::ReferTo, format!("<{to}>")),
        ] {
            request.headers.push(name, value).unwrap();
        }
        edit(&mut request);
        self.has_tried = false;
        let txn = self.stack.request(now, request, &[self.server()]).unwrap();
        self.outside = (Some(txn), None);
    }

    /// Writes to an address, outside of dialogs.
    pub fn write(&mut self, now: Instant, to: &str, text: &str, edit: impl Fn(&mut Request)) {
        let own = self.own();
        let mut request = Self::request(Method::Message, to, &own, to);
        request
            .headers
            .push(HeaderName::ContentType, "text/plain;charset=UTF-8")
            .unwrap();
        request.body = Bytes::copy_from_slice(text.as_bytes());
        edit(&mut request);
        self.has_tried = false;
        let txn = self.stack.request(now, request, &[self.server()]).unwrap();
        self.outside = (Some(txn), None);
    }

    /// Writes to the other party of its call.
    pub fn write_within(&mut self, now: Instant, text: &str) {
        let content = Content::new("text/plain", text.to_owned());
        self.say_within(now, DialogRequest::new(Method::Message).with_content(content));
    }

    /// Sends a request in its dialog, whose answer [`Phone::told`] gives.
    pub fn say_within(&mut self, now: Instant, request: DialogRequest) {
        let txn = self
            .stack
            .dialog_request(now, self.dialog.unwrap(), request)
            .unwrap();
        self.outside = (Some(txn), None);
    }

    /// The final answer to its request outside of dialogs, or to what it wrote.
    pub fn told(&self) -> Option<u16> {
        self.outside.1.as_ref().map(|response| response.status.code())
    }

    /// What it was sent.
    pub fn texts(&self) -> Vec<String> {
        let text = |request: &Request| String::from_utf8_lossy(&request.body).into_owned();
        self.read.iter().map(text).collect()
    }

    /// Refuses the call that rings.
    pub fn refuse(&mut self, now: Instant, status: StatusCode) {
        let (_, txn, _) = self.answer_at.take().expect("it rings");
        (self.dialog, self.remote) = (None, None);
        self.stack.respond(now, txn, Response::new(status)).unwrap();
    }

    /// Its dialog as it names it to others, escaped for a URI, and as a header.
    pub fn replaces(&self) -> (String, String) {
        let replaces = self.stack.dialog(self.dialog.unwrap()).unwrap().replaces();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let [call_id, to, from] =
            [&replaces.call_id, &replaces.to_tag, &replaces.from_tag].map(|part| text(part));
        (
            format!("{call_id}%3Bto-tag%3D{to}%3Bfrom-tag%3D{from}"),
            format!("{call_id};to-tag={to};from-tag={from}"),
        )
    }

    fn transport(&self) -> LocalTransport {
        let mut local = LocalTransport::plain(self.media.ip(), self.media.port());
        local.direction = self.direction;
        local.opportunistic = !self.insists;
        let numbered = (1..).zip(&self.suites);
        local.sdes = numbered.map(|(tag, suite)| self.key(tag, *suite)).collect();
        local
    }

    fn make_offer(&mut self) -> Description {
        let media = OfferedMedia::Audio {
            formats: assign_payload_types(&self.codecs, &[]),
            transport: self.transport(),
            rtcp_mux: false,
            mid: None,
        };
        let video = "v=0\r\no=- 1 1 IN IP4 10.0.1.9\r\ns=-\r\nt=0 0\r\nm=video 5000 RTP/AVP 96\r\n\
            c=IN IP4 10.0.1.9\r\na=rtpmap:96 H264/90000\r\n";
        let video = Description::parse(video.as_bytes()).unwrap();
        let video = video.session().medias[0].clone();
        let video = self.films.then_some(OfferedMedia::Opaque(video));
        let lines: Vec<OfferedMedia> = video.into_iter().chain([media]).collect();
        let offer = sdp::write_offer(&lines, &mut self.session);
        self.offer = Some(offer.clone());
        offer
    }

    fn make_answer(&mut self, offer: &Description) -> Option<Description> {
        let capabilities = Capabilities {
            sdes: self.suites.clone(),
            plain: !self.insists,
            opportunistic: !self.takes_keys_by_profile,
            ..Capabilities::new(self.codecs.clone())
        };
        let selections = sdp::select(offer, &capabilities).ok()?;
        let local = self.transport();
        let answers: Vec<Answer<'_>> = selections
            .iter()
            .map(|selection| match selection {
                Selection::Audio(_) => Answer::Audio(&local),
                _ => Answer::Rejected,
            })
            .collect();
        let answer = sdp::write_answer(offer, &selections, &answers, &mut self.session).ok()?;
        let sdes = selections.iter().find_map(|selection| match selection {
            Selection::Audio(media) => media.sdes.clone(),
            _ => None,
        });
        self.agreed = sdes.map(|sdes| (self.key(sdes.local_tag, sdes.remote.suite), sdes.remote));
        self.remote = Some(offer.clone());
        Some(answer)
    }

    pub fn cancel(&mut self, now: Instant) {
        let txn = self.invite.expect("it called");
        // Its final answer may be here already.
        let _late = self.stack.cancel(now, txn, None);
    }

    pub fn hang_up(&mut self, now: Instant) {
        let dialog = self
            .dialog
            .take()
            .unwrap_or_else(|| panic!("{} talks", self.name));
        self.remote = None;
        self.stack
            .dialog_request(now, dialog, DialogRequest::new(Method::Bye))
            .unwrap();
    }

    /// It is in a call that stands.
    pub fn talks(&self) -> bool {
        let dialog = self.dialog.and_then(|dialog| self.stack.dialog(dialog));
        dialog.is_some_and(|dialog| dialog.state == DialogState::Confirmed)
    }

    /// Its call has no final answer yet.
    pub fn is_calling(&self) -> bool {
        self.invite.is_some() && self.statuses.last().is_none_or(|status| *status < 200)
    }

    /// A re-INVITE with this direction.
    pub fn reinvite(&mut self, now: Instant, direction: Direction) {
        self.direction = direction;
        self.statuses.clear();
        let offer = self.make_offer();
        let request = DialogRequest::new(Method::Invite).with_content(Content::sdp(offer.to_string()));
        self.invite = Some(
            self.stack
                .dialog_request(now, self.dialog.unwrap(), request)
                .unwrap(),
        );
    }

    /// The same by UPDATE (RFC 3311).
    pub fn update(&mut self, now: Instant, direction: Direction) {
        self.direction = direction;
        self.statuses.clear();
        let offer = self.make_offer();
        let request = DialogRequest::new(Method::Update).with_content(Content::sdp(offer.to_string()));
        let dialog = self.dialog.unwrap();
        self.invite = Some(self.stack.dialog_request(now, dialog, request).unwrap());
    }

    /// As [`Phone::reinvite`], unless something is under way, or nobody is there.
    pub fn try_reinvite(&mut self, now: Instant, direction: Direction) {
        self.try_offer(now, Method::Invite, direction);
    }

    /// A new offer by this method, unless something is under way, or nobody is there.
    pub fn try_offer(&mut self, now: Instant, method: Method, direction: Direction) {
        let Some(dialog) = self.dialog.filter(|_| self.talks() && !self.is_calling()) else {
            return;
        };
        let (before, offer) = (self.direction, self.offer.take());
        self.direction = direction;
        let description = self.make_offer();
        let request = DialogRequest::new(method).with_content(Content::sdp(description.to_string()));
        match self.stack.dialog_request(now, dialog, request) {
            Ok(txn) => {
                self.statuses.clear();
                self.invite = Some(txn);
            }
            Err(_) => (self.direction, self.offer) = (before, offer),
        }
    }

    /// A re-INVITE that asks the other side for an offer.
    pub fn ask_for_offer(&mut self, now: Instant) {
        self.statuses.clear();
        self.offer = None;
        let request = DialogRequest::new(Method::Invite);
        self.invite = Some(
            self.stack
                .dialog_request(now, self.dialog.unwrap(), request)
                .unwrap(),
        );
    }

    /// As [`Phone::ask_for_offer`], unless something is under way, or nobody is there.
    pub fn try_ask_for_offer(&mut self, now: Instant) {
        let dialog = self.dialog.filter(|_| self.talks() && !self.is_calling());
        let request = DialogRequest::new(Method::Invite);
        let txn = dialog.and_then(|dialog| self.stack.dialog_request(now, dialog, request).ok());
        if txn.is_some() {
            self.statuses.clear();
            (self.offer, self.invite) = (None, txn);
        }
    }

    /// Sends a request in its dialog.
    pub fn send(&mut self, now: Instant, request: DialogRequest) {
        self.stack
            .dialog_request(now, self.dialog.unwrap(), request)
            .unwrap();
    }

    /// Where it sends its audio, by what was agreed.
    pub fn sends_to(&self) -> Option<SocketAddr> {
        self.dialog?;
        let mut media = self.remote.as_ref()?.media().iter();
        let media = media.find(|media| media.kind == MediaKind::Audio)?;
        (self.direction.sends() && media.direction.receives()).then(|| media.rtp_address())?
    }

    /// The audio codec the other side described.
    pub fn codec(&self) -> String {
        let remote = self.remote.as_ref().expect("it has a description");
        remote.media()[0].formats[0].codec.name.to_string()
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        let answer = self.answer_at.as_ref().map(|(at, ..)| *at);
        [self.stack.poll_timeout(), answer].into_iter().flatten().min()
    }

    /// Acts on what came, and on what is due.
    pub fn work(&mut self, now: Instant) {
        while let Some(event) = self.stack.poll_event() {
            self.event(now, event);
        }
        if let Some((_, txn, request)) = self.answer_at.take_if(|(at, ..)| *at <= now) {
            self.answer(now, txn, &request);
        }
    }

    fn event(&mut self, now: Instant, event: Event) {
        match event {
            Event::Request {
                txn,
                request,
                dialog,
                initial,
                ..
            } => {
                let body = String::from_utf8_lossy(&request.body);
                let kind = request.headers.get(HeaderName::ContentType);
                let is_digit = kind.is_some_and(|kind| kind.starts_with(b"application/dtmf"));
                match request.method {
                    Method::Notify => self.notified.extend(body.lines().next().map(str::to_owned)),
                    Method::Info if is_digit => self.informed.push(body.into_owned()),
                    _ => {}
                }
                if request.method == Method::Register {
                    self.registers.push(request.clone());
                    if let Behaviour::Overloaded(seconds) = self.behaviour {
                        let _gone = self.stack.respond(now, txn, overloaded(seconds));
                        return;
                    }
                    let is_proved =
                        request.headers.contains(HeaderName::Authorization) && !self.forgets_nonces;
                    let status = match is_proved {
                        true => StatusCode::OK,
                        false => StatusCode::UNAUTHORIZED,
                    };
                    let mut response = Response::new(status);
                    response
                        .headers
                        .push(HeaderName::WwwAuthenticate, self.carriers_challenge())
                        .unwrap();
                    for lodger in &self.lodgers {
                        response.headers.push(HeaderName::Contact, *lodger).unwrap();
                    }
                    let contact = request.headers.get(HeaderName::Contact).unwrap().to_vec();
                    let granted = [&contact[..], b";expires=100"].concat();
                    response.headers.push(HeaderName::Contact, granted).unwrap();
                    let _gone = self.stack.respond(now, txn, response);
                    return;
                }
                if request.method == Method::Message || (request.method == Method::Info && !is_digit) {
                    self.read.push(request);
                    let ok = || Response::new(StatusCode::OK);
                    let reply = self.replies.pop_front().unwrap_or_else(ok);
                    if reply.status != StatusCode::TRYING {
                        let _gone = self.stack.respond(now, txn, reply);
                    }
                    return;
                }
                if !initial
                    && request.method != Method::Notify
                    && let Some(status) = self.balks.pop_front()
                {
                    let _gone = self.stack.respond(now, txn, Response::new(status));
                    return;
                }
                let status = match (&request.method, initial) {
                    (Method::Invite, true) => return self.invited(now, txn, request, dialog),
                    (Method::Invite, false) => return self.answer(now, txn, &request),
                    _ => StatusCode::OK,
                };
                let _gone = self.stack.respond(now, txn, Response::new(status));
            }
            // Of a subscription that its REFER outside of dialogs made.
            Event::UnknownDialog {
                txn: Some(txn),
                request,
                ..
            } => {
                let body = String::from_utf8_lossy(&request.body);
                self.notified.extend(body.lines().next().map(str::to_owned));
                let _gone = self.stack.respond(now, txn, Response::new(StatusCode::OK));
            }
            Event::Cancelled { request, .. } => {
                self.answer_at = None;
                self.dialog = None;
                let reason = request.headers.get(HeaderName::Reason).unwrap_or_default();
                self.cancelled.push(String::from_utf8_lossy(reason).into_owned());
            }
            Event::Bye { dialog, request } if self.dialog == Some(dialog) => {
                (self.dialog, self.remote) = (None, None);
                self.bye = Some(request);
            }
            Event::DialogEnded { dialog, .. } if self.dialog == Some(dialog) => {
                (self.dialog, self.remote) = (None, None);
            }
            // Its offer crossed one of ours, and it makes it again.
            Event::GlareOver { .. } => self.try_reinvite(now, self.direction),
            Event::SessionRefreshDue { dialog } => {
                let _gone = self
                    .stack
                    .dialog_request(now, dialog, DialogRequest::new(Method::Update));
            }
            Event::Response {
                txn,
                response,
                dialog,
                ..
            } => self.response(now, txn, response, dialog),
            Event::Timeout { txn, .. } if self.invite == Some(txn) => self.statuses.push(408),
            Event::AckTimedOut { dialog } if self.dialog == Some(dialog) => self.hang_up(now),
            _ => {}
        }
    }

    fn carriers_challenge(&self) -> &'static str {
        match self.forgets_nonces {
            true => "Digest realm=\"carrier\", nonce=\"n1\", algorithm=MD5, qop=\"auth\", stale=true",
            false => "Digest realm=\"carrier\", nonce=\"n1\", algorithm=MD5, qop=\"auth\"",
        }
    }

    fn invited(&mut self, now: Instant, txn: ServerTxn, request: Request, dialog: Option<DialogKey>) {
        self.rung += 1;
        self.invited_by = Some(request.clone());
        if self.dialog.is_some() || self.is_calling() {
            let _gone = self.stack.respond(now, txn, Response::new(StatusCode::BUSY_HERE));
            return;
        }
        let mut behaviour = self.behaviour;
        if let Behaviour::Challenge(after_ms) = behaviour {
            if self.forgets_nonces || !request.headers.contains(HeaderName::ProxyAuthorization) {
                let mut response = Response::new(StatusCode::PROXY_AUTHENTICATION_REQUIRED);
                response
                    .headers
                    .push(HeaderName::ProxyAuthenticate, self.carriers_challenge())
                    .unwrap();
                let _gone = self.stack.respond(now, txn, response);
                return;
            }
            behaviour = Behaviour::Answer(after_ms);
        }
        match behaviour {
            Behaviour::Challenge(_) => {}
            Behaviour::Refuse(status) => drop(self.stack.respond(now, txn, Response::new(status))),
            Behaviour::Overloaded(seconds) => drop(self.stack.respond(now, txn, overloaded(seconds))),
            Behaviour::Forward(to) => {
                let mut response = Response::new(StatusCode::MOVED_TEMPORARILY);
                let contact = format!("<sip:{to}@example.com>");
                response.headers.push(HeaderName::Contact, &contact).unwrap();
                let _gone = self.stack.respond(now, txn, response);
            }
            Behaviour::Ring => {
                self.dialog = dialog;
                let _gone = self.stack.respond(now, txn, Response::new(StatusCode::RINGING));
            }
            Behaviour::Early(after_ms) => {
                self.dialog = dialog;
                let offer = Description::parse(&request.body).expect("an INVITE to a phone has an offer");
                let answer = self.make_answer(&offer).expect("it can do what is offered");
                let mut progress = Response::new(StatusCode::SESSION_PROGRESS);
                let sdp = "application/sdp";
                progress.headers.push(HeaderName::ContentType, sdp).unwrap();
                progress.body = answer.to_string().into();
                let _gone = self.stack.respond_reliable(now, txn, progress);
                self.answer_at = Some((now + Duration::from_millis(after_ms), txn, request));
            }
            Behaviour::Answer(after_ms) => {
                self.dialog = dialog;
                let _gone = self.stack.respond(now, txn, Response::new(StatusCode::RINGING));
                self.answer_at = Some((now + Duration::from_millis(after_ms), txn, request));
            }
        }
    }

    fn answer(&mut self, now: Instant, txn: ServerTxn, request: &Request) {
        let offer = Description::parse(&request.body).expect("an INVITE to a phone has an offer");
        let response = match self.make_answer(&offer) {
            Some(answer) => {
                let mut response = Response::new(StatusCode::OK);
                response
                    .headers
                    .push(HeaderName::ContentType, "application/sdp")
                    .unwrap();
                response.body = answer.to_string().into();
                response
            }
            None => Response::new(StatusCode::NOT_ACCEPTABLE_HERE),
        };
        let _gone = self.stack.respond(now, txn, response);
    }

    fn response(&mut self, now: Instant, txn: ClientTxn, response: Response, dialog: Option<DialogKey>) {
        let status = response.status;
        let is_register = self.register == Some(txn);
        if status == StatusCode::UNAUTHORIZED && self.try_password(now, txn, &response) {
            return;
        }
        if is_register {
            self.registered = Some(status.code());
            self.registration = Some(response);
        } else if self.outside.0 == Some(txn) {
            self.outside.1 = Some(response).filter(|_| status.is_final());
        } else if self.invite == Some(txn) {
            if status != StatusCode::TRYING && self.statuses.last() != Some(&status.code()) {
                self.statuses.push(status.code());
            }
            self.last_response = Some(response.clone());
            self.early = dialog.filter(|_| status.is_provisional());
            if status.is_provisional() && self.offer.is_some() && !response.body.is_empty() {
                self.dialog = dialog;
                self.take_answer(Description::parse(&response.body).unwrap());
            }
            if !status.is_success() && status.is_final() && !self.talks() {
                self.dialog = None;
                self.remote = None;
            }
            let cseq = response.headers.cseq().unwrap();
            if status.is_success() && cseq.method == Method::Update {
                self.take_answer(Description::parse(&response.body).unwrap());
            } else if let (true, Some(dialog)) = (status.is_success(), dialog) {
                self.connected(now, dialog, &response);
            }
        }
    }

    /// Answers a challenge, once.
    fn try_password(&mut self, now: Instant, txn: ClientTxn, response: &Response) -> bool {
        let challenges = response.headers.www_authenticate().unwrap();
        let Some(challenge) = choose_challenge(&challenges) else {
            return false;
        };
        if self.has_tried && !challenge.stale {
            return false;
        }
        self.has_tried = true;
        let hash = challenge.hash;
        assert_eq!(hash, self.hash, "the best of its algorithms is offered first");
        let ha1 = Ha1::from_password(
            hash,
            self.name.as_bytes(),
            b"example.com",
            self.password.as_bytes(),
        );
        let mut session = ClientSession::new(challenge, self.name, ha1, "c0ffee").unwrap();
        let again = self
            .stack
            .retry_with_credentials(now, txn, response, &mut session)
            .unwrap();
        if self.register == Some(txn) {
            self.register = Some(again);
        } else if self.outside.0 == Some(txn) {
            self.outside.0 = Some(again);
        } else {
            self.invite = Some(again);
        }
        true
    }

    fn connected(&mut self, _now: Instant, dialog: DialogKey, response: &Response) {
        self.dialog = Some(dialog);
        let description = Description::parse(&response.body).expect("a 200 holds a description");
        let content = if self.offer.is_some() {
            self.take_answer(description);
            None
        } else {
            let answer = self.make_answer(&description).expect("it can do what is offered");
            Some(Content::sdp(answer.to_string()))
        };
        self.stack.ack(dialog, content).unwrap();
    }
}

fn overloaded(seconds: u32) -> Response {
    let mut response = Response::new(StatusCode::SERVICE_UNAVAILABLE);
    let _digits = response.headers.set(HeaderName::RetryAfter, seconds.to_string());
    response
}
