//! `tools/gates.sh`: every gate runs, the summary names the failed ones, and the exit code tells.
#![cfg(unix)]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

/// Runs `gates.sh check` with a cargo that does what `script` says for its first argument `$1`.
fn check_with_cargo(name: &str, script: &str) -> (Output, String) {
    let cargo = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("cargo-{name}"));
    fs::write(&cargo, format!("#!/bin/sh\n{script}\n")).expect("writing the stand-in");
    fs::set_permissions(&cargo, fs::Permissions::from_mode(0o755)).expect("making it executable");
    let mut gates = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../gates.sh"));
    let output = gates
        .arg("check")
        .env("CARGO", &cargo)
        .env("MACHINE_LOCK_HELD", "shared")
        .output();
    let output = output.expect("gates.sh runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (output, text)
}

const PASSING: &str = "test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out";

#[test]
fn all_gates_passing_is_a_success() {
    let (output, text) = check_with_cargo("passing", &format!("[ $1 = test ] && echo '{PASSING}'; exit 0"));
    assert!(output.status.success() && text.ends_with("check: OK\n"), "{text}");
    assert!(text.contains("tests: 3 passed, 0 failed, 0 ignored"), "{text}");
}

#[test]
fn a_failing_clippy_fails_the_run_and_the_tests_still_run() {
    let script = format!("[ $1 = clippy ] && exit 101; [ $1 = test ] && echo '{PASSING}'; exit 0");
    let (output, text) = check_with_cargo("clippy", &script);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        text.contains("tests: 3 passed") && text.contains("FAILED (101)"),
        "{text}"
    );
}

#[test]
fn a_failing_test_fails_the_run_and_is_named() {
    let script = "[ $1 = test ] || exit 0
        echo 'test calls::are_billed ... FAILED'
        echo 'test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out'
        exit 101";
    let (output, text) = check_with_cargo("test", script);
    assert_eq!(output.status.code(), Some(1), "{text}");
    let after_count = text
        .split("tests: 2 passed, 1 failed, 0 ignored")
        .nth(1)
        .expect("the count");
    assert!(after_count.contains("calls::are_billed"), "{text}");
    assert!(text.ends_with("check: FAILED, 1 gate(s)\n"), "{text}");
}

#[test]
fn a_run_without_any_test_fails() {
    let (output, text) = check_with_cargo("empty", "exit 0");
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("tests: none passed"), "{text}");
}
