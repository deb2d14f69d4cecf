//! `--verify-journal`: the journal is whole, and what the store made of it is what the journal says.

use std::{collections::BTreeMap, fmt::Write as _};

use call_control::{Record, RecordKind, cdr::CallDetail};

use super::{DetailQuery, Sqlite, Store, StoreError};
use crate::{config, journal::segment};

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Report {
    records: u64,
    segments: usize,
    details: usize,
    compared: usize,
    /// In words; empty when all is well.
    pub(crate) faults: Vec<String>,
}

impl Report {
    /// For people.
    pub(crate) fn text(&self) -> String {
        let mut text = format!(
            "journal: {} records in {} segments, {} call details; {} compared with the store\n",
            self.records, self.segments, self.details, self.compared
        );
        for fault in &self.faults {
            let _infallible = writeln!(text, "fault: {fault}");
        }
        text += if self.faults.is_empty() {
            "they agree\n"
        } else {
            "they do not agree\n"
        };
        text
    }
}

/// Reads everything that is kept.
///
/// # Errors
/// Something cannot be read at all.
pub(crate) fn verify(journal: &config::Journal, store: &config::Store) -> Result<Report, String> {
    let place = |error: std::io::Error| format!("journal {}: {error}", journal.path.display());
    let mut report = Report::default();
    let mut calls = Calls::default();
    let mut own = Sqlite::in_memory().map_err(|error| error.to_string())?;
    let segments = segment::list(&journal.path).map_err(place)?;
    let mut last = 0;
    for path in &segments {
        let mut batch = Vec::new();
        let scan = segment::scan(path, |record| {
            if record.sequence <= last {
                let fault = format!("{}: record {} after {last}", path.display(), record.sequence);
                report.faults.push(fault);
            }
            last = last.max(record.sequence);
            calls.take(&record, &mut report.faults);
            batch.push(record);
        })
        .map_err(place)?;
        report.records += scan.records;
        report.segments += 1;
        if scan.damaged > 0 {
            report
                .faults
                .push(format!("{}: {} damaged lines", path.display(), scan.damaged));
        }
        if let Err(error) = own.project(&batch) {
            report
                .faults
                .push(format!("{}: cannot be projected: {error}", path.display()));
        }
    }
    report.details = calls.details.len();
    if store.path.exists() {
        let mut store = Sqlite::open(&store.path).map_err(|error| error.to_string())?;
        compare(&calls, &mut own, &mut store, &mut report).map_err(|error| error.to_string())?;
    }
    Ok(report)
}

/// Calls as the journal has them.
#[derive(Default)]
struct Calls {
    started: BTreeMap<String, u64>,
    details: BTreeMap<String, (u64, CallDetail)>,
    first: Option<u64>,
}

impl Calls {
    fn take(&mut self, record: &Record, faults: &mut Vec<String>) {
        self.first = self.first.or(Some(record.sequence));
        match &record.kind {
            RecordKind::CallStarted { call, .. }
                if self.started.insert(call.clone(), record.sequence).is_some() =>
            {
                faults.push(format!("call {call} started twice"));
            }
            RecordKind::CallDetail(detail) => {
                let known = self
                    .details
                    .insert(detail.call.clone(), (record.sequence, (**detail).clone()));
                if known.is_some() {
                    faults.push(format!("call {} has two details", detail.call));
                }
            }
            RecordKind::Recorded { call, file } => {
                if let Some((known, detail)) = self.details.get_mut(call) {
                    // The store may not have come as far as this.
                    *known = record.sequence;
                    detail.take_recording(file.clone());
                }
            }
            _ => {}
        }
    }
}

fn compare(
    calls: &Calls,
    own: &mut Sqlite,
    store: &mut Sqlite,
    report: &mut Report,
) -> Result<(), StoreError> {
    let cursor = store.cursor()?;
    let everything = DetailQuery {
        limit: usize::MAX,
        ..DetailQuery::default()
    };
    let stored: BTreeMap<String, CallDetail> = store
        .details(&everything)?
        .into_iter()
        .map(|detail| (detail.call.clone(), detail))
        .collect();
    for (call, (record, detail)) in &calls.details {
        if *record > cursor {
            continue;
        }
        report.compared += 1;
        match stored.get(call) {
            None => report.faults.push(format!("call {call} is not in the store")),
            Some(other) if other != detail => report.faults.push(format!("call {call} differs in the store")),
            Some(_) => {}
        }
    }
    for call in stored.keys() {
        // The store has it from there: its line is damaged now.
        if calls.started.contains_key(call) && !calls.details.contains_key(call) {
            report.faults.push(format!(
                "call {call} is in the store, and its detail not in the journal"
            ));
        }
    }
    let since = calls.first.unwrap_or(u64::MAX).cast_signed();
    let ours = own.agent_spells(0)?;
    let theirs = store.agent_spells(0)?;
    // One that began before what is kept of the journal is known to the store only.
    let is_kept = |record: i64| record >= since && record.cast_unsigned() <= cursor;
    for spell in ours.iter().filter(|spell| is_kept(spell.record)) {
        report.compared += 1;
        let found = theirs.iter().find(|other| other.record == spell.record);
        let agrees = found.is_some_and(|other| {
            let ended = other.ended_unix_us == spell.ended_unix_us || other.ended_unix_us.is_none();
            (&other.agent, &other.state, other.began_unix_us)
                == (&spell.agent, &spell.state, spell.began_unix_us)
                && ended
        });
        // The first of an agent may be the continuation of one from before.
        let continues = theirs
            .iter()
            .any(|other| other.record < since && other.agent == spell.agent && other.state == spell.state);
        if !agrees && !continues {
            report.faults.push(format!(
                "agent {}: record {} differs in the store",
                spell.agent, spell.record
            ));
        }
    }
    compare_hours(&stored, store, report)
}

/// The hours must be the sums of the details.
fn compare_hours(
    stored: &BTreeMap<String, CallDetail>,
    store: &mut Sqlite,
    report: &mut Report,
) -> Result<(), StoreError> {
    let mut offered: BTreeMap<(i64, String), i64> = BTreeMap::new();
    for detail in stored.values() {
        if let Some(queue) = &detail.queue {
            let began = (detail.started_unix_us / 1_000_000).cast_signed();
            *offered.entry((began - began % 3_600, queue.clone())).or_default() += 1;
        }
    }
    let hours = store.queue_hours(i64::MIN)?;
    let counted: BTreeMap<(i64, String), i64> = hours
        .into_iter()
        .map(|hour| ((hour.hour_unix, hour.queue), hour.offered))
        .collect();
    report.compared += offered.len();
    if offered != counted {
        report
            .faults
            .push("queue statistics are not the sums of the call details".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(sequence: u64, kind: &str) -> Record {
        let text = format!(r#"{{"sequence":{sequence},"at_unix_us":5,{kind}}}"#);
        serde_json::from_str(&text).unwrap()
    }

    fn story() -> Vec<Record> {
        let started = |call: &str| {
            format!(
                r#""kind":"call_started","call":"{call}","sip_call_id":"x","from":"a","to":"b","queue":null,"host":"m""#
            )
        };
        let detail = |call: &str| {
            format!(
                r#""kind":"call_detail","call":"{call}","sip_call_id":"x","from":"a","to":"b","queue":null,"answered_by":null,
                "rung":[],"started_unix_us":1,"answered_unix_us":null,"ended_unix_us":3,"wait_ms":4,"talk_ms":5,
                "ended_by":"callee","status":486,"reason":"","host":"m","caller_codec":"","callee_codec":"",
                "caller_media":null,"callee_media":null"#
            )
        };
        let recorded = r#""kind":"recorded","call":"c1","file":{"host":"m","segment":1,"path":"c1.wav","duration_ms":1,
            "size_bytes":2,"sha256":"s","repaired":false,"problem":""}"#;
        vec![
            record(1, &started("c1")),
            record(2, &started("c2")),
            record(3, &detail("c1")),
            record(4, &detail("c2")),
            record(5, recorded),
        ]
    }

    /// A journal and a store in a directory of their own; the store is told everything.
    fn place(name: &str, write: &[Record]) -> (config::Journal, config::Store) {
        let path = std::env::temp_dir().join(format!("controld-verify-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        let mut text = Vec::new();
        for record in write {
            segment::write_line(&mut text, record);
        }
        std::fs::write(segment::path_of(&path, 0), text).unwrap();
        let store = config::Store {
            path: path.join("store.db"),
        };
        Sqlite::open(&store.path).unwrap().project(&story()).unwrap();
        let journal = config::Journal {
            path,
            ..config::Journal::default()
        };
        (journal, store)
    }

    fn faults(name: &str, write: &[Record]) -> Vec<String> {
        let (journal, store) = place(name, write);
        let report = verify(&journal, &store).unwrap();
        let _ = std::fs::remove_dir_all(&journal.path);
        report.faults
    }

    #[test]
    fn what_agrees_is_in_order_and_what_does_not_is_named() {
        let whole = story();
        assert_eq!(faults("whole", &whole), Vec::<String>::new());
        let without = |index: usize| {
            let mut records = whole.clone();
            records.remove(index);
            records
        };
        assert_eq!(
            faults("detail", &without(3)),
            ["call c2 is in the store, and its detail not in the journal"]
        );
        // The store knows of a file that the journal says nothing of.
        assert_eq!(faults("recording", &without(4)), ["call c1 differs in the store"]);
        let mut twice = whole.clone();
        twice.push(record(6, r#""kind":"call_started","call":"c1","sip_call_id":"x","from":"a","to":"b","queue":null,"host":"m""#));
        assert_eq!(faults("twice", &twice), ["call c1 started twice"]);
    }

    #[test]
    fn a_damaged_line_is_counted() {
        let (journal, store) = place("damaged", &story());
        let path = segment::path_of(&journal.path, 0);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace("c1.wav", "cX.wav")).unwrap();
        let report = verify(&journal, &store).unwrap();
        assert!(
            report.faults[0].contains("1 damaged lines"),
            "{:?}",
            report.faults
        );
        assert!(report.text().ends_with("they do not agree\n"));
        let _ = std::fs::remove_dir_all(&journal.path);
    }
}
