//! One line for each thing that happens, with a time that sorts: `2026-11-21T10:11:28.123456Z INFO alice: …`.

use std::{
    io::Write as _,
    time::{SystemTime, UNIX_EPOCH},
};

/// Where a phone tells what happens: standard output.
#[derive(Debug, Clone)]
pub struct Log {
    name: String,
    /// SIP messages too.
    verbose: bool,
}

/// Begins a line that holds a result as JSON.
pub const RESULT: &str = "RESULT ";

impl Log {
    /// A log that begins each line with `name`.
    pub fn new(name: &str, verbose: bool) -> Self {
        Self {
            name: name.to_owned(),
            verbose,
        }
    }

    /// Something a person wants to know.
    pub fn info(&self, text: impl AsRef<str>) {
        self.line(" INFO", text.as_ref());
    }

    /// A SIP message, `rx` or `tx`: its first line, call and number; never credentials.
    pub fn sip(&self, direction: &str, peer: impl std::fmt::Display, message: &[u8]) {
        if self.verbose {
            let (start, call_id, cseq) = outline(message);
            self.line(
                "DEBUG",
                &format!("sip {direction} {peer} {start} call_id={call_id} cseq=\"{cseq}\""),
            );
        }
    }

    fn line(&self, level: &str, text: &str) {
        let mut out = std::io::stdout().lock();
        // Nobody reading is no fault.
        let _ = writeln!(
            out,
            "{} {level} {}: {text}",
            timestamp(SystemTime::now()),
            self.name
        );
        let _ = out.flush();
    }
}

/// First line, Call-ID and CSeq.
fn outline(message: &[u8]) -> (String, String, String) {
    let text = String::from_utf8_lossy(message);
    let mut lines = text.lines();
    let start = lines.next().unwrap_or_default().trim();
    let start = start.strip_suffix(" SIP/2.0").unwrap_or(start);
    let start = start.strip_prefix("SIP/2.0 ").unwrap_or(start).to_owned();
    let headers: Vec<&str> = lines.take_while(|line| !line.is_empty()).collect();
    let value = |name: &str| {
        let of = |line: &&str| {
            line.split_once(':')
                .map(|(n, v)| (n.trim().to_owned(), v.trim().to_owned()))
        };
        let found = headers
            .iter()
            .filter_map(of)
            .find(|(n, _)| n.eq_ignore_ascii_case(name));
        found.map_or_else(String::new, |(_, value)| value)
    };
    (start, value("call-id"), value("cseq"))
}

/// UTC to the microsecond, as RFC 3339 writes it.
pub fn timestamp(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    // Days to a date in the Gregorian calendar, years beginning in March (Howard Hinnant, "chrono-compatible low-level
    // date algorithms").
    let shifted = days + 719_468;
    let (era, day) = (shifted / 146_097, shifted % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (date, month) = (
        day - (153 * month + 2) / 5 + 1,
        if month < 10 { month + 3 } else { month - 9 },
    );
    let year = year + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    let micros = since.subsec_micros();
    format!("{year:04}-{month:02}-{date:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn times_are_dates() {
        let at = |seconds: u64| timestamp(UNIX_EPOCH + Duration::from_micros(seconds * 1_000_000 + 7));
        assert_eq!(at(0), "1970-01-01T00:00:00.000007Z");
        // The 29th of February 2024, and the day after.
        assert_eq!(at(1_709_164_800), "2024-02-29T00:00:00.000007Z");
        assert_eq!(at(1_709_251_199), "2024-02-29T23:59:59.000007Z");
        assert_eq!(at(1_709_251_200), "2024-03-01T00:00:00.000007Z");
        assert_eq!(at(1_795_255_888), "2026-11-21T10:11:28.000007Z");
    }

    #[test]
    fn an_outline_names_the_call() {
        let (start, call_id, cseq) =
            outline(b"SIP/2.0 200 OK\r\nCall-ID: a@b\r\nCSeq: 2 BYE\r\n\r\nCSeq: 3 X\r\n");
        assert_eq!(
            (start.as_str(), call_id.as_str(), cseq.as_str()),
            ("200 OK", "a@b", "2 BYE")
        );
    }
}
