//! What goes wrong in the demonstration is said in a sentence, with the value and the remedy, and ends in failure.
#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "these tests own processes and sockets"
)]

use std::{
    iter,
    net::{SocketAddr, UdpSocket},
    process::Command,
    thread,
};

/// What a program says when it fails.
fn complaint(program: &str, flags: &[&str]) -> String {
    let done = Command::new(program).args(flags).output().unwrap();
    let said = [done.stdout, done.stderr].concat();
    let said = String::from_utf8(said).unwrap();
    assert_eq!(done.status.code(), Some(1), "{said}");
    said
}

fn agent(flags: &[&str]) -> String {
    complaint(env!("CARGO_BIN_EXE_agent"), &[&["--port", "0"], flags].concat())
}

fn customer(flags: &[&str]) -> String {
    complaint(
        env!("CARGO_BIN_EXE_customer"),
        &[&["--port", "0"], flags].concat(),
    )
}

#[track_caller]
fn assert_says(said: &str, parts: &[&str]) {
    for part in parts {
        assert!(said.contains(part), "no {part:?} in {said:?}");
    }
}

/// A server that gives each request its answer: the status line without version, and what follows the fields that every
/// answer repeats, with its own address for `@SELF@`. The thread ends with the test's process.
fn server(answer: impl Fn(&str) -> Option<(&'static str, String)> + Send + 'static) -> String {
    let socket = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
    let address = socket.local_addr().unwrap();
    thread::spawn(move || {
        let mut buffer = [0; 8_192];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let request = String::from_utf8_lossy(&buffer[..length]).into_owned();
            let method = request.split(' ').next().unwrap_or_default();
            if let Some((status, rest)) = answer(method) {
                let rest = rest.replace("@SELF@", &address.to_string());
                reply(&socket, from, &request, status, &rest);
            }
        }
    });
    address.to_string()
}

fn reply(socket: &UdpSocket, to: SocketAddr, request: &str, status: &str, rest: &str) {
    let mut text = format!("SIP/2.0 {status}\r\n");
    for line in request.lines() {
        let repeated = ["Via:", "From:", "Call-ID:", "CSeq:"];
        if repeated.iter().any(|name| line.starts_with(name)) {
            text += &format!("{line}\r\n");
        } else if line.starts_with("To:") {
            let tag = if line.contains(";tag=") { "" } else { ";tag=server" };
            text += &format!("{line}{tag}\r\n");
        }
    }
    text += rest;
    socket.send_to(text.as_bytes(), to).unwrap();
}

fn nothing_more() -> String {
    "Content-Length: 0\r\n\r\n".to_owned()
}

#[test]
fn of_a_port_that_is_taken() {
    // The demonstration gives its phones ports below 60 000.
    let any = || UdpSocket::bind(("127.0.0.1", 0)).unwrap();
    let mut sockets = iter::repeat_with(any).take(1_000);
    let taken = sockets.find(|socket| socket.local_addr().unwrap().port() < 60_000);
    let taken = taken.expect("a port");
    let port = taken.local_addr().unwrap().port().to_string();
    let named = format!("port {port} (udp, 127.0.0.1) is in use");
    for program in [env!("CARGO_BIN_EXE_agent"), env!("CARGO_BIN_EXE_customer")] {
        let said = complaint(program, &["--port", &port, "--server", "127.0.0.1:9"]);
        assert_says(&said, &[&named, "choose another with --port"]);
    }
    let run_dir = concat!(env!("CARGO_TARGET_TMPDIR"), "/taken-port");
    for (flag, at) in [
        ("--server-port", "0.0.0.0"),
        ("--agent-port", "127.0.0.1"),
        ("--customer-port", "127.0.0.1"),
    ] {
        let free = UdpSocket::bind(("0.0.0.0", 0)).unwrap();
        let mut flags = vec!["--run-dir", run_dir, flag, &port];
        let other = free.local_addr().unwrap().port().to_string();
        drop(free);
        if flag != "--server-port" {
            flags.extend(["--server-port", &other]);
        }
        let said = complaint(env!("CARGO_BIN_EXE_demo"), &flags);
        let named = format!("demo: FAILED: port {port} (udp, {at}) is in use");
        let remedy = format!("choose another with {flag}");
        assert_says(&said, &[&named, &remedy]);
    }
}

#[test]
fn of_a_registration_that_fails() {
    let refuses = server(|_| Some(("403 Forbidden", nothing_more())));
    assert_says(
        &agent(&["--server", &refuses, "--name", "alice"]),
        &[
            "registration failed",
            &refuses,
            "alice",
            "check --name and --password",
        ],
    );
    let is_busy = server(|_| Some(("503 Service Unavailable", nothing_more())));
    assert_says(
        &agent(&["--server", &is_busy]),
        &["registration failed", &is_busy, "503 Service Unavailable"],
    );
}

#[test]
fn of_agents_who_are_not_free() {
    let nobody = server(|method| {
        let refusal = ("480 Temporarily Unavailable", nothing_more());
        (method == "INVITE").then_some(refusal)
    });
    assert_says(
        &customer(&["--server", &nobody]),
        &["no agent is free: 480 Temporarily Unavailable", "register one"],
    );
    let rings = server(|method| match method {
        "INVITE" => Some(("180 Ringing", nothing_more())),
        "CANCEL" => Some(("200 OK", nothing_more())),
        _ => None,
    });
    assert_says(
        &customer(&["--server", &rings, "--wait-time", "1"]),
        &["nobody answered within 1 s (--wait-time)", "registered and free"],
    );
}

#[test]
fn of_a_call_without_media() {
    let is_mute = server(|method| {
        let sdp = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
            m=audio 9 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n";
        let described = format!(
            "Contact: <sip:support@@SELF@>\r\nContent-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{sdp}",
            sdp.len()
        );
        match method {
            "INVITE" => Some(("200 OK", described)),
            "BYE" => Some(("200 OK", nothing_more())),
            _ => None,
        }
    });
    assert_says(
        &customer(&["--server", &is_mute, "--call-duration", "1"]),
        &[
            "no media",
            "not one RTP packet came",
            "127.0.0.1 (2000-2100)",
            "mctl explain",
        ],
    );
}
