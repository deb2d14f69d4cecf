//! What call details are looked for by: a table beside them, of rows so small that looking through a million of them
//! takes a moment. Details themselves fill half a page each.

use call_control::{cdr::CallDetail, journal::EndedBy};
use rusqlite::{Transaction, params};

use super::StoreError;

pub(super) const TABLE: &str = "
    CREATE TABLE cdr_keys (
        record INTEGER PRIMARY KEY, started_unix_us INTEGER NOT NULL, queue TEXT, answered_by TEXT,
        status INTEGER NOT NULL, ended_by TEXT NOT NULL, parties TEXT NOT NULL);
";

pub(super) fn put(all: &Transaction<'_>, record: i64, detail: &CallDetail) -> Result<(), StoreError> {
    let mut insert = all.prepare_cached("INSERT INTO cdr_keys VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?;
    insert.execute(params![
        record,
        detail.started_unix_us.cast_signed(),
        detail.queue,
        detail.answered_by,
        detail.status,
        ended_by(detail.ended_by),
        parties(detail),
    ])?;
    Ok(())
}

/// Before this table there were details only.
pub(super) fn fill(all: &Transaction<'_>) -> Result<(), StoreError> {
    let mut details = all.prepare("SELECT record, detail FROM cdrs ORDER BY record")?;
    let mut rows = details.query([])?;
    while let Some(row) = rows.next()? {
        let text: String = row.get(1)?;
        if let Some(detail) = super::sqlite::read_detail(&text) {
            put(all, row.get(0)?, &detail)?;
        }
    }
    Ok(())
}

/// As the detail has it.
pub(crate) fn ended_by(side: EndedBy) -> &'static str {
    match side {
        EndedBy::Caller => "caller",
        EndedBy::Callee => "callee",
        EndedBy::System => "system",
    }
}

/// Everybody who was in the call, and where it went, one a line and in small letters: addresses without their scheme.
fn parties(detail: &CallDetail) -> String {
    let ends = [Some(&detail.from), Some(&detail.to), detail.queue.as_ref()];
    let served = [detail.room.as_ref(), detail.answered_by.as_ref()];
    let legs = detail.legs.iter();
    let legs = legs.flat_map(|leg| [Some(&leg.address), leg.user.as_ref()]);
    let mut lines: Vec<String> = Vec::new();
    for name in ends.into_iter().chain(served).chain(legs).flatten() {
        let name = fold(without_scheme(name));
        if !lines.contains(&name) {
            lines.push(name);
        }
    }
    lines.join("\n")
}

fn without_scheme(address: &str) -> &str {
    let scheme = ["sip:", "sips:", "tel:"].into_iter();
    let mut stripped = scheme.filter_map(|scheme| address.strip_prefix(scheme));
    stripped.next().unwrap_or(address)
}

/// As it is compared: large and small letters are the same.
fn fold(text: &str) -> String {
    text.to_lowercase()
}

/// What somebody typed, as it may stand among the parties: literally, and a number that has something between its digits,
/// as people write them, also without that.
pub(super) fn typed(text: &str) -> (String, Option<String>) {
    let literal = fold(text.trim());
    let separates = |letter: char| matches!(letter, ' ' | '-' | '/' | '(' | ')');
    let is_number = literal
        .chars()
        .all(|letter| letter.is_ascii_digit() || letter == '+' || separates(letter))
        && literal.chars().any(|letter| letter.is_ascii_digit());
    let number = is_number.then(|| literal.replace(separates, ""));
    let number = number.filter(|number| *number != literal);
    (literal, number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_found_however_it_is_written() {
        let typed = |text| typed(text).1;
        assert_eq!(typed(" +49 (30) 12-34/5 ").as_deref(), Some("+493012345"));
        for other in [" +493012345 ", "127.0.0.1", "Ärger-Hotline 1", "--"] {
            assert_eq!(typed(other), None, "{other}");
        }
    }

    #[test]
    fn addresses_are_looked_through_without_their_scheme() {
        let stripped = ["sip:a@h", "sips:a@h", "tel:+49", "sipper@h"].map(without_scheme);
        assert_eq!(stripped, ["a@h", "a@h", "+49", "sipper@h"]);
    }
}
