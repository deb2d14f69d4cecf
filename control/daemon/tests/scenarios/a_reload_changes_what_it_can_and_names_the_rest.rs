//! SIGHUP and `POST /v1/reload`: what can change while calls go on does, what cannot is named, and a file that is wrong
//! changes nothing.

use std::io::Read as _;

use serde_json::{Value, json};

use crate::support::{Controld, tcp, until};

const ALICE: &str = "[[accounts]]\nuser = 'alice'\npassword = 'secret'\n";
const BOB: &str = "[[accounts]]\nuser = 'bob'\npassword = 'builder'\n";
const SUPPORT: &str = "[[queues]]\nname = 'support'\nagents = ['alice']\n";

fn counted(controld: &Controld, ok: u32, failed: u32) {
    for (result, count) in [("ok", ok), ("failed", failed)] {
        controld.until_metric(
            &format!("controld_reloads_total{{result=\"{result}\"}}"),
            f64::from(count),
        );
    }
}

fn last(controld: &Controld) -> Value {
    let (status, body) = controld.page("/v1/reload");
    assert_eq!(status, 200);
    let page: Value = serde_json::from_str(&body).unwrap();
    page["last"].clone()
}

#[test]
fn accounts_and_queues_come_and_go_by_a_signal() {
    let controld = Controld::start(&[]);
    assert_eq!(last(&controld), Value::Null);
    assert!(controld.register_as("bob", "builder").starts_with("SIP/2.0 401"));
    controld.configure(&format!("{BOB}[[queues]]\nname = 'sales'\nagents = ['bob']\n"));
    controld.reload();
    counted(&controld, 1, 0);
    assert!(controld.register_as("bob", "builder").starts_with("SIP/2.0 200"));
    let (_, agents) = controld.page("/v1/agents");
    assert!(
        agents.contains("\"name\":\"bob\",\"state\":\"ready\""),
        "{agents}"
    );
    let done = last(&controld);
    let told = (&done["verdict"], &done["changed"], &done["needs_restart"]);
    let changed = json!(["accounts.bob added", "queues.sales added"]);
    assert_eq!(told, (&json!("applied"), &changed, &json!([])));
    assert!(done["at_unix_s"].as_u64().unwrap() > 1_700_000_000);
    assert_eq!(controld.metric("controld_last_reload_successful"), 1.0);

    // Another password, and then no account: what was registered stays, and then does not.
    controld.write(&format!("{ALICE}{}{SUPPORT}", BOB.replace("builder", "other")));
    controld.reload();
    counted(&controld, 2, 0);
    assert_eq!(controld.metric("controld_bindings"), 1.0);
    assert!(controld.register_as("bob", "builder").starts_with("SIP/2.0 401"));
    assert!(controld.register_as("bob", "other").starts_with("SIP/2.0 200"));
    controld.write(&format!("{ALICE}{SUPPORT}"));
    controld.reload();
    counted(&controld, 3, 0);
    assert_eq!(controld.metric("controld_bindings"), 0.0);
    let journal = controld.journal_text();
    assert!(
        journal.contains("\"kind\":\"unregistered\",\"user\":\"bob\""),
        "{journal}"
    );
    assert!(!controld.page("/v1/queues").1.contains("sales"));
}

#[test]
fn a_file_that_is_wrong_changes_nothing_and_is_explained() {
    let controld = Controld::start(&[]);
    let file = controld.file().display().to_string();
    for (wrong, words) in [
        (
            format!("{BOB}{SUPPORT}"),
            vec![
                "queues.support.agents = \"alice\"",
                "is no account",
                "add it to accounts",
            ],
        ),
        (
            format!("{ALICE}{BOB}[calls]\ncount_maxx = 5\n"),
            vec!["line 8", "unknown field `count_maxx`", "`count_max`"],
        ),
        (
            format!("{ALICE}{BOB}ha1_md5 = '00'\n"),
            vec![
                "accounts.bob.ha1_md5",
                "is not a hexadecimal hash",
                "give the hash of",
            ],
        ),
        (
            format!("{ALICE}{BOB}[log]\nlevel = 'loud'\n"),
            vec!["log.level", "\"loud\" is not one of"],
        ),
        // What stays as it is makes it wrong: with another algorithm it could be used.
        (
            format!(
                "{ALICE}[[accounts]]\nuser = 'bob'\nha1_sha512_256 = '{}'\n[signalling]\ndigest = ['SHA-512-256']\n",
                "0".repeat(64)
            ),
            vec!["accounts.bob", "no password", "ha1_md5"],
        ),
        (format!("{ALICE}["), vec!["line 4"]),
    ] {
        controld.write(&wrong);
        let (status, problem) = controld.ask_to_reload();
        let detail = problem["detail"].as_str().unwrap();
        assert_eq!(status, 422, "{problem}");
        for word in words.into_iter().chain([file.as_str()]) {
            assert!(detail.contains(word), "{word:?} is missing in {detail:?}");
        }
        assert!(controld.register_as("bob", "builder").starts_with("SIP/2.0 401"));
    }
    assert!(controld.register_as("alice", "secret").starts_with("SIP/2.0 200"));
    counted(&controld, 0, 6);
    // Everybody may look here, and what is wrong may be a password.
    let refused = last(&controld);
    assert_eq!(refused["verdict"], "refused");
    assert_eq!(refused.as_object().unwrap().len(), 2, "{refused}");
    assert_eq!(controld.metric("controld_last_reload_successful"), 0.0);
    controld.write(&format!("{ALICE}{BOB}"));
    assert_eq!(controld.ask_to_reload().0, 200);
    assert!(controld.register_as("bob", "builder").starts_with("SIP/2.0 200"));
    counted(&controld, 1, 6);
}

#[test]
fn what_needs_a_restart_is_named_with_its_values_and_the_rest_is_done() {
    let controld = Controld::start(&[]);
    let more = "[dns]\ntimeout_ms = 999\n[journal]\nsegment_bytes = 100000\n[signalling]\nws = ['127.0.0.1:0']\n\
                tcp_connections_per_source = 1\n[log]\nformat = 'json'\n";
    controld.configure(more);
    let expected = json!([
        { "key": "signalling.ws", "from": "[]", "to": "[127.0.0.1:0]" },
        { "key": "dns.timeout_ms", "from": "2000", "to": "999" },
        { "key": "journal.segment_bytes", "from": "67108864", "to": "100000" },
        { "key": "log.format", "from": "Text", "to": "Json" },
    ]);
    let mut first = tcp(controld.tcp);
    controld.until_metric("controld_tcp_connections", 1.0);
    // As often as it is asked.
    for changed in [
        json!(["signalling.tcp_connections_per_source changed"]),
        json!([]),
    ] {
        let (status, done) = controld.ask_to_reload();
        assert_eq!(status, 200, "{done}");
        assert_eq!((&done["changed"], &done["needs_restart"]), (&changed, &expected));
    }
    assert_eq!(
        tcp(controld.tcp).read(&mut [0; 8]).unwrap(),
        0,
        "one is enough now"
    );
    std::io::Write::write_all(&mut first, b"\r\n\r\n").unwrap();
    let mut pong = [0; 2];
    first.read_exact(&mut pong).unwrap();
    assert_eq!(&pong, b"\r\n", "the one that was there stays");
}

#[test]
fn a_reload_that_is_asked_for_many_times_at_once_is_done_or_refused() {
    let controld = Controld::start(&[]);
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let asked: Vec<_> = (0..16)
            .map(|_| scope.spawn(|| controld.ask_to_reload().0))
            .collect();
        asked.into_iter().map(|asked| asked.join().unwrap()).collect()
    });
    assert!(
        statuses.iter().all(|status| [200, 503].contains(status)),
        "{statuses:?}"
    );
    let done = statuses.iter().filter(|status| **status == 200).count();
    assert!(done > 0, "{statuses:?}");
    until("all are counted", || {
        controld.metric("controld_reloads_total{result=\"ok\"}") == done as f64
    });
}
