//! `tools/lock.sh`: builds share the machine, a benchmark has it alone, and who waits says so.
#![cfg(unix)]

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

fn lock(name: &str, mode: &str, script: &str) -> Command {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let file: PathBuf = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let mut command = Command::new(root.join("tools/lock.sh"));
    command
        .args([mode, "sh", "-c", script])
        .env("MACHINE_LOCK", file)
        .env_remove("MACHINE_LOCK_HELD");
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Starts a holder that keeps the lock until its standard input closes; returns once it has the lock.
fn holder(name: &str, mode: &str) -> Child {
    let mut child = lock(name, mode, "echo held; read -r line")
        .spawn()
        .expect("lock.sh starts");
    let mut first = String::new();
    let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
    stdout.read_line(&mut first).expect("the holder speaks");
    assert_eq!(first, "held\n");
    child
}

/// Starts a second command, sees it wait for the holder, lets the holder go, and sees the command run.
fn waits_for(mut holder: Child, mut command: Command, notice: &str) {
    let mut waiting = command.spawn().expect("lock.sh starts");
    let mut said = String::new();
    let mut stderr = BufReader::new(waiting.stderr.take().expect("piped"));
    stderr.read_line(&mut said).expect("it says that it waits");
    assert!(said.starts_with(notice), "{said}");
    assert!(
        waiting.try_wait().expect("its state").is_none(),
        "it did not wait"
    );

    drop(holder.stdin.take());
    holder.wait().expect("the holder ends");
    let mut ran = String::new();
    waiting
        .stdout
        .take()
        .expect("piped")
        .read_to_string(&mut ran)
        .expect("its output");
    assert_eq!(ran, "ran\n");
    assert!(waiting.wait().expect("it ends").success());
}

#[test]
fn a_build_waits_for_a_benchmark() {
    let holder = holder("build-waits", "exclusive");
    waits_for(
        holder,
        lock("build-waits", "shared", "echo ran"),
        "lock: waiting for a benchmark",
    );
}

#[test]
fn a_benchmark_waits_for_builds() {
    let holder = holder("benchmark-waits", "shared");
    waits_for(
        holder,
        lock("benchmark-waits", "exclusive", "echo ran"),
        "lock: waiting for builds",
    );
}

#[test]
fn builds_do_not_wait_for_each_other() {
    let mut first = holder("builds-share", "shared");
    let second = lock("builds-share", "shared", "echo ran")
        .output()
        .expect("lock.sh runs");
    assert_eq!(
        (&second.stdout[..], &second.stderr[..]),
        (&b"ran\n"[..], &b""[..])
    );
    drop(first.stdin.take());
    first.wait().expect("the holder ends");
}

#[test]
fn a_holder_may_call_again_but_not_for_more() {
    let script = format!("{}/../lock.sh exclusive echo never", env!("CARGO_MANIFEST_DIR"));
    let refused = lock("nested", "shared", &script).output().expect("lock.sh runs");
    assert!(!refused.status.success() && refused.stdout.is_empty());
    let script = format!("{}/../lock.sh shared echo ran", env!("CARGO_MANIFEST_DIR"));
    let nested = lock("nested", "exclusive", &script)
        .output()
        .expect("lock.sh runs");
    assert_eq!(nested.stdout, b"ran\n");
}

#[test]
fn the_commands_own_failure_comes_through() {
    let failed = lock("failure", "shared", "exit 7")
        .output()
        .expect("lock.sh runs");
    assert_eq!(failed.status.code(), Some(7));
}
