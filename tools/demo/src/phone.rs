//! One phone: registers, calls, answers, hangs up. One call at a time.

use std::{
    io::ErrorKind,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    ops::RangeInclusive,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use bytes::Bytes;
use rtp::units::PayloadType;
use sdp::{
    Answer, Capabilities, Codec, Description, LocalSession, LocalTransport, NegotiatedMedia, OfferedMedia,
    Selection, apply_answer, assign_payload_types, select, write_answer, write_offer,
};
use sip::{
    auth::{ClientSession, Ha1, choose_challenge},
    header::NameAddr,
    message::{HeaderName, Method, Request, Response, StatusCode},
    stack::{
        self, ClientTxn, DialogKey, DialogRequest, Event, Flow, FlowId, ServerTxn, Stack, StackConfig,
        Target, Transport,
    },
    uri::{Host, Uri},
};

use crate::{
    log::Log,
    report::CallReport,
    stop::Stop,
    talk::{self, Heard, Law, Line, Talk},
};

/// How long a server may take to answer a REGISTER or a BYE.
const PATIENCE: Duration = Duration::from_secs(8);
/// How long a phone rings before it answers by itself.
const RING: Duration = Duration::from_millis(200);
/// How often it looks whether it was told to stop.
const GLANCE: Duration = Duration::from_millis(50);

/// What a phone is told.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The user part of its address, and its name in the log.
    pub name: String,
    /// Where requests go.
    pub server: SocketAddr,
    /// The host part of addresses. Default: the server's address.
    pub domain: String,
    /// Its SIP port.
    pub port: u16,
    /// Its ports for audio.
    pub media_ports: RangeInclusive<u16>,
    /// Hang up this long after the answer.
    pub call_duration: Duration,
    /// Ring this long before answering.
    pub ring: Duration,
    /// Tones to listen for, Hz.
    pub tones: Vec<f64>,
    /// The tone of the music that may be heard first, Hz.
    pub music: Option<f64>,
    /// SIP messages in the log.
    pub verbose: bool,
}

impl Settings {
    /// Twelve seconds a call, a quiet log.
    pub fn new(name: &str, server: SocketAddr, port: u16, media_ports: RangeInclusive<u16>) -> Self {
        Self {
            name: name.to_owned(),
            server,
            domain: server.ip().to_string(),
            port,
            media_ports,
            call_duration: Duration::from_secs(12),
            ring: RING,
            tones: Vec::new(),
            music: None,
            verbose: false,
        }
    }
}

/// The address of this machine that packets to `server` leave from. Nothing is sent.
fn address_towards(server: SocketAddr) -> std::io::Result<IpAddr> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(server)?;
    Ok(socket.local_addr()?.ip())
}

/// An account.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Its name.
    pub user: String,
    /// Its password.
    pub password: String,
}

/// A call that is over, and what was heard in it.
#[derive(Debug, Clone)]
pub struct Call {
    /// User part of the other's address.
    pub peer: String,
    /// What is reported of it.
    pub report: CallReport,
    /// What was heard.
    pub heard: Heard,
}

/// See the module.
#[derive(Debug)]
pub struct Phone {
    settings: Settings,
    hz: f64,
    log: Log,
    stop: Stop,
    socket: UdpSocket,
    local: SocketAddr,
    stack: Stack,
    sdp_id: u64,
    call_count: u64,
    registration: Option<Registration>,
    active: Option<Active>,
}

#[derive(Debug)]
struct Registration {
    identity: Identity,
    expires_s: u32,
    refresh_at: Instant,
    call_id: String,
    cseq: u32,
}

/// The call in progress.
#[derive(Debug)]
struct Active {
    dialog: Option<DialogKey>,
    /// Until the audio thread takes it.
    socket: Option<UdpSocket>,
    media_port: u16,
    line: Option<Line>,
    talk: Option<Talk>,
    session: LocalSession,
    offer: Option<Description>,
    invited: Instant,
    answered: Option<Instant>,
    answer_at: Option<(Instant, ServerTxn, Bytes)>,
    hang_up_at: Option<Instant>,
    report: CallReport,
    over: bool,
}

/// A response, and the dialog it makes or belongs to.
type Reply = (Response, Option<DialogKey>);

/// How an INVITE of ours ended.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Outcome {
    Answered,
    Refused(StatusCode, String),
    Silence,
}

impl Phone {
    /// Takes its SIP port. `hz` is the tone it sends.
    ///
    /// # Errors
    /// The port is taken: named, with the remedy.
    pub fn new(settings: Settings, hz: f64) -> Result<Self> {
        let port = settings.port;
        let ip = address_towards(settings.server)
            .with_context(|| format!("no way leads to {}; is --server right?", settings.server))?;
        let socket = UdpSocket::bind((ip, port)).map_err(|error| match error.kind() {
            ErrorKind::AddrInUse => anyhow!(
                "port {port} (udp, {ip}) is in use; choose another with --port or stop the other process"
            ),
            _ => anyhow!("port {port} (udp, {ip}): {error}"),
        })?;
        let local = socket.local_addr()?;
        let mut config = StackConfig::new(vec![stack::Identity::new(Transport::Udp, local, local)]);
        config.server_name = concat!("demo-phone/", env!("CARGO_PKG_VERSION")).into();
        config.session_timer = None;
        let seed = seed()?;
        let sdp_id = u64::from_ne_bytes(std::array::from_fn(|index| seed[index]));
        Ok(Self {
            log: Log::new(&settings.name, settings.verbose),
            settings,
            hz,
            stop: Stop::default(),
            socket,
            local,
            stack: Stack::new(config, seed),
            sdp_id,
            call_count: 0,
            registration: None,
            active: None,
        })
    }

    /// Ends waiting calls and waits when it is raised.
    #[must_use]
    pub fn until(mut self, stop: Stop) -> Self {
        self.stop = stop;
        self
    }

    /// Where it receives.
    pub fn own_address(&self) -> IpAddr {
        self.local.ip()
    }

    /// Its log.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Registers, with a password if asked; keeps it fresh from then on.
    ///
    /// # Errors
    /// Refused, or no answer: says which and what to look at.
    pub fn register(&mut self, identity: &Identity, expires_s: u32) -> Result<()> {
        let call_id = self.stack.random_token();
        self.registration = Some(Registration {
            identity: identity.clone(),
            expires_s,
            refresh_at: Instant::now(),
            call_id,
            cseq: 0,
        });
        let before = Instant::now();
        self.send_register(expires_s)?;
        let ms = before.elapsed().as_secs_f64() * 1e3;
        let server = self.settings.server;
        self.log.info(format!(
            "registered at {server}, expires {expires_s} s, took {ms:.1} ms"
        ));
        Ok(())
    }

    /// Says goodbye to the registrar.
    ///
    /// # Errors
    /// As [`Phone::register`].
    pub fn unregister(&mut self) -> Result<()> {
        if self.registration.is_some() {
            self.send_register(0)?;
            self.registration = None;
            self.log.info("unregistered");
        }
        Ok(())
    }

    /// Waits for a call, answers it, and comes back when it is over. `None`: told to stop.
    ///
    /// # Errors
    /// A socket failed, or the registration was lost.
    pub fn next_call(&mut self) -> Result<Option<Call>> {
        loop {
            self.turn(GLANCE)?;
            if self.active.as_ref().is_some_and(|active| active.over)
                && let Some(call) = self.finish()?
            {
                return Ok(Some(call));
            }
            if self.stop.is_raised() {
                return self.end_now();
            }
            if self
                .registration
                .as_ref()
                .is_some_and(|registration| Instant::now() >= registration.refresh_at)
                && self.active.is_none()
            {
                let expires_s = self.registration.as_ref().map_or(0, |r| r.expires_s);
                self.send_register(expires_s)?;
            }
        }
    }

    /// Calls, waits `wait` for an answer, talks until either side hangs up.
    ///
    /// # Errors
    /// Refused (480: nobody is there), no answer, no media: said in a sentence.
    pub fn call(&mut self, to: &str, wait: Duration) -> Result<Call> {
        let (txn, invited) = self.invite(to)?;
        self.log
            .info(format!("calling sip:{to}@{}", self.settings.domain));
        let outcome = self.await_answer(txn, invited + wait)?;
        match outcome {
            Outcome::Answered => {}
            Outcome::Silence => {
                let _ = self.stack.cancel(Instant::now(), txn, None);
                self.settle(Duration::from_millis(500))?;
                bail!(
                    "nobody answered within {} s (--wait-time); is {} the server (--server), and an agent registered and free?",
                    wait.as_secs(),
                    self.settings.server
                );
            }
            Outcome::Refused(status, reason) if status.code() == 480 => {
                bail!(
                    "no agent is free: {} {reason}; register one, or call later",
                    status.code()
                )
            }
            Outcome::Refused(status, reason) => bail!("the call was refused: {} {reason}", status.code()),
        }
        loop {
            self.turn(GLANCE)?;
            if self.active.as_ref().is_some_and(|active| active.over)
                && let Some(call) = self.finish()?
            {
                return Ok(call);
            }
            if self.stop.is_raised()
                && let Some(call) = self.end_now()?
            {
                return Ok(call);
            }
        }
    }

    /// Sends what is due, waits for one datagram or a deadline, handles events.
    fn turn(&mut self, longest: Duration) -> Result<()> {
        let now = Instant::now();
        let active = self.active.as_ref();
        let own = active.and_then(|active| {
            let answer = active.answer_at.as_ref().map(|(at, _, _)| *at);
            [answer, active.hang_up_at].into_iter().flatten().min()
        });
        let wait = own.map_or(longest, |due| due.saturating_duration_since(now).min(longest));
        self.receive(wait)?;
        let now = Instant::now();
        self.act_on_deadlines(now)?;
        self.flush()
    }

    fn flush(&mut self) -> Result<()> {
        while let Some(transmit) = self.stack.poll_transmit() {
            let remote = transmit.target.remote();
            self.log.sip("tx", remote, &transmit.bytes);
            self.socket
                .send_to(&transmit.bytes, remote)
                .with_context(|| format!("sending SIP to {remote}"))?;
        }
        Ok(())
    }

    fn act_on_deadlines(&mut self, now: Instant) -> Result<()> {
        let Some(active) = &mut self.active else {
            return self.handle_events();
        };
        if active.answer_at.as_ref().is_some_and(|(at, _, _)| *at <= now)
            && let Some((_, txn, body)) = active.answer_at.take()
        {
            let mut response = Response::new(StatusCode::OK);
            response.headers.push("Content-Type", "application/sdp")?;
            response.body = body;
            active.answered = Some(now);
            active.report.set_up_ms = (now - active.invited).as_secs_f64() * 1e3;
            if self.stack.respond(now, txn, response).is_err() {
                active.over = true;
            }
        }
        let Some(active) = &mut self.active else {
            return Ok(());
        };
        if active.hang_up_at.is_some_and(|at| at <= now) {
            active.hang_up_at = None;
            active.report.hung_up = true;
            self.hang_up(now)?;
        }
        self.handle_events()
    }

    fn hang_up(&mut self, now: Instant) -> Result<()> {
        let Some(active) = &mut self.active else {
            return Ok(());
        };
        let Some(dialog) = active.dialog else {
            active.over = true;
            return Ok(());
        };
        self.log.info("hanging up");
        // An error means that the other side was quicker.
        if self
            .stack
            .dialog_request(now, dialog, DialogRequest::new(Method::Bye))
            .is_err()
        {
            active.over = true;
        }
        self.flush()
    }

    fn handle_events(&mut self) -> Result<()> {
        while let Some(event) = self.stack.poll_event() {
            self.handle_event(event)?;
        }
        Ok(())
    }

    fn handle_event(&mut self, event: Event) -> Result<()> {
        let now = Instant::now();
        match event {
            Event::Request {
                txn,
                request,
                dialog,
                initial,
                ..
            } => self.receive_request(now, txn, &request, dialog, initial)?,
            Event::Ack { dialog, .. } if self.is_active(dialog) => self.start_talking(now)?,
            Event::Bye { dialog, .. } if self.is_active(dialog) => {
                self.log.info("the other side hung up");
                self.mark_over();
            }
            Event::Cancelled { dialog, .. } if self.is_active(dialog) => {
                self.log.info("the call was withdrawn");
                self.active = None;
            }
            Event::DialogEnded { dialog, .. } if self.is_active(dialog) => self.mark_over(),
            Event::AckTimedOut { dialog } if self.is_active(dialog) => self.hang_up(now)?,
            // Responses are waited for where their requests are sent; the rest does not concern a phone.
            _ => {}
        }
        Ok(())
    }

    fn is_active(&self, dialog: DialogKey) -> bool {
        self.active
            .as_ref()
            .is_some_and(|active| active.dialog == Some(dialog))
    }

    fn mark_over(&mut self) {
        if let Some(active) = &mut self.active {
            active.over = true;
        }
    }

    fn receive_request(
        &mut self,
        now: Instant,
        txn: ServerTxn,
        request: &Request,
        dialog: Option<DialogKey>,
        initial: bool,
    ) -> Result<()> {
        let simple = |status| Response::new(status);
        let response = match request.method {
            Method::Invite if initial => match self.ring(now, txn, request, dialog) {
                Ok(()) => simple(StatusCode::RINGING),
                Err(status) => simple(status),
            },
            Method::Invite => self.answer_again(request),
            Method::Options | Method::Info | Method::Update | Method::Notify | Method::Message => {
                simple(StatusCode::OK)
            }
            _ => simple(StatusCode::METHOD_NOT_ALLOWED),
        };
        // The request may have been cancelled meanwhile.
        let _ = self.stack.respond(now, txn, response);
        self.flush()
    }

    /// A new call: rings, and answers by itself soon.
    fn ring(
        &mut self,
        now: Instant,
        txn: ServerTxn,
        request: &Request,
        dialog: Option<DialogKey>,
    ) -> std::result::Result<(), StatusCode> {
        if self.active.is_some() || self.stop.is_raised() {
            return Err(StatusCode::BUSY_HERE);
        }
        let peer = request.headers.from().map_err(|_| StatusCode::BAD_REQUEST)?;
        let peer = user_of(&peer.uri);
        let call_id = request.headers.call_id().map_err(|_| StatusCode::BAD_REQUEST)?;
        self.log.info(format!("{peer} calls: ringing"));
        let mut active = self.new_call(now, peer, text(&call_id)).map_err(|error| {
            self.log.info(format!("{error:#}"));
            StatusCode::TEMPORARILY_UNAVAILABLE
        })?;
        let body = answer_body(&mut active, &request.body, self.local.ip(), self.hz)?;
        active.dialog = dialog;
        active.answer_at = Some((now + self.settings.ring, txn, body));
        self.active = Some(active);
        Ok(())
    }

    /// A re-INVITE: hold, resume, another media host.
    fn answer_again(&mut self, request: &Request) -> Response {
        let (ip, hz) = (self.local.ip(), self.hz);
        let answered = match &mut self.active {
            Some(active) => answer_body(active, &request.body, ip, hz),
            None => Err(StatusCode::NOT_ACCEPTABLE_HERE),
        };
        match answered {
            Ok(body) => {
                let mut response = Response::new(StatusCode::OK);
                let typed = response.headers.push("Content-Type", "application/sdp");
                debug_assert!(typed.is_ok(), "both are plain text");
                response.body = body;
                response
            }
            Err(status) => Response::new(status),
        }
    }

    fn new_call(&mut self, now: Instant, peer: String, call_id: String) -> Result<Active> {
        self.call_count += 1;
        let socket = talk::bind(self.local.ip(), &self.settings.media_ports)?;
        Ok(Active {
            dialog: None,
            media_port: socket.local_addr()?.port(),
            socket: Some(socket),
            line: None,
            talk: None,
            session: LocalSession::new(self.sdp_id.wrapping_add(self.call_count), self.local.ip()),
            offer: None,
            invited: now,
            answered: None,
            answer_at: None,
            hang_up_at: None,
            report: CallReport {
                peer,
                call_id,
                own_hz: self.hz,
                ..CallReport::default()
            },
            over: false,
        })
    }

    fn start_talking(&mut self, now: Instant) -> Result<()> {
        let duration = self.settings.call_duration;
        let Some(active) = &mut self.active else {
            return Ok(());
        };
        let Some((socket, line)) = active.socket.take().zip(active.line) else {
            return Ok(());
        };
        active.report.codec = line.law.name().into();
        active.answered.get_or_insert(now);
        active.hang_up_at = Some(now + duration);
        self.log.info(format!(
            "connected with {}: {}, audio {} <-> {}, tone {} Hz",
            active.report.peer,
            line.law.name(),
            socket.local_addr()?,
            line.remote,
            line.hz
        ));
        active.talk = Some(Talk::start(socket, line)?);
        Ok(())
    }

    fn invite(&mut self, to: &str) -> Result<(ClientTxn, Instant)> {
        let uri = self.address(to)?;
        let mut request = Request::new(Method::Invite, &uri);
        let from = NameAddr::new(self.address(&self.settings.name)?);
        let call_id = self.stack.random_token();
        request.headers.push_value(HeaderName::From, &from);
        request.headers.push_value(HeaderName::To, &NameAddr::new(uri));
        request.headers.push("Call-ID", &call_id)?;
        let now = Instant::now();
        let mut active = self.new_call(now, to.to_owned(), call_id)?;
        let transport = LocalTransport {
            ptime_ms: Some(20),
            ..LocalTransport::plain(self.local.ip(), active.media_port)
        };
        let media = OfferedMedia::Audio {
            formats: assign_payload_types(&codecs(), &[]),
            transport,
            rtcp_mux: false,
            mid: None,
        };
        let offer = write_offer(&[media], &mut active.session);
        request.headers.push("Content-Type", "application/sdp")?;
        request.body = offer.to_string().into();
        active.offer = Some(Description::parse(offer.to_string().as_bytes()).context("own offer")?);
        self.active = Some(active);
        let target = self.target();
        let txn = self.stack.request(now, request, &[target])?;
        self.flush()?;
        Ok((txn, now))
    }

    /// Until the INVITE has its final response.
    fn await_answer(&mut self, txn: ClientTxn, until: Instant) -> Result<Outcome> {
        let mut said = 0;
        while Instant::now() < until && !self.stop.is_raised() {
            let responses = self.responses_to(txn, GLANCE)?;
            for answer in responses {
                let Some((response, dialog)) = answer else {
                    return Ok(Outcome::Silence);
                };
                let code = response.status.code();
                if code < 200 {
                    if code > 100 && code != said {
                        self.log
                            .info(format!("{code} {}", String::from_utf8_lossy(response.reason())));
                    }
                    said = code;
                } else if code < 300 {
                    self.answered(&response, dialog)?;
                    return Ok(Outcome::Answered);
                } else {
                    self.active = None;
                    let reason = String::from_utf8_lossy(response.reason()).into_owned();
                    return Ok(Outcome::Refused(response.status, reason));
                }
            }
        }
        Ok(Outcome::Silence)
    }

    fn answered(&mut self, response: &Response, dialog: Option<DialogKey>) -> Result<()> {
        let now = Instant::now();
        let dialog = dialog.context("the answer makes no dialog")?;
        self.stack.ack(dialog, None)?;
        self.flush()?;
        let (hz, active) = (self.hz, self.active.as_mut().context("no call")?);
        active.dialog = Some(dialog);
        active.answered = Some(now);
        active.report.set_up_ms = (now - active.invited).as_secs_f64() * 1e3;
        let ms = active.report.set_up_ms;
        let answer = Description::parse(&response.body).context("the answer's description")?;
        let offer = active.offer.as_ref().context("no offer")?;
        let agreed = apply_answer(offer, &answer).context("the answer does not fit the offer")?;
        let media = agreed
            .into_iter()
            .flatten()
            .next()
            .context("the answer holds no audio")?;
        active.line = Some(line(&media, hz).context("the answer holds no PCMU or PCMA")?);
        self.log.info(format!("answered after {ms:.0} ms"));
        self.start_talking(now)
    }

    /// One turn; what came for a request of ours: `None` for no answer at all.
    fn responses_to(&mut self, txn: ClientTxn, wait: Duration) -> Result<Vec<Option<Reply>>> {
        let mut mine = Vec::new();
        let mut others = Vec::new();
        self.receive(wait)?;
        while let Some(event) = self.stack.poll_event() {
            match event {
                Event::Response {
                    txn: of,
                    response,
                    dialog,
                    ..
                } if of == txn => mine.push(Some((response, dialog))),
                Event::Timeout { txn: of, .. } | Event::TransportFailed { txn: of, .. } if of == txn => {
                    mine.push(None);
                }
                other => others.push(other),
            }
        }
        for event in others {
            self.handle_event(event)?;
        }
        self.flush()?;
        Ok(mine)
    }

    /// Waits for one datagram, but not beyond a timer of the stack, and runs those that are due.
    fn receive(&mut self, wait: Duration) -> Result<()> {
        self.flush()?;
        let now = Instant::now();
        let due = self.stack.poll_timeout();
        let wait = due.map_or(wait, |due| due.saturating_duration_since(now).min(wait));
        self.socket
            // Zero would mean for ever.
            .set_read_timeout(Some(wait.max(Duration::from_millis(1))))?;
        let mut buffer = vec![0; 65_535];
        match self.socket.recv_from(&mut buffer) {
            Ok((length, remote)) => {
                self.log.sip("rx", remote, &buffer[..length]);
                let flow = Flow {
                    transport: Transport::Udp,
                    local: self.local,
                    remote,
                    id: FlowId(0),
                };
                let bytes = Bytes::copy_from_slice(&buffer[..length]);
                self.stack.handle_message(Instant::now(), flow, bytes);
            }
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::WouldBlock
                        | ErrorKind::TimedOut
                        | ErrorKind::Interrupted
                        // An earlier datagram met a closed port; the transaction's timers tell.
                        | ErrorKind::ConnectionRefused
                ) => {}
            Err(error) => return Err(error).context("receiving SIP"),
        }
        let now = Instant::now();
        if self.stack.poll_timeout().is_some_and(|due| due <= now) {
            self.stack.handle_timeout(now);
        }
        Ok(())
    }

    /// The call is over: stops the audio and tells. `None`: it never came to talking.
    fn finish(&mut self) -> Result<Option<Call>> {
        let Some(mut active) = self.active.take() else {
            return Ok(None);
        };
        let talked = active
            .answered
            .map_or(Duration::ZERO, |answered| answered.elapsed());
        active.report.talk_ms = talked.as_millis() as u64;
        let Some(talk) = active.talk.take() else {
            return Ok(None);
        };
        let heard = talk.end()?;
        active
            .report
            .hear(&heard, &self.settings.tones, self.settings.music);
        self.log.info(active.report.summary());
        self.settle(Duration::from_millis(100))?;
        Ok(Some(Call {
            peer: active.report.peer.clone(),
            report: active.report,
            heard,
        }))
    }

    /// Told to stop: hangs up.
    fn end_now(&mut self) -> Result<Option<Call>> {
        if let Some(active) = &mut self.active {
            active.report.hung_up = true;
            self.hang_up(Instant::now())?;
            self.settle(Duration::from_millis(300))?;
        }
        self.finish()
    }

    /// Keeps answering for a little while.
    fn settle(&mut self, time: Duration) -> Result<()> {
        let until = Instant::now() + time;
        while Instant::now() < until {
            self.turn(until.saturating_duration_since(Instant::now()).min(GLANCE))?;
        }
        Ok(())
    }

    fn send_register(&mut self, expires_s: u32) -> Result<()> {
        let (request, identity) = self.register_request(expires_s)?;
        let (server, target) = (self.settings.server, self.target());
        let mut txn = self.stack.request(Instant::now(), request, &[target])?;
        let until = Instant::now() + PATIENCE;
        let mut tried = false;
        while Instant::now() < until {
            for answer in self.responses_to(txn, GLANCE)? {
                let Some((response, _)) = answer else {
                    bail!("registration failed: {server} cannot be reached; is the server running?");
                };
                match response.status.code() {
                    100..200 => {}
                    200..300 => {
                        self.registered(expires_s, tried);
                        return Ok(());
                    }
                    401 if !tried => {
                        tried = true;
                        txn = self.answer_challenge(txn, &response, &identity)?;
                        self.flush()?;
                    }
                    401 | 403 => bail!(
                        "registration failed: {server} does not take the password of {}; check --name and --password",
                        identity.user
                    ),
                    code => bail!(
                        "registration failed: {server} says {code} {}",
                        String::from_utf8_lossy(response.reason())
                    ),
                }
            }
        }
        bail!(
            "registration failed: no answer from {server} within {} s; is the server running there (signalling.udp)?",
            PATIENCE.as_secs()
        )
    }

    fn register_request(&mut self, expires_s: u32) -> Result<(Request, Identity)> {
        let registration = self.registration.as_mut().context("no account")?;
        registration.cseq += 1;
        let (identity, cseq, call_id) = (
            registration.identity.clone(),
            registration.cseq,
            registration.call_id.clone(),
        );
        let mut request = Request::new(Method::Register, &self.domain_uri()?);
        let own = NameAddr::new(self.address(&identity.user)?);
        request.headers.push_value(HeaderName::From, &own);
        request.headers.push_value(HeaderName::To, &own);
        request.headers.push("Call-ID", &call_id)?;
        request.headers.push("CSeq", format!("{cseq} REGISTER"))?;
        let (host, port) = (Host::from(self.local.ip()), self.local.port());
        let contact = NameAddr::new(Uri::sip(Some(&identity.user), &host, Some(port)));
        request.headers.push_value(HeaderName::Contact, &contact);
        request.headers.push("Expires", expires_s.to_string())?;
        Ok((request, identity))
    }

    fn registered(&mut self, expires_s: u32, challenged: bool) {
        let half = Duration::from_secs(u64::from(expires_s) / 2);
        if let Some(registration) = &mut self.registration {
            registration.refresh_at = Instant::now() + half.max(Duration::from_secs(1));
            // The stack has used a number for the request with credentials.
            registration.cseq += u32::from(challenged);
        }
    }

    fn answer_challenge(
        &mut self,
        txn: ClientTxn,
        response: &Response,
        identity: &Identity,
    ) -> Result<ClientTxn> {
        let challenges = response.headers.www_authenticate().context("the challenge")?;
        let challenge = choose_challenge(&challenges).context("a challenge of an unknown kind")?;
        let (user, password) = (identity.user.as_bytes(), identity.password.as_bytes());
        let ha1 = Ha1::from_password(challenge.hash, user, &challenge.realm, password);
        let cnonce = self.stack.random_token();
        let mut session = ClientSession::new(challenge, &identity.user, ha1, &cnonce)
            .context("the challenge cannot be answered")?;
        Ok(self
            .stack
            .retry_with_credentials(Instant::now(), txn, response, &mut session)?)
    }

    fn target(&self) -> Target {
        Target::address(Transport::Udp, self.settings.server)
    }

    fn host(&self) -> Result<Host> {
        let domain = Bytes::copy_from_slice(self.settings.domain.as_bytes());
        Host::parse(domain).with_context(|| format!("\"{}\" is no host name", self.settings.domain))
    }

    fn address(&self, user: &str) -> Result<Uri> {
        ensure!(!user.is_empty(), "an address needs a name");
        Ok(Uri::sip(Some(user), &self.host()?, None))
    }

    fn domain_uri(&self) -> Result<Uri> {
        Ok(Uri::sip(None, &self.host()?, None))
    }
}

/// What we can speak.
fn codecs() -> Vec<Codec> {
    vec![Codec::pcmu(), Codec::pcma(), Codec::telephone_event(8_000)]
}

/// Answers an offer, and remembers what was agreed.
fn answer_body(
    active: &mut Active,
    offer: &[u8],
    ip: IpAddr,
    hz: f64,
) -> std::result::Result<Bytes, StatusCode> {
    let not_here = StatusCode::NOT_ACCEPTABLE_HERE;
    let offer = Description::parse(offer).map_err(|_| not_here)?;
    let mut capabilities = Capabilities::new(codecs());
    (capabilities.dtls, capabilities.rtcp_mux) = (false, false);
    capabilities.sdes.clear();
    let selections = select(&offer, &capabilities).map_err(|_| not_here)?;
    let port = active.media_port;
    let media = selections.iter().find_map(|selection| match selection {
        Selection::Audio(media) => Some(media),
        Selection::Opaque | Selection::Rejected => None,
    });
    active.line = Some(media.and_then(|media| line(media, hz)).ok_or(not_here)?);
    let local = LocalTransport {
        ptime_ms: Some(20),
        ..LocalTransport::plain(ip, port)
    };
    let answers: Vec<_> = selections.iter().map(|_| Answer::Audio(&local)).collect();
    let answer = write_answer(&offer, &selections, &answers, &mut active.session).map_err(|_| not_here)?;
    Ok(answer.to_string().into())
}

fn line(media: &NegotiatedMedia, hz: f64) -> Option<Line> {
    let format = media.formats.first()?;
    Some(Line {
        remote: media.remote?,
        law: Law::named(&format.codec.name)?,
        tx_payload_type: PayloadType::new(format.tx_payload_type)?,
        rx_payload_type: PayloadType::new(format.rx_payload_type)?,
        hz,
    })
}

fn user_of(uri: &Uri) -> String {
    uri.user_unescaped()
        .map_or_else(|| "anonymous".to_owned(), |user| text(&user))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// From the kernel.
fn seed() -> Result<[u8; 32]> {
    use std::io::Read as _;
    let mut seed = [0; 32];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut seed))
        .context("/dev/urandom")?;
    Ok(seed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phone_stands_where_the_server_can_reach_it() {
        for server in ["127.0.0.1:5060", "127.0.0.9:5060"] {
            let towards = address_towards(server.parse().unwrap()).unwrap();
            assert!(towards.is_loopback(), "{towards}");
        }
    }
}
