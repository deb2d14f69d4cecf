//! The embedded store: one file, write-ahead log, one writer.

use std::{
    path::Path,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use call_control::{
    Record, RecordKind,
    cdr::{CallDetail, RecordingDetail},
    journal::EndedBy,
};
use rusqlite::{
    Connection, OptionalExtension as _, Transaction, TransactionBehavior, params, params_from_iter,
    types::Value,
};

use super::{AgentSpell, DetailQuery, QueueHour, Store, StoreError, keys};
use crate::limits;

/// Counts up with every change of the tables below.
const SCHEMA: i64 = 3;

const TABLES: &str = "
    CREATE TABLE progress (one INTEGER PRIMARY KEY CHECK (one = 1), record INTEGER NOT NULL);
    INSERT INTO progress VALUES (1, 0);
    CREATE TABLE cdrs (
        record INTEGER PRIMARY KEY, call TEXT NOT NULL UNIQUE,
        started_unix_us INTEGER NOT NULL, answered_unix_us INTEGER, ended_unix_us INTEGER NOT NULL,
        caller TEXT NOT NULL, called TEXT NOT NULL, queue TEXT, answered_by TEXT,
        status INTEGER NOT NULL, wait_ms INTEGER NOT NULL, talk_ms INTEGER NOT NULL,
        detail TEXT NOT NULL);
    CREATE INDEX cdrs_started ON cdrs (started_unix_us);
    CREATE TABLE agent_spells (
        record INTEGER PRIMARY KEY, agent TEXT NOT NULL, state TEXT NOT NULL,
        began_unix_us INTEGER NOT NULL, ended_unix_us INTEGER);
    CREATE INDEX agent_spells_open ON agent_spells (agent) WHERE ended_unix_us IS NULL;
    CREATE INDEX agent_spells_ended ON agent_spells (ended_unix_us);
    CREATE TABLE queue_hours (
        hour_unix INTEGER NOT NULL, queue TEXT NOT NULL, offered INTEGER NOT NULL, answered INTEGER NOT NULL,
        abandoned INTEGER NOT NULL, turned_away INTEGER NOT NULL, waited_ms INTEGER NOT NULL,
        waited_ms_max INTEGER NOT NULL, talked_ms INTEGER NOT NULL, PRIMARY KEY (hour_unix, queue)) WITHOUT ROWID;
";

/// See the module.
#[derive(Debug)]
pub(crate) struct Sqlite {
    connection: Connection,
}

impl Sqlite {
    /// Opens or creates the file.
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        // The projector and whoever reads may come to an empty file at once; changing its mode waits for nobody.
        static OPENING: Mutex<()> = Mutex::new(());
        let _alone = OPENING.lock().unwrap_or_else(PoisonError::into_inner);
        let connection = Connection::open(path)?;
        // A reader in another thread, a back-up, a person with a shell: they wait for each other.
        connection.busy_timeout(Duration::from_secs(2))?;
        connection.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;")?;
        Self::set_up(connection)
    }

    /// One in memory, to compare with.
    pub(crate) fn in_memory() -> Result<Self, StoreError> {
        Self::set_up(Connection::open_in_memory()?)
    }

    fn set_up(mut connection: Connection) -> Result<Self, StoreError> {
        if version(&connection)? < SCHEMA {
            let making = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            // Another process may have found it so too, and have made them by now.
            let found = version(&making)?;
            if found < 1 {
                making.execute_batch(TABLES)?;
            }
            if found < 2 {
                making.execute_batch(keys::TABLE)?;
                keys::fill(&making)?;
            }
            if found < 3 {
                count_again(&making)?;
            }
            making.pragma_update(None, "user_version", SCHEMA)?;
            making.commit()?;
        }
        match version(&connection)? {
            SCHEMA => Ok(Self { connection }),
            found => Err(StoreError::Schema { found, known: SCHEMA }),
        }
    }

    /// Whatever is asked later ends with an error when it takes until then.
    pub(crate) fn give_up_at(&mut self, deadline: Instant) -> Result<(), StoreError> {
        let is_late = move || Instant::now() >= deadline;
        // So many steps of the engine take a tenth of a millisecond or two.
        Ok(self.connection.progress_handler(10_000, Some(is_late))?)
    }

    /// The first and the last record that can tell of what is wanted, by indices alone; `None`: there are none.
    fn range(&self, query: &DetailQuery) -> Result<Option<(i64, i64)>, StoreError> {
        let Some((mut first, mut last)) = self.window(query)? else {
            return Ok(None);
        };
        if let Some(call) = &query.call {
            let Some(record) = self.record_of(call)? else {
                return Ok(None);
            };
            (first, last) = (first.max(record), last.min(record));
        }
        if let Some(before) = query.before {
            last = last.min(before.saturating_sub(1));
        }
        Ok((first <= last).then_some((first, last)))
    }

    /// The same of the time alone: exactly, when few calls were begun in it. With many the newest are not far to seek.
    fn window(&self, query: &DetailQuery) -> Result<Option<(i64, i64)>, StoreError> {
        if (query.since_unix_us, query.until_unix_us) == (None, None) {
            return Ok(Some((i64::MIN, i64::MAX)));
        }
        let mut few = self.connection.prepare_cached(
            "SELECT count(*), min(record), max(record) FROM (SELECT record FROM cdrs INDEXED BY cdrs_started
             WHERE started_unix_us >= ?1 AND started_unix_us < ?2 LIMIT ?3)",
        )?;
        let since = query.since_unix_us.unwrap_or(i64::MIN);
        let until = query.until_unix_us.unwrap_or(i64::MAX);
        let most = limits::STORE_WINDOW;
        let found = few.query_row(params![since, until, most + 1], |row| {
            let (first, last): (Option<i64>, Option<i64>) = (row.get(1)?, row.get(2)?);
            Ok((row.get::<_, i64>(0)?, first.zip(last)))
        })?;
        Ok(match found {
            (count, range) if count <= most => range,
            _ => Some((i64::MIN, i64::MAX)),
        })
    }
}

/// Of the records between two. The small rows are gone through alone; of the others only those that are found are read.
const FIND: &str = "
    SELECT cdrs.detail FROM cdr_keys AS keys CROSS JOIN cdrs ON cdrs.record = keys.record
    WHERE keys.record >= ? AND keys.record <= ?";

fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}

impl Store for Sqlite {
    fn cursor(&mut self) -> Result<u64, StoreError> {
        let record: i64 = self
            .connection
            .query_row("SELECT record FROM progress", [], |row| row.get(0))?;
        Ok(record.cast_unsigned())
    }

    fn project(&mut self, records: &[Record]) -> Result<(), StoreError> {
        let cursor = self.cursor()?;
        let Some(last) = records.iter().map(|record| record.sequence).max() else {
            return Ok(());
        };
        let all = self.connection.transaction()?;
        for record in records {
            if record.sequence > cursor && !record.repeated {
                project_one(&all, record)?;
            }
        }
        all.execute(
            "UPDATE progress SET record = max(record, ?1)",
            [last.cast_signed()],
        )?;
        all.commit()?;
        Ok(())
    }

    fn record_of(&self, call: &str) -> Result<Option<i64>, StoreError> {
        let mut find = self
            .connection
            .prepare_cached("SELECT record FROM cdrs WHERE call = ?1")?;
        Ok(find.query_row([call], |row| row.get(0)).optional()?)
    }

    fn details(&mut self, query: &DetailQuery) -> Result<Vec<CallDetail>, StoreError> {
        let Some((first, last)) = self.range(query)? else {
            return Ok(Vec::new());
        };
        let mut text = FIND.to_owned();
        let mut values: Vec<Value> = vec![first.into(), last.into()];
        let mut narrow = |condition: &str, value: Option<Value>| {
            if let Some(value) = value {
                text += condition;
                values.push(value);
            }
        };
        let (since, until) = (query.since_unix_us, query.until_unix_us);
        narrow(" AND keys.started_unix_us >= ?", since.map(Value::from));
        narrow(" AND keys.started_unix_us < ?", until.map(Value::from));
        narrow(" AND keys.queue = ?", query.queue.clone().map(Value::from));
        let answered_by = query.answered_by.clone();
        narrow(" AND keys.answered_by = ?", answered_by.map(Value::from));
        narrow(" AND keys.status = ?", query.status.map(Value::from));
        let ended_by = query.ended_by.map(|side| keys::ended_by(side).to_owned());
        narrow(" AND keys.ended_by = ?", ended_by.map(Value::from));
        let typed = query.party.as_deref().map(keys::typed);
        let (literal, number) = typed.unzip();
        match number.flatten() {
            None => narrow(" AND instr(keys.parties, ?)", literal.map(Value::from)),
            Some(number) => {
                narrow(" AND (instr(keys.parties, ?)", literal.map(Value::from));
                narrow(" OR instr(keys.parties, ?))", Some(number.into()));
            }
        }
        let limit = i64::try_from(query.limit).unwrap_or(i64::MAX);
        narrow(" ORDER BY keys.record DESC LIMIT ?", Some(limit.into()));
        let mut statement = self.connection.prepare(&text)?;
        let rows = statement.query_map(params_from_iter(values), |row| row.get::<_, String>(0))?;
        let mut details = Vec::new();
        for text in rows {
            details.extend(read_detail(&text?));
        }
        Ok(details)
    }

    fn queue_hours(&mut self, since_unix: i64) -> Result<Vec<QueueHour>, StoreError> {
        let mut statement = self.connection.prepare(
            "SELECT hour_unix, queue, offered, answered, abandoned, turned_away, waited_ms, waited_ms_max, talked_ms
             FROM queue_hours WHERE hour_unix >= ?1 ORDER BY hour_unix, queue",
        )?;
        let rows = statement.query_map([since_unix], |row| {
            Ok(QueueHour {
                hour_unix: row.get(0)?,
                queue: row.get(1)?,
                offered: row.get(2)?,
                answered: row.get(3)?,
                abandoned: row.get(4)?,
                turned_away: row.get(5)?,
                waited_ms: row.get(6)?,
                waited_ms_max: row.get(7)?,
                talked_ms: row.get(8)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    fn agent_spells(&mut self, since_unix_us: i64) -> Result<Vec<AgentSpell>, StoreError> {
        let mut statement = self.connection.prepare(
            "SELECT record, agent, state, began_unix_us, ended_unix_us FROM agent_spells
             WHERE ended_unix_us IS NULL OR ended_unix_us >= ?1 ORDER BY record LIMIT 100000",
        )?;
        let rows = statement.query_map([since_unix_us], |row| {
            Ok(AgentSpell {
                record: row.get(0)?,
                agent: row.get(1)?,
                state: row.get(2)?,
                began_unix_us: row.get(3)?,
                ended_unix_us: row.get(4)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

fn project_one(all: &Transaction<'_>, record: &Record) -> Result<(), StoreError> {
    match &record.kind {
        RecordKind::CallDetail(detail) => {
            take_away(all, &detail.call)?;
            put_detail(all, record.sequence, detail)?;
            count_queue(all, detail, 1)?;
        }
        RecordKind::Recorded { call, file } => put_recording(all, call, file)?,
        RecordKind::AgentState { agent, state, .. } => {
            put_spell(all, record.sequence, record.at_unix_us, agent, state)?;
        }
        _ => {}
    }
    Ok(())
}

/// A row that somebody else has written into is passed over: it is no reason to show, or to take in, no others.
pub(super) fn read_detail(text: &str) -> Option<CallDetail> {
    let read = serde_json::from_str(text);
    if let Err(error) = &read {
        tracing::warn!(%error, text, "a row of the table cdrs cannot be read");
    }
    read.ok()
}

/// After a power cut the journal may have lost a detail that the store had, and hold another: the newer one counts.
fn take_away(all: &Transaction<'_>, call: &str) -> Result<(), StoreError> {
    let Some(text) = stored(all, call)? else {
        return Ok(());
    };
    tracing::warn!(
        call,
        "the journal tells the end of a call again; the newer detail is kept"
    );
    if let Some(detail) = read_detail(&text) {
        count_queue(all, &detail, -1)?;
    }
    all.execute(
        "DELETE FROM cdr_keys WHERE record = (SELECT record FROM cdrs WHERE call = ?1)",
        [call],
    )?;
    all.execute("DELETE FROM cdrs WHERE call = ?1", [call])?;
    Ok(())
}

/// The text of a call's detail.
fn stored(all: &Transaction<'_>, call: &str) -> Result<Option<String>, StoreError> {
    let mut find = all.prepare_cached("SELECT detail FROM cdrs WHERE call = ?1")?;
    Ok(find.query_row([call], |row| row.get(0)).optional()?)
}

fn put_detail(all: &Transaction<'_>, record: u64, detail: &CallDetail) -> Result<(), StoreError> {
    let mut insert = all
        .prepare_cached("INSERT INTO cdrs VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)")?;
    insert.execute(params![
        record.cast_signed(),
        detail.call,
        detail.started_unix_us.cast_signed(),
        detail.answered_unix_us.map(u64::cast_signed),
        detail.ended_unix_us.cast_signed(),
        detail.from,
        detail.to,
        detail.queue,
        detail.answered_by,
        detail.status,
        detail.wait_ms.cast_signed(),
        detail.talk_ms.cast_signed(),
        serde_json::to_string(detail)?,
    ])?;
    keys::put(all, record.cast_signed(), detail)
}

/// A recording that was finished after its call was told of; otherwise the call's detail holds it when it comes.
fn put_recording(all: &Transaction<'_>, call: &str, file: &RecordingDetail) -> Result<(), StoreError> {
    let detail = stored(all, call)?.and_then(|text| read_detail(&text));
    let Some(mut detail) = detail else {
        return Ok(());
    };
    detail.take_recording(file.clone());
    all.execute(
        "UPDATE cdrs SET detail = ?2 WHERE call = ?1",
        params![call, serde_json::to_string(&detail)?],
    )?;
    Ok(())
}

/// `times`: 1, or -1 to take back what was counted, but for the longest wait.
fn count_queue(all: &Transaction<'_>, detail: &CallDetail, times: i64) -> Result<(), StoreError> {
    let Some(queue) = &detail.queue else {
        return Ok(());
    };
    let began = detail.started_unix_us / 1_000_000;
    let hour = (began - began % 3_600).cast_signed();
    // Who was in it last, brought there by an agent, may be nobody of ours.
    let answered = detail.answered_unix_us.is_some();
    let abandoned = !answered && detail.ended_by == EndedBy::Caller;
    let waited = if answered { detail.wait_ms.cast_signed() } else { 0 };
    let mut count = all.prepare_cached(
        "INSERT INTO queue_hours VALUES (?1, ?2, ?8, ?3, ?4, ?5, ?6, ?6, ?7)
         ON CONFLICT (hour_unix, queue) DO UPDATE SET
            offered = offered + excluded.offered, answered = answered + excluded.answered,
            abandoned = abandoned + excluded.abandoned, turned_away = turned_away + excluded.turned_away,
            waited_ms = waited_ms + excluded.waited_ms,
            waited_ms_max = max(waited_ms_max, excluded.waited_ms_max), talked_ms = talked_ms + excluded.talked_ms",
    )?;
    count.execute(params![
        hour,
        queue,
        times * i64::from(answered),
        times * i64::from(abandoned),
        times * i64::from(!answered && !abandoned),
        times * waited,
        times * detail.talk_ms.cast_signed(),
        times,
    ])?;
    Ok(())
}

/// Versions before counted who was transferred to a number outside as not answered. Hours whose details somebody has
/// removed since stay as they were counted.
fn count_again(all: &Transaction<'_>) -> Result<(), StoreError> {
    all.execute(
        "DELETE FROM queue_hours WHERE (hour_unix + 3600) * 1000000 > (SELECT min(started_unix_us) FROM cdrs)",
        [],
    )?;
    let mut details = all.prepare("SELECT detail FROM cdrs WHERE queue IS NOT NULL")?;
    let mut rows = details.query([])?;
    while let Some(row) = rows.next()? {
        let text: String = row.get(0)?;
        if let Some(detail) = read_detail(&text) {
            count_queue(all, &detail, 1)?;
        }
    }
    Ok(())
}

/// A state begins and with it the one before ends; the same state again changes nothing.
fn put_spell(
    all: &Transaction<'_>,
    record: u64,
    at_unix_us: u64,
    agent: &str,
    state: &str,
) -> Result<(), StoreError> {
    let open: Option<(i64, String)> = all
        .prepare_cached("SELECT record, state FROM agent_spells WHERE agent = ?1 AND ended_unix_us IS NULL")?
        .query_row([agent], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    if open.as_ref().is_some_and(|(_, lasting)| lasting == state) {
        return Ok(());
    }
    if let Some((open, _)) = open {
        all.prepare_cached("UPDATE agent_spells SET ended_unix_us = ?2 WHERE record = ?1")?
            .execute(params![open, at_unix_us.cast_signed()])?;
    }
    all.prepare_cached("INSERT INTO agent_spells VALUES (?1, ?2, ?3, ?4, NULL)")?
        .execute(params![
            record.cast_signed(),
            agent,
            state,
            at_unix_us.cast_signed()
        ])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detail(call: &str, answered_by: Option<&str>, ended_by: &str) -> RecordKind {
        let answered = answered_by.map_or("null".to_owned(), |who| format!("\"{who}\""));
        let answered_at = answered_by.map_or("null", |_| "7304000000");
        let text = format!(
            r#"{{"call":"{call}","sip_call_id":"x","from":"sip:a@h","to":"sip:support@h","queue":"support",
            "answered_by":{answered},"rung":[],"started_unix_us":7300000000,"answered_unix_us":{answered_at},
            "ended_unix_us":7310000000,"wait_ms":4000,"talk_ms":500,"ended_by":"{ended_by}","status":200,"reason":"",
            "host":"a","caller_codec":"","callee_codec":"","caller_media":null,"callee_media":null}}"#
        );
        RecordKind::CallDetail(serde_json::from_str(&text).unwrap())
    }

    fn all() -> DetailQuery {
        DetailQuery {
            limit: usize::MAX,
            ..DetailQuery::default()
        }
    }

    fn state(agent: &str, state: &str) -> RecordKind {
        serde_json::from_value(serde_json::json!({"kind": "agent_state", "agent": agent, "state": state}))
            .unwrap()
    }

    fn numbered(kinds: Vec<RecordKind>) -> Vec<Record> {
        let record = |(index, kind)| Record {
            sequence: index as u64 + 1,
            at_unix_us: (index as u64 + 1) * 10,
            repeated: false,
            kind,
        };
        kinds.into_iter().enumerate().map(record).collect()
    }

    /// Kinds that are named as projected, and no others, change anything.
    #[test]
    fn what_is_projected_is_named() {
        let segment = RecordKind::Segment { standing: 0 };
        for kind in [segment, state("alice", "ready"), detail("c1", None, "caller")] {
            let text = serde_json::to_value(&kind).unwrap();
            let mut store = Sqlite::in_memory().unwrap();
            store.project(&numbered(vec![kind])).unwrap();
            let spells = store.agent_spells(0).unwrap().len();
            let has_changed = spells + store.details(&all()).unwrap().len() > 0;
            assert_eq!(
                has_changed,
                super::super::PROJECTED.contains(&text["kind"].as_str().unwrap())
            );
        }
    }

    fn story() -> Vec<Record> {
        numbered(vec![
            state("alice", "ready"),
            state("alice", "talking"),
            detail("c1", Some("alice"), "callee"),
            state("alice", "talking"),
            detail("c2", None, "caller"),
            detail("c3", None, "system"),
            state("alice", "ready"),
        ])
    }

    /// Whatever is given again, in whatever pieces, each record counts once.
    #[test]
    fn every_record_counts_exactly_once() {
        let records = story();
        for cut in 0..=records.len() {
            let mut store = Sqlite::in_memory().unwrap();
            store.project(&records[..cut]).unwrap();
            // As after a restart that does not know what was done.
            store.project(&records).unwrap();
            store.project(&records).unwrap();
            assert_eq!(store.cursor().unwrap(), 7);
            let calls: Vec<String> = store
                .details(&all())
                .unwrap()
                .into_iter()
                .map(|detail| detail.call)
                .collect();
            assert_eq!(calls, ["c3", "c2", "c1"], "newest first");
            let expected = QueueHour {
                hour_unix: 7_200,
                queue: "support".into(),
                offered: 3,
                answered: 1,
                abandoned: 1,
                turned_away: 1,
                waited_ms: 4_000,
                waited_ms_max: 4_000,
                talked_ms: 1_500,
            };
            assert_eq!(store.queue_hours(0).unwrap(), [expected]);
            let spells: Vec<(String, i64, Option<i64>)> = store
                .agent_spells(0)
                .unwrap()
                .into_iter()
                .map(|spell| (spell.state, spell.began_unix_us, spell.ended_unix_us))
                .collect();
            let expected = [
                ("ready".to_owned(), 10, Some(20)),
                ("talking".to_owned(), 20, Some(70)),
                ("ready".to_owned(), 70, None),
            ];
            assert_eq!(spells, expected);
        }
    }

    #[test]
    fn a_recording_that_comes_late_is_added_once() {
        let recorded = |path: &str| RecordKind::Recorded {
            call: "c1".into(),
            file: RecordingDetail {
                segment: 1,
                path: path.into(),
                ..RecordingDetail::default()
            },
        };
        let mut kinds: Vec<RecordKind> = story().into_iter().map(|record| record.kind).collect();
        // Of a call that nobody has heard of yet: its detail will tell.
        kinds.insert(0, recorded("early.wav"));
        kinds.extend([recorded(""), recorded("c1.wav")]);
        let records = numbered(kinds);
        for cut in 0..=records.len() {
            let mut store = Sqlite::in_memory().unwrap();
            store.project(&records[..cut]).unwrap();
            store.project(&records).unwrap();
            let details = store.details(&DetailQuery::of("c1")).unwrap();
            let paths: Vec<&str> = details[0]
                .recordings
                .iter()
                .map(|file| file.path.as_str())
                .collect();
            assert_eq!(paths, ["c1.wav"], "cut at {cut}");
        }
    }

    #[test]
    fn a_batch_is_projected_whole_or_not_at_all() {
        let mut store = Sqlite::in_memory().unwrap();
        // As when the disk is full in its middle.
        let full = "CREATE TRIGGER full BEFORE INSERT ON cdrs WHEN new.call = 'c3' BEGIN SELECT RAISE(ABORT, 'full'); END";
        store.connection.execute_batch(full).unwrap();
        assert!(store.project(&story()).is_err());
        assert_eq!(store.cursor().unwrap(), 0);
        assert_eq!(store.details(&all()).unwrap().len(), 0);
        store.connection.execute_batch("DROP TRIGGER full").unwrap();
        store.project(&story()).unwrap();
        assert_eq!(store.details(&all()).unwrap().len(), 3);
    }

    /// Should nothing be taken in any more for that, nobody would have details until somebody repairs the table.
    #[test]
    fn what_a_journal_lost_and_tells_in_another_way_is_kept_as_it_tells_it() {
        let mut store = Sqlite::in_memory().unwrap();
        store.project(&story()).unwrap();
        let before = store.queue_hours(0).unwrap();
        let again = Record {
            sequence: 8,
            at_unix_us: 80,
            repeated: false,
            kind: detail("c2", None, "system"),
        };
        store.project(&[again]).unwrap();
        let details = store.details(&all()).unwrap();
        let ends: Vec<(&str, EndedBy)> = details
            .iter()
            .map(|detail| (detail.call.as_str(), detail.ended_by))
            .collect();
        let expected = [
            ("c2", EndedBy::System),
            ("c3", EndedBy::System),
            ("c1", EndedBy::Callee),
        ];
        assert_eq!(ends, expected);
        let expected = QueueHour {
            abandoned: 0,
            turned_away: 2,
            ..before[0].clone()
        };
        assert_eq!(store.queue_hours(0).unwrap(), [expected]);
    }

    #[test]
    fn a_row_that_cannot_be_read_keeps_no_others_away() {
        let mut store = Sqlite::in_memory().unwrap();
        store.project(&story()).unwrap();
        let spoil = "UPDATE cdrs SET detail = '{' WHERE call = 'c2'";
        store.connection.execute_batch(spoil).unwrap();
        assert_eq!(store.details(&all()).unwrap().len(), 2);
        let recorded = RecordKind::Recorded {
            call: "c2".into(),
            file: RecordingDetail::default(),
        };
        let late = Record {
            sequence: 8,
            at_unix_us: 80,
            repeated: false,
            kind: recorded,
        };
        store.project(&[late]).unwrap();
        assert_eq!(store.cursor().unwrap(), 8);
    }

    #[test]
    fn details_are_found_by_what_they_say() {
        let mut store = Sqlite::in_memory().unwrap();
        store.project(&story()).unwrap();
        let mut found = |narrow: fn(&mut DetailQuery)| {
            let mut query = all();
            narrow(&mut query);
            store.details(&query).unwrap().len()
        };
        assert_eq!(found(|query| query.queue = Some("support".into())), 3);
        assert_eq!(found(|query| query.queue = Some("sales".into())), 0);
        assert_eq!(found(|query| query.answered_by = Some("alice".into())), 1);
        assert_eq!(found(|query| query.call = Some("c2".into())), 1);
        assert_eq!(found(|query| query.call = Some("c4".into())), 0);
        assert_eq!(found(|query| query.since_unix_us = Some(7_300_000_000)), 3);
        assert_eq!(found(|query| query.since_unix_us = Some(7_300_000_001)), 0);
        assert_eq!(found(|query| query.until_unix_us = Some(7_300_000_000)), 0);
        assert_eq!(found(|query| query.until_unix_us = Some(7_300_000_001)), 3);
        assert_eq!(found(|query| query.status = Some(200)), 3);
        assert_eq!(found(|query| query.status = Some(486)), 0);
        assert_eq!(found(|query| query.ended_by = Some(EndedBy::System)), 1);
        assert_eq!(found(|query| query.limit = 2), 2);
    }

    /// Who was in it last, whom the agent brought there, may be no user of ours.
    #[test]
    fn a_caller_whom_an_agent_transferred_outside_was_answered() {
        let RecordKind::CallDetail(mut told) = detail("c1", None, "caller") else {
            unreachable!()
        };
        told.answered_unix_us = Some(7_304_000_000);
        let mut store = Sqlite::in_memory().unwrap();
        store
            .project(&numbered(vec![RecordKind::CallDetail(told)]))
            .unwrap();
        let hours = store.queue_hours(0).unwrap();
        let ends = |hour: &QueueHour| (hour.answered, hour.abandoned, hour.turned_away, hour.waited_ms);
        assert_eq!(ends(&hours[0]), (1, 0, 0, 4_000));
    }

    fn found(store: &mut Sqlite, query: &DetailQuery) -> Vec<String> {
        let found = store.details(query).unwrap();
        found.into_iter().map(|detail| detail.call).collect()
    }

    /// Calls begun a minute after each other: caller, called, who answered, and who was in it later.
    fn with_parties(calls: &[(&str, &str, Option<&str>, &[&str])]) -> Sqlite {
        let told = calls.iter().enumerate().map(|(at, (from, to, who, legs))| {
            let RecordKind::CallDetail(mut told) = detail(&format!("c{at}"), *who, "caller") else {
                unreachable!()
            };
            (told.from, told.to, told.queue) = ((*from).into(), (*to).into(), None);
            told.started_unix_us = at as u64 * 60_000_000;
            let leg = |user: &&str| {
                let text = format!(
                    r#"{{"called":true,"address":"sip:x@h","user":"{user}","joined_unix_us":1,"left_unix_us":2,
                    "codec":"","media":null}}"#
                );
                serde_json::from_str(&text).unwrap()
            };
            told.legs = legs.iter().map(leg).collect();
            RecordKind::CallDetail(told)
        });
        let mut store = Sqlite::in_memory().unwrap();
        store.project(&numbered(told.collect())).unwrap();
        store
    }

    #[test]
    fn parties_are_found_as_people_type_them() {
        let mut store = with_parties(&[
            (
                "sip:+4930123456@carrier",
                "sip:Support@h",
                Some("alice"),
                &["bob"],
            ),
            ("sip:carol@h", "tel:+4989777", None, &[]),
            ("sip:100%25_off@h", "sip:ÄRGER@h", Some("dave"), &[]),
        ]);
        for (typed, expected) in [
            ("SUPPORT", &["c0"][..]),
            ("alice", &["c0"]),
            // Whom she transferred it to.
            ("Bob", &["c0"]),
            ("+49 (30) 12-34", &["c0"]),
            ("4989", &["c1"]),
            ("carol@", &["c1"]),
            // No wildcards, and nothing that ends the text.
            ("%", &["c2"]),
            ("_", &["c2"]),
            ("a%e", &[]),
            ("*", &[]),
            ("'", &[]),
            ("\"", &[]),
            ("ärger", &["c2"]),
            // Not in every address, and no match from one party to the next.
            ("sip:", &[]),
            ("hsupport", &[]),
            ("@h", &["c2", "c1", "c0"]),
        ] {
            let party = Some(typed.to_owned());
            let query = DetailQuery { party, ..all() };
            assert_eq!(found(&mut store, &query), expected, "{typed}");
        }
    }

    #[test]
    fn older_ones_come_page_by_page() {
        let mut store = with_parties(&[("sip:a@h", "sip:b@h", Some("b"), &[][..]); 7]);
        let narrow = DetailQuery {
            limit: 2,
            party: Some("a@".into()),
            since_unix_us: Some(60_000_000),
            until_unix_us: Some(360_000_000),
            ..all()
        };
        let (mut pages, mut before) = (Vec::new(), None);
        loop {
            let page = found(
                &mut store,
                &DetailQuery {
                    before,
                    ..narrow.clone()
                },
            );
            let Some(last) = page.last() else { break };
            before = store.record_of(last).unwrap();
            pages.push(page.join(" "));
        }
        assert_eq!(pages, ["c5 c4", "c3 c2", "c1"]);
        assert_eq!(store.record_of("c7").unwrap(), None);
    }

    /// As when somebody looks for a name that is nowhere through years of calls.
    #[test]
    fn who_asks_for_too_much_is_told_in_time() {
        let mut store = with_parties(&[("sip:a@h", "sip:b@h", None, &[])]);
        let many = "WITH RECURSIVE n(i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < 50000)
            INSERT INTO cdr_keys SELECT i, 0, NULL, NULL, 200, '', 'nobody' FROM n";
        store.connection.execute_batch(many).unwrap();
        let query = DetailQuery {
            party: Some("somebody".into()),
            ..all()
        };
        assert_eq!(found(&mut store, &query), [""; 0]);
        store.give_up_at(Instant::now()).unwrap();
        let error = store.details(&query).unwrap_err();
        assert!(error.is_of_time(), "{error}");
    }

    /// The keys are made of the details that were there before them, and the hours are counted again.
    #[test]
    fn a_database_of_the_version_before_is_taken_over() {
        let path = std::env::temp_dir().join(format!("controld-before-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let mut store = Sqlite::open(&path).unwrap();
        store.project(&story()).unwrap();
        let back = "DROP TABLE cdr_keys; PRAGMA user_version = 1; UPDATE queue_hours SET answered = 0, abandoned = 2;
            INSERT INTO queue_hours VALUES (0, 'support', 7, 7, 0, 0, 0, 0, 0);
            UPDATE cdrs SET detail = '{' WHERE call = 'c2'";
        store.connection.execute_batch(back).unwrap();
        drop(store);
        let mut store = Sqlite::open(&path).unwrap();
        let query = DetailQuery {
            party: Some("support".into()),
            ..all()
        };
        assert_eq!(found(&mut store, &query), ["c3", "c1"]);
        let hours = store.queue_hours(0).unwrap();
        let counts = hours
            .iter()
            .map(|hour| (hour.hour_unix, hour.offered, hour.answered, hour.abandoned));
        let of_no_detail = (0, 7, 7, 0);
        assert_eq!(counts.collect::<Vec<_>>(), [of_no_detail, (7_200, 2, 1, 0)]);
        drop(store);
        for ending in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{}{ending}", path.display()));
        }
    }

    /// The projector and whoever reads first over HTTP.
    #[test]
    fn who_opens_an_empty_file_at_once_with_another_finds_the_tables() {
        for round in 0..20 {
            let path = std::env::temp_dir().join(format!("controld-empty-{}-{round}", std::process::id()));
            let _ = std::fs::remove_file(&path);
            let opened: Vec<_> = (0..4)
                .map(|_| {
                    let path = path.clone();
                    std::thread::spawn(move || Sqlite::open(&path).and_then(|mut store| store.cursor()))
                })
                .collect();
            for one in opened {
                assert_eq!(one.join().unwrap().unwrap(), 0);
            }
            for ending in ["", "-wal", "-shm"] {
                let _ = std::fs::remove_file(format!("{}{ending}", path.display()));
            }
        }
    }

    #[test]
    fn a_newer_schema_is_left_alone() {
        let path = std::env::temp_dir().join(format!("controld-schema-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        drop(Sqlite::open(&path).unwrap());
        let connection = Connection::open(&path).unwrap();
        connection
            .pragma_update(None, "user_version", SCHEMA + 1)
            .unwrap();
        let refused = Sqlite::open(&path).unwrap_err().to_string();
        assert!(refused.contains("use the controld that wrote it"), "{refused}");
        let _ = std::fs::remove_file(&path);
    }
}
