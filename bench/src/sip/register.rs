//! Registrations: REGISTER, challenge, REGISTER with digest credentials, 200.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde::Serialize;
use sip::auth::{ClientSession, Ha1, choose_challenge};
use sip::message::{HeaderName, Method, Response};
use sip::stack::{ClientTxn, Event};

use super::{UserAgent, password, user};
use crate::machine::{GENERATOR_PRIORITY, Observed, Raised};

/// Asked for, in seconds: nobody expires while a bench runs.
const EXPIRES: &str = "3600";
/// A registration that takes longer is lost.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a run of registrations found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RegisterReport {
    /// Registrations answered with 200 within the window.
    pub done: u64,
    /// Refused, or without any answer.
    pub failed: u64,
    /// The window, seconds.
    pub seconds: f64,
    /// CPU of the server in it, seconds.
    pub server_cpu_seconds: f64,
}

impl RegisterReport {
    /// Registrations per second.
    #[must_use]
    pub fn per_second(&self) -> f64 {
        self.done as f64 / self.seconds
    }

    /// CPU of the server for one registration, microseconds.
    #[must_use]
    pub fn cpu_us(&self) -> f64 {
        self.server_cpu_seconds * 1e6 / self.done.max(1) as f64
    }
}

/// One registration under way.
struct Attempt {
    account: usize,
    challenged: bool,
}

/// Registers `accounts` accounts in turn, `in_flight` at a time, each with a fresh challenge; counts for `window`
/// after `warm`. With `window` zero every account is registered once.
///
/// # Errors
/// A socket fails, the server is gone, or a registration is refused.
pub fn register(
    agent: &mut UserAgent,
    accounts: usize,
    in_flight: usize,
    (warm, window): (Duration, Duration),
    server: Observed,
) -> anyhow::Result<RegisterReport> {
    let _raised = Raised::raise(GENERATOR_PRIORITY);
    let mut attempts: HashMap<ClientTxn, Attempt> = HashMap::new();
    let begin = Instant::now();
    let once = window.is_zero();
    let (mut started, mut report) = (0, RegisterReport::default());
    let mut counted_from = None;
    loop {
        let now = Instant::now();
        if !once && counted_from.is_none() && now >= begin + warm {
            report = RegisterReport::default();
            counted_from = Some((now, server.cpu_ns()?));
        }
        let all_begun = once && started == accounts;
        if all_begun && attempts.is_empty() || !once && now >= begin + warm + window {
            break;
        }
        anyhow::ensure!(
            now < begin + warm + window + PATIENCE,
            "{} registrations got no answer within {PATIENCE:?}",
            attempts.len()
        );
        while !all_begun && attempts.len() < in_flight {
            let (account, challenged) = (started % accounts, false);
            started += 1;
            attempts.insert(begin_one(agent, now, account)?, Attempt { account, challenged });
            if once && started == accounts {
                break;
            }
        }
        agent.flush()?;
        let received = agent.turn(now)?;
        take_events(agent, now, &mut attempts, &mut report)?;
        if received == 0 {
            std::thread::sleep(Duration::from_micros(50));
        }
    }
    if let Some((from, cpu_from)) = counted_from {
        report.seconds = from.elapsed().as_secs_f64();
        report.server_cpu_seconds = (server.cpu_ns()? - cpu_from) as f64 * 1e-9;
    }
    Ok(report)
}

fn begin_one(agent: &mut UserAgent, now: Instant, account: usize) -> anyhow::Result<ClientTxn> {
    let name = user(account);
    let mut request = agent.draft(Method::Register, &name, &name)?;
    let contact = agent.contact(&name);
    request.headers.push_value(HeaderName::Contact, &contact);
    request.headers.push("Expires", EXPIRES)?;
    let target = agent.target();
    Ok(agent.stack.request(now, request, &[target])?)
}

fn take_events(
    agent: &mut UserAgent,
    now: Instant,
    attempts: &mut HashMap<ClientTxn, Attempt>,
    report: &mut RegisterReport,
) -> anyhow::Result<()> {
    while let Some(event) = agent.poll_event() {
        match event {
            Event::Response { txn, response, .. } if response.status.code() >= 200 => {
                let Some(attempt) = attempts.remove(&txn) else {
                    continue;
                };
                match response.status.code() {
                    200 => report.done += 1,
                    401 if !attempt.challenged => {
                        let again = answer(agent, now, txn, &response, attempt.account)?;
                        let challenged = true;
                        attempts.insert(
                            again,
                            Attempt {
                                challenged,
                                ..attempt
                            },
                        );
                    }
                    _ => report.failed += 1,
                }
            }
            Event::Timeout { txn, .. } | Event::TransportFailed { txn, .. } => {
                report.failed += u64::from(attempts.remove(&txn).is_some());
            }
            // Nothing else concerns a phone that only registers.
            _ => {}
        }
    }
    agent.flush()
}

fn answer(
    agent: &mut UserAgent,
    now: Instant,
    txn: ClientTxn,
    response: &Response,
    account: usize,
) -> anyhow::Result<ClientTxn> {
    let challenges = response.headers.www_authenticate().context("the challenge")?;
    let challenge = choose_challenge(&challenges).context("a challenge of an unknown kind")?;
    let (name, secret) = (user(account), password(account));
    let ha1 = Ha1::from_password(
        challenge.hash,
        name.as_bytes(),
        &challenge.realm,
        secret.as_bytes(),
    );
    let cnonce = agent.stack.random_token();
    let mut session = ClientSession::new(challenge, &name, ha1, &cnonce).context("the challenge")?;
    Ok(agent
        .stack
        .retry_with_credentials(now, txn, response, &mut session)?)
}
