//! Just enough HTTP to ask the two daemons what they think.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

const TIMEOUT: Duration = Duration::from_secs(5);
/// How long records and counters may take to follow the last BYE; a record waits for its recording.
const SETTLE: Duration = Duration::from_secs(8);

/// Status and body of a page.
pub(crate) fn page(server: SocketAddr, path: &str) -> Result<(u16, String)> {
    let mut stream =
        TcpStream::connect_timeout(&server, TIMEOUT).with_context(|| format!("http://{server}{path}"))?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    // 1.0: the body ends with the connection.
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {server}\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let (head, body) = text.split_once("\r\n\r\n").context("no HTTP answer")?;
    let status = head.split_whitespace().nth(1).and_then(|code| code.parse().ok());
    Ok((status.context("no HTTP status")?, body.to_owned()))
}

fn json(server: SocketAddr, path: &str) -> Result<Value> {
    let (status, body) = page(server, path)?;
    if status != 200 {
        bail!("http://{server}{path}: {status} {}", body.trim());
    }
    serde_json::from_str(&body).with_context(|| format!("http://{server}{path}"))
}

/// Waits for `/readyz`.
pub(crate) fn until_ready(server: SocketAddr, patience: Duration) -> Result<()> {
    let until = Instant::now() + patience;
    loop {
        let (status, body) = page(server, "/readyz")?;
        if status == 200 {
            return Ok(());
        }
        if Instant::now() >= until {
            bail!("{}", body.trim());
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// All call details, once there are `count`.
pub(crate) fn details(server: SocketAddr, count: usize) -> Result<Vec<Value>> {
    let until = Instant::now() + SETTLE;
    loop {
        let page = json(server, "/v1/cdrs?limit=10000")?;
        let details = page.as_array().cloned().unwrap_or_default();
        if details.len() >= count || Instant::now() >= until {
            return Ok(details);
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// What should be gone and is not, in words; empty when all is clean.
pub(crate) fn left_over(server: SocketAddr, media: SocketAddr) -> Result<Vec<String>> {
    let until = Instant::now() + SETTLE;
    loop {
        let left = look(server, media)?;
        if left.is_empty() || Instant::now() >= until {
            return Ok(left);
        }
        thread::sleep(Duration::from_millis(50));
    }
}

fn look(server: SocketAddr, media: SocketAddr) -> Result<Vec<String>> {
    let mut left = Vec::new();
    for call in json(server, "/v1/calls")?.as_array().into_iter().flatten() {
        left.push(format!("controld still has call {}", call["call"]));
    }
    for agent in json(server, "/v1/agents")?.as_array().into_iter().flatten() {
        if !["ready", "wrap_up"].contains(&agent["state"].as_str().unwrap_or_default()) {
            left.push(format!("agent {} is {}", agent["name"], agent["state"]));
        }
    }
    let (_, metrics) = page(media, "/metrics")?;
    let sessions = metrics
        .lines()
        .find_map(|line| line.strip_prefix("mediad_sessions "));
    if sessions != Some("0") {
        left.push(format!("mediad still has {} sessions", sessions.unwrap_or("?")));
    }
    Ok(left)
}
