//! Scripts can tell a wrong file from a host that is not there, and people are told what to do.
#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]
#![allow(clippy::disallowed_types, reason = "a closed port is found by opening one")]

use std::{
    io::Write as _,
    net::TcpListener,
    process::{Command, Stdio},
};

/// Exit code, standard output and standard error.
fn mctl(args: &[&str], input: &str) -> (Option<i32>, String, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_mctl"))
        .args(args)
        .env_remove("MCTL_HOST")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A program that ends before it reads is no fault of the test.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn nobody_there_is_3() {
    let closed = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .to_string();
    let (code, out, err) = mctl(&["--host", &closed, "status"], "");
    assert_eq!((code, out.as_str()), (Some(3), ""), "{err}");
    for part in [closed.as_str(), "refused", "MCTL_HOST"] {
        assert!(err.contains(part), "{part} in {err}");
    }
}

#[test]
fn wrong_usage_is_2_and_found_before_anybody_is_called() {
    let graph = "session: s\nput_edges: [{from: a, too: b}]";
    let (code, _, err) = mctl(&["--host", "127.0.0.1:1", "apply", "-"], graph);
    assert_eq!(code, Some(2), "{err}");
    assert!(
        err.contains("standard input: put_edges[0].too: no such field; Edge has from, to"),
        "{err}"
    );
    for (written, told) in [
        (
            "put_edges: [{from: a, to: b, channel: LEFT}]",
            "put_edges[0].channel: expected a whole number from 0 to 4294967295, found \"LEFT\"",
        ),
        (
            "put_edges: [{from: a, to: b, muted: 1}]",
            "put_edges[0].muted: expected true or false, found 1",
        ),
        (
            "put_nodes: [{id: 7, room: {}}]",
            "put_nodes[0].id: expected text (in YAML in quotes, if it looks like a number), found 7",
        ),
        (
            "options: {labels: {queue: 12}}",
            "options.labels.queue: expected text",
        ),
    ] {
        let (code, _, err) = mctl(&["apply", "-"], &format!("session: s\n{written}"));
        assert!(code == Some(2) && err.contains(told), "{told} in {err}");
    }
    let (code, _, err) = mctl(&["apply", "/nonexistent/graph.yaml"], "");
    assert!(
        code == Some(2) && err.contains("/nonexistent/graph.yaml"),
        "{err}"
    );
    let (code, _, err) = mctl(&["--host", "not an address", "list"], "");
    assert!(code == Some(2) && err.contains("ADDRESS:PORT"), "{err}");
    assert_eq!(
        mctl(&["explain", "s", "a"], "").0,
        Some(2),
        "a speaker needs a listener"
    );
    // Half of what TLS needs: nothing is said in clear instead.
    for half in [&["--cert", "a.pem", "--key", "a.key"][..], &["--key", "a.key"]] {
        let (code, _, err) = mctl(&[&["--host", "127.0.0.1:1"], half, &["status"]].concat(), "");
        assert!(code == Some(2) && err.contains("--ca"), "{half:?}: {err}");
    }
}

#[test]
fn the_help_shows_how_a_graph_is_written() {
    let (code, out, _) = mctl(&["apply", "--help"], "");
    assert_eq!(code, Some(0));
    for part in ["put_transports:", "codec: pcmu", "replace: true", "owner"] {
        assert!(out.contains(part), "{part} in {out}");
    }
}

#[test]
fn top_is_for_people_who_can_wait_a_little() {
    let (code, out, err) = mctl(&["--json", "top"], "");
    assert_eq!((code, out.as_str()), (Some(2), ""));
    assert!(err.contains("use --json with status, list or describe"), "{err}");
    for interval in ["0", "-1", "soon"] {
        let (code, _, err) = mctl(&["top", &format!("--interval={interval}")], "");
        assert!(code == Some(2) && err.contains("at least 0.1"), "{err}");
    }
    let (code, _, err) = mctl(&["--host", "127.0.0.1:1", "top", "--once"], "");
    assert!(code == Some(3) && err.contains("127.0.0.1:1"), "{err}");
}
