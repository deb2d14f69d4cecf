//! Calls between users: a caller without registration, a callee whose phone is registered, the controller between.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::Serialize;
use sip::message::{Method, Request, Response, StatusCode};
use sip::stack::{ClientTxn, DialogKey, DialogRequest, Event, ServerTxn};

use super::{UserAgent, register, user};
use crate::load::{AudioReport, LiveAudio, Quantiles, nanosecond_histogram};
use crate::machine::{GENERATOR_PRIORITY, Observed, Raised};

/// After the last call began, calls that are still not over by then have failed.
const PATIENCE: Duration = Duration::from_secs(10);
/// A call is counted as failed when nobody answered it within this time.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// What is asked of a run.
#[derive(Clone, Copy, Debug)]
pub struct CallLoad {
    /// Calls in all.
    pub calls: u32,
    /// Calls begun per second; `None`: as soon as fewer than `open_max` are open.
    pub per_second: Option<f64>,
    /// Calls open at once; at a given rate this is only a guard.
    pub open_max: usize,
    /// From answer to hang-up.
    pub hold: Duration,
    /// Both sides send audio meanwhile.
    pub audio: bool,
    /// Calls at the beginning that are not counted.
    pub warm_calls: u32,
}

/// What became of the calls.
#[derive(Clone, Debug, Default, Serialize)]
pub struct CallReport {
    /// Calls answered, held and ended by a BYE that was answered on both sides.
    pub done: u32,
    /// All others, by what went wrong.
    pub failed: BTreeMap<String, u32>,
    /// From the first counted call's start to the last one's.
    pub seconds: f64,
    /// Counted calls begun.
    pub counted: u32,
    /// CPU of the servers meanwhile, seconds, in their order.
    pub cpu_seconds: Vec<f64>,
    /// From INVITE to 200, microseconds.
    pub set_up_us: Quantiles,
    /// What became of the audio.
    pub audio: AudioReport,
}

impl CallReport {
    /// Calls that failed.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failed.values().sum()
    }

    /// Calls begun per second.
    #[must_use]
    pub fn per_second(&self) -> f64 {
        f64::from(self.counted) / self.seconds
    }

    /// CPU of the `n`-th server for one call, milliseconds.
    #[must_use]
    pub fn cpu_ms(&self, n: usize) -> f64 {
        self.cpu_seconds[n] * 1e3 / f64::from(self.counted.max(1))
    }

    /// One line for people.
    #[must_use]
    pub fn line(&self) -> String {
        let cpu: Vec<_> = (0..self.cpu_seconds.len())
            .map(|n| format!("{:.3}", self.cpu_ms(n)))
            .collect();
        format!(
            "{:.0} calls/s, {} done, {} failed {:?}, cpu {} ms/call, set-up p50 {:.1} p99 {:.1} ms, audio loss {:.3} %, \
             strangers {}, silent sides {}",
            self.per_second(),
            self.done,
            self.failures(),
            self.failed,
            cpu.join(" + "),
            self.set_up_us.p50 / 1e3,
            self.set_up_us.p99 / 1e3,
            self.audio.loss() * 100.0,
            self.audio.foreign,
            self.audio.silent_sides,
        )
    }
}

/// One call, from its INVITE until both its dialogs are over.
#[derive(Debug)]
struct Open {
    began: Instant,
    caller: Option<DialogKey>,
    callee: Option<DialogKey>,
    /// Where the server receives the callee's audio, and the caller's.
    media: [Option<SocketAddrV4>; 2],
    audio: Option<usize>,
    answered: bool,
    hung_up: bool,
    /// Dialogs that are over, of two.
    ended: u8,
}

/// The phones of both sides, and their audio.
#[derive(Debug)]
pub struct Phones {
    caller: UserAgent,
    callee: UserAgent,
    audio: LiveAudio,
    accounts: usize,

    open: HashMap<u32, Open>,
    by_invite: HashMap<ClientTxn, u32>,
    by_caller: HashMap<DialogKey, u32>,
    by_callee: HashMap<DialogKey, u32>,
    /// When calls are hung up; the hold is the same for all, so the order is that of the answers.
    hang_ups: VecDeque<(Instant, u32)>,
    /// When calls must have been answered, in the order they began.
    answers_due: VecDeque<(Instant, u32)>,
    last_call: u32,
    set_up: Histogram<u64>,
    report: CallReport,
}

impl Phones {
    /// Binds the phones of 127.0.0.1 at and above `first_port` and registers `accounts` callees.
    ///
    /// # Errors
    /// A port is taken, or a registration is refused.
    pub fn open(
        first_port: u16,
        server: SocketAddrV4,
        accounts: usize,
        controller: Observed,
    ) -> anyhow::Result<Phones> {
        let at = |offset| SocketAddrV4::new(Ipv4Addr::LOCALHOST, first_port + offset);
        let mut callee = UserAgent::bind(at(1), server, 2)?;
        let report = register(
            &mut callee,
            accounts,
            16,
            (Duration::ZERO, Duration::ZERO),
            controller,
        )?;
        anyhow::ensure!(
            report.failed == 0,
            "{} of {accounts} callees could not register",
            report.failed
        );
        Ok(Phones {
            caller: UserAgent::bind(at(0), server, 1)?,
            callee,
            audio: LiveAudio::open(first_port + 2)?,
            accounts,
            open: HashMap::new(),
            by_invite: HashMap::new(),
            by_caller: HashMap::new(),
            by_callee: HashMap::new(),
            hang_ups: VecDeque::new(),
            answers_due: VecDeque::new(),
            last_call: 0,
            set_up: nanosecond_histogram(),
            report: CallReport::default(),
        })
    }

    /// Places the calls of `load` and waits until all are over.
    ///
    /// # Errors
    /// A socket fails or a server is gone. Calls that fail are counted.
    pub fn run(&mut self, load: CallLoad, servers: &[Observed]) -> anyhow::Result<CallReport> {
        let _raised = Raised::raise(GENERATOR_PRIORITY);
        let cpu = |servers: &[Observed]| {
            servers
                .iter()
                .map(Observed::cpu_ns)
                .collect::<Result<Vec<_>, _>>()
        };
        self.report = CallReport::default();
        self.set_up.reset();
        self.audio.take_report();
        let begin = Instant::now();
        let mut counted_from = (begin, cpu(servers)?);
        let mut counted_to = None;
        let mut begun = 0;
        let mut last_begun = begin;
        loop {
            let now = Instant::now();
            let due = load
                .per_second
                .is_none_or(|rate| (now - begin).as_secs_f64() * rate >= f64::from(begun));
            if begun < load.calls && due && self.open.len() < load.open_max {
                if begun == load.warm_calls {
                    counted_from = (now, cpu(servers)?);
                }
                self.begin_call(now)?;
                begun += 1;
                last_begun = now;
                if begun == load.calls {
                    counted_to = Some((now, cpu(servers)?));
                }
            }
            let moved = self.turn(now, &load)?;
            if begun == load.calls && self.open.is_empty() {
                break;
            }
            if now > last_begun + load.hold + PATIENCE {
                self.abandon();
                break;
            }
            if moved == 0 {
                std::thread::sleep(Duration::from_micros(100));
            }
        }
        let (to, cpu_to) = counted_to.unwrap_or((Instant::now(), cpu(servers)?));
        self.report.counted = load.calls - load.warm_calls;
        self.report.seconds = (to - counted_from.0).as_secs_f64();
        let spent = cpu_to.iter().zip(&counted_from.1);
        self.report.cpu_seconds = spent.map(|(to, from)| (to - from) as f64 * 1e-9).collect();
        self.report.set_up_us = Quantiles::of(&self.set_up);
        self.report.audio = self.audio.take_report();
        Ok(std::mem::take(&mut self.report))
    }

    fn begin_call(&mut self, now: Instant) -> anyhow::Result<()> {
        self.last_call += 1;
        let id = self.last_call;
        let callee = user(id as usize % self.accounts);
        let mut request = self.caller.draft(Method::Invite, &caller_name(id), &callee)?;
        request.headers.push("Content-Type", "application/sdp")?;
        request.body = description(self.audio.address(0)).into();
        let target = self.caller.target();
        let txn = self.caller.stack.request(now, request, &[target])?;
        self.caller.flush()?;
        self.by_invite.insert(txn, id);
        self.answers_due.push_back((now + ANSWER_MAX, id));
        let call = Open {
            began: now,
            caller: None,
            callee: None,
            media: [None, None],
            audio: None,
            answered: false,
            hung_up: false,
            ended: 0,
        };
        self.open.insert(id, call);
        Ok(())
    }

    /// Everything that is due; how much there was.
    fn turn(&mut self, now: Instant, load: &CallLoad) -> anyhow::Result<usize> {
        let mut moved = if load.audio { self.audio.step()? } else { 0 };
        moved += self.caller.turn(now)?;
        while let Some(event) = self.caller.poll_event() {
            self.caller_event(now, event, load)?;
        }
        self.caller.flush()?;
        moved += self.callee.turn(now)?;
        while let Some(event) = self.callee.poll_event() {
            self.callee_event(now, event)?;
        }
        self.callee.flush()?;
        while let Some((_, id)) = self.hang_ups.pop_front_if(|(at, _)| *at <= now) {
            self.hang_up(now, id)?;
        }
        while let Some((_, id)) = self.answers_due.pop_front_if(|(at, _)| *at <= now) {
            if self.open.get(&id).is_some_and(|call| !call.answered) {
                self.fail(id, "no answer");
            }
        }
        Ok(moved)
    }

    fn caller_event(&mut self, now: Instant, event: Event, load: &CallLoad) -> anyhow::Result<()> {
        match event {
            Event::Response {
                txn,
                response,
                dialog,
                ..
            } => {
                let code = response.status.code();
                let Some(id) = self.by_invite.get(&txn).copied().filter(|_| code >= 200) else {
                    return Ok(());
                };
                self.by_invite.remove(&txn);
                match dialog.filter(|_| code < 300) {
                    Some(dialog) => self.answered(now, id, dialog, &response, load)?,
                    None => self.fail(id, &format!("refused with {code}")),
                }
            }
            Event::Timeout { txn, .. } | Event::TransportFailed { txn, .. } => {
                if let Some(id) = self.by_invite.remove(&txn) {
                    self.fail(id, "no response");
                }
            }
            Event::Bye { dialog, .. } => {
                if let Some(id) = self.by_caller.get(&dialog).copied() {
                    self.fail(id, "ended by the server");
                }
            }
            Event::DialogEnded { dialog, .. } => {
                if let Some(id) = self.by_caller.remove(&dialog) {
                    self.dialog_over(id);
                }
            }
            Event::Request { txn, .. } => {
                self.caller
                    .stack
                    .respond(now, txn, Response::new(StatusCode::OK))?
            }
            // Nothing else concerns a caller.
            _ => {}
        }
        Ok(())
    }

    fn answered(
        &mut self,
        now: Instant,
        id: u32,
        dialog: DialogKey,
        response: &Response,
        load: &CallLoad,
    ) -> anyhow::Result<()> {
        self.caller.stack.ack(dialog, None)?;
        let Some(call) = self.open.get_mut(&id) else {
            // Given up before: it must not stay open.
            self.caller
                .stack
                .dialog_request(now, dialog, DialogRequest::new(Method::Bye))?;
            return Ok(());
        };
        call.answered = true;
        call.caller = Some(dialog);
        call.media[0] = media_address(&response.body);
        self.set_up
            .saturating_record((now - call.began).as_nanos() as u64);
        self.by_caller.insert(dialog, id);
        if load.audio {
            let [Some(a), Some(b)] = call.media else {
                self.fail(id, "no media address");
                return Ok(());
            };
            call.audio = Some(self.audio.begin([a, b]));
        }
        self.hang_ups.push_back((now + load.hold, id));
        Ok(())
    }

    fn callee_event(&mut self, now: Instant, event: Event) -> anyhow::Result<()> {
        match event {
            Event::Request {
                txn,
                request,
                dialog,
                initial,
                ..
            } if request.method == Method::Invite && initial => {
                self.ring(now, txn, &request, dialog)?;
            }
            // A re-INVITE or an OPTIONS: all is well.
            Event::Request { txn, .. } => {
                self.callee
                    .stack
                    .respond(now, txn, Response::new(StatusCode::OK))?
            }
            Event::DialogEnded { dialog, .. } => {
                if let Some(id) = self.by_callee.remove(&dialog) {
                    self.dialog_over(id);
                }
            }
            // Nothing else concerns a callee.
            _ => {}
        }
        Ok(())
    }

    /// Rings and answers at once.
    fn ring(
        &mut self,
        now: Instant,
        txn: ServerTxn,
        request: &Request,
        dialog: Option<DialogKey>,
    ) -> anyhow::Result<()> {
        let from = request.headers.from()?;
        let name = from.uri.user_unescaped().unwrap_or_default();
        let id = std::str::from_utf8(&name).ok().and_then(call_of);
        let Some((call, dialog)) = id.and_then(|id| self.open.get_mut(&id)).zip(dialog) else {
            self.callee
                .stack
                .respond(now, txn, Response::new(StatusCode::BUSY_HERE))?;
            return Ok(());
        };
        call.callee = Some(dialog);
        call.media[1] = media_address(&request.body);
        self.by_callee.insert(dialog, id.unwrap_or_default());
        self.callee
            .stack
            .respond(now, txn, Response::new(StatusCode::RINGING))?;
        let mut answer = Response::new(StatusCode::OK);
        answer.headers.push("Content-Type", "application/sdp")?;
        answer.body = description(self.audio.address(1)).into();
        self.callee.stack.respond(now, txn, answer)?;
        Ok(())
    }

    fn hang_up(&mut self, now: Instant, id: u32) -> anyhow::Result<()> {
        let Some(call) = self.open.get_mut(&id) else {
            return Ok(());
        };
        call.hung_up = true;
        if let Some(place) = call.audio {
            self.audio.hush(place);
        }
        if let Some(dialog) = call.caller {
            self.caller
                .stack
                .dialog_request(now, dialog, DialogRequest::new(Method::Bye))?;
        }
        self.caller.flush()
    }

    /// One of the two dialogs of a call is over.
    fn dialog_over(&mut self, id: u32) {
        let Some(call) = self.open.get_mut(&id) else {
            return;
        };
        call.ended += 1;
        if call.ended == 2 && call.hung_up {
            self.close(id);
            self.report.done += 1;
        } else if !call.hung_up && call.answered {
            self.fail(id, "a dialog ended early");
        }
    }

    fn fail(&mut self, id: u32, why: &str) {
        if self.close(id) {
            *self.report.failed.entry(why.to_owned()).or_default() += 1;
        }
    }

    fn close(&mut self, id: u32) -> bool {
        let Some(call) = self.open.remove(&id) else {
            return false;
        };
        if let Some(place) = call.audio {
            self.audio.end(place);
        }
        true
    }

    /// Time is up: what is still open has failed.
    fn abandon(&mut self) {
        for id in self.open.keys().copied().collect::<Vec<_>>() {
            self.fail(id, "did not end");
        }
        self.hang_ups.clear();
    }
}

fn caller_name(id: u32) -> String {
    format!("c{id}")
}

fn call_of(caller: &str) -> Option<u32> {
    caller.strip_prefix('c')?.parse().ok()
}

/// PCMU at `at`.
fn description(at: SocketAddrV4) -> String {
    let (ip, port) = (at.ip(), at.port());
    format!(
        "v=0\r\no=- 1 1 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\nm=audio {port} RTP/AVP 0\r\n\
         a=rtpmap:0 PCMU/8000\r\na=ptime:20\r\n"
    )
}

/// Where a description wants its audio.
fn media_address(body: &[u8]) -> Option<SocketAddrV4> {
    let text = std::str::from_utf8(body).ok()?;
    let line = |start: &str| text.lines().find_map(|line| line.strip_prefix(start));
    let port = line("m=audio ")?.split(' ').next()?.parse().ok()?;
    let ip = line("c=IN IP4 ")?.trim().parse().ok()?;
    Some(SocketAddrV4::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_tells_where_the_audio_goes() {
        let at = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 20_002);
        assert_eq!(media_address(description(at).as_bytes()), Some(at));
        assert_eq!(media_address(b"v=0\r\nm=audio x RTP/AVP 0\r\n"), None);
        assert_eq!(call_of(&caller_name(77)), Some(77));
        assert_eq!(call_of("u77"), None);
    }
}
