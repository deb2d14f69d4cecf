use std::process::Command;

use crate::support::{Controld, arguments};

#[test]
fn the_message_names_port_setting_and_remedy() {
    let first = Controld::start(&[]);
    let journal = first.journal.with_extension("second");
    let mut command = Command::new(env!("CARGO_BIN_EXE_controld"));
    let taken = first.udp.port();
    command
        .args(arguments(&journal))
        .args(["--set", &format!("signalling.udp=['127.0.0.1:{taken}']")]);
    let output = command.output().unwrap();
    let _ = std::fs::remove_dir_all(journal);
    assert_eq!(output.status.code(), Some(1));
    let log = String::from_utf8(output.stderr).unwrap();
    let expected =
        format!("port {taken} (udp, 127.0.0.1) is in use; set signalling.udp or stop the other process");
    assert!(log.contains(&expected), "{log}");
}

#[test]
fn an_unusable_configuration_ends_with_its_own_code() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_controld"));
    let output = command
        .args(["--check-config", "--set", "log.level=loud"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(78));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("log.level: \"loud\" is not one of"), "{text}");
}
