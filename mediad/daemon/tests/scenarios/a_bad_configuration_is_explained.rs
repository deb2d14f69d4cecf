//! Whatever cannot work is refused at the start with exit code 78 and a message that names value, place and remedy.

use std::{fs, net::TcpListener};

use crate::support::{mediad, scratch};

/// Exit code and standard error.
fn run(args: &[&str], env: &[(&str, &str)]) -> (Option<i32>, String) {
    let output = mediad().args(args).envs(env.iter().copied()).output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn by_file_flag_and_environment() {
    let file = scratch("config").join("mediad.toml");
    let path = file.to_str().unwrap();
    let check = |text: &str, env: &[(&str, &str)]| {
        fs::write(&file, text).unwrap();
        run(&["--config", path, "--check-config"], env)
    };
    assert_eq!(check("", &[]).0, Some(0), "{:?}", check("", &[]));
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/mediad.toml");
    assert_eq!(run(&["--config", sample, "--check-config"], &[]).0, Some(0));
    for (text, env, parts) in [
        (
            "[io]\nbackend = \"mmsg\"\nlatency = 3\n",
            &[][..],
            vec!["mediad.toml", "line 3", "latency"],
        ),
        (
            "[control]\nlisten = \"0.0.0.0:8700\"\n",
            &[],
            vec!["control.listen", "0.0.0.0:8700", "control.tls.cert"],
        ),
        ("[io\n", &[], vec!["mediad.toml", "line 1"]),
        (
            "",
            &[("MEDIAD_IO__BACKEND", "kqueue")],
            vec!["MEDIAD_IO__BACKEND=kqueue", "kqueue", "uring"],
        ),
        (
            "",
            &[("MEDIAD_NONSENSE__KEY", "1")],
            vec!["MEDIAD_NONSENSE__KEY", "nonsense"],
        ),
        ("[workers]\ncpus = [4000]\n", &[], vec!["workers.cpus", "4000"]),
        (
            "[control.tls]\ncert = \"/no/host.crt\"\nkey = \"/no/host.key\"\nclient_ca = \"/no/ca.crt\"\n",
            &[],
            vec!["control.tls.client_ca", "/no/ca.crt", "give a PEM file"],
        ),
        (
            "[[media.interfaces]]\nname = \"out\"\naddresses = [\"192.0.2.1\"]\n",
            &[],
            vec!["\"out\"", "192.0.2.1", "an address of this machine"],
        ),
    ] {
        let (code, message) = check(text, env);
        assert_eq!(code, Some(78), "{text:?} {env:?}: {message}");
        for part in parts {
            assert!(message.contains(part), "{part:?} in {message:?}");
        }
    }
    let (code, message) = run(&["--config", "/nonexistent/mediad.toml"], &[]);
    assert!(
        code == Some(78) && message.contains("/nonexistent/mediad.toml"),
        "{message}"
    );
}

#[test]
fn a_taken_port_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap();
    for (flag, setting) in [("--control", "control.listen"), ("--metrics", "metrics.listen")] {
        let mut args = vec!["--control", "127.0.0.1:0", "--metrics", "127.0.0.1:0"];
        let at = args.iter().position(|arg| *arg == flag).unwrap();
        let text = addr.to_string();
        args[at + 1] = &text;
        let (code, message) = run(&args, &[]);
        assert_eq!(code, Some(1), "{message}");
        let wanted = format!("port {} (tcp, 127.0.0.1) is in use; set {setting}", addr.port());
        assert!(message.contains(&wanted), "{wanted:?} in {message:?}");
    }
}
