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
        limit: Some(usize::MAX >> 1),
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
