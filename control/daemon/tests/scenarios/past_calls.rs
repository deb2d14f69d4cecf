//! Calls of long ago, in the journal of a controller that does not run.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    path::Path,
};

use serde_json::json;

/// The first of them begins then: 2001-09-09T01:46:40Z; each other one a minute after the one before.
const FIRST_UNIX_US: u64 = 1_000_000_000_000_000;

/// Adds so many to the newest file: `past-0` of `sip:past-0@far` to the queue `support` is the oldest. Every tenth was
/// answered, by bob.
pub(crate) fn add(journal: &Path, count: u64) {
    let files = fs::read_dir(journal).unwrap();
    let files = files.map(|entry| entry.unwrap().path());
    let newest = files.filter(|path| path.extension().is_some_and(|ending| ending == "journal"));
    let newest = newest.max().unwrap();
    let text = fs::read_to_string(&newest).unwrap();
    let mut number = text
        .lines()
        .filter_map(|line| line.split_once("{\"sequence\":")?.1.split_once(','));
    let first = number
        .next_back()
        .map_or(0, |(number, _)| number.parse().unwrap())
        + 1;
    let mut file = OpenOptions::new().append(true).open(newest).unwrap();
    for number in 0..count {
        let started = FIRST_UNIX_US + number * 60_000_000;
        let answered = number % 10 == 0;
        let record = json!({
            "sequence": first + number, "at_unix_us": started, "kind": "call_detail", "call": format!("past-{number}"),
            "sip_call_id": "x", "from": format!("sip:past-{number}@far"), "to": "sip:Support@far",
            "queue": "support", "answered_by": answered.then_some("bob"), "rung": [], "started_unix_us": started,
            "answered_unix_us": null, "ended_unix_us": started + 1, "wait_ms": 4, "talk_ms": 0,
            "ended_by": if answered { "callee" } else { "caller" }, "status": if answered { 200 } else { 487 },
            "reason": "gone", "host": "a", "caller_codec": "", "callee_codec": "", "caller_media": null,
            "callee_media": null,
        });
        let text = record.to_string();
        writeln!(file, "{:08x} {text}", crc32fast::hash(text.as_bytes())).unwrap();
    }
}
