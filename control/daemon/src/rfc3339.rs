//! Times as people and programs write them: `2026-11-30T14:05:00+01:00` (RFC 3339).

use sip::header::days_from_civil;

/// Microseconds since the Unix epoch; `None`: not a time of this form. A leap second is the one after it, finer fractions
/// are left out, and a blank where `+` belongs is one that a query string made of it.
pub(crate) fn parse(text: &str) -> Option<i64> {
    let (date, rest) = text.split_at_checked(10)?;
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let rest = rest.strip_prefix(['T', 't', ' '])?;
    let (clock, rest) = rest.split_at_checked(8)?;
    let [hour, minute, second] = numbers(clock, ':', [2, 2, 2])?;
    let (micros, zone) = fraction(rest)?;
    let ahead = offset(zone)?;
    let is_day = (1..=12).contains(&month) && (1..=days_of(year, month)).contains(&day);
    if !is_day || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let seconds = days_from_civil(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second;
    Some((seconds - ahead) * 1_000_000 + micros)
}

fn days_of(year: i64, month: i64) -> i64 {
    let (next_year, next) = if month == 12 {
        (year + 1, 1)
    } else {
        (year, month + 1)
    };
    days_from_civil(next_year, next, 1) - days_from_civil(year, month, 1)
}

/// Numbers of so many digits each.
fn numbers<const N: usize>(text: &str, between: char, digits: [usize; N]) -> Option<[i64; N]> {
    let mut parts = text.split(between);
    let mut all = [0; N];
    for (number, digits) in all.iter_mut().zip(digits) {
        let part = parts.next()?;
        let is_number = part.len() == digits && part.bytes().all(|byte| byte.is_ascii_digit());
        *number = part.parse().ok().filter(|_| is_number)?;
    }
    parts.next().is_none().then_some(all)
}

/// Microseconds, and what comes behind them.
fn fraction(text: &str) -> Option<(i64, &str)> {
    let Some(text) = text.strip_prefix('.') else {
        return Some((0, text));
    };
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (fraction, rest) = text.split_at(digits);
    let padded: String = fraction.chars().chain("000000".chars()).take(6).collect();
    padded
        .parse()
        .ok()
        .filter(|_| digits > 0)
        .map(|micros| (micros, rest))
}

/// How many seconds the zone is ahead of UTC.
fn offset(zone: &str) -> Option<i64> {
    if zone.eq_ignore_ascii_case("z") {
        return Some(0);
    }
    let (sign, text) = zone.split_at_checked(1)?;
    let [hours, minutes] = numbers(text, ':', [2, 2])?;
    if hours > 23 || minutes > 59 {
        return None;
    }
    let seconds = hours * 3_600 + minutes * 60;
    match sign {
        "+" | " " => Some(seconds),
        "-" => Some(-seconds),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        let second = 1_000_000;
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2010-11-13T23:29:00Z", 1_289_690_940),
            ("2010-11-14t00:29:00+01:00", 1_289_690_940),
            ("2010-11-13 18:59:00-04:30", 1_289_690_940),
            ("2010-11-14T00:29:00 01:00", 1_289_690_940),
            ("2024-02-29T00:00:00Z", 1_709_164_800),
            ("2016-12-31T23:59:60Z", 1_483_228_800),
        ] {
            assert_eq!(parse(text), Some(seconds * second), "{text}");
        }
        assert_eq!(parse("1970-01-01T00:00:01.5Z"), Some(1_500_000));
        assert_eq!(parse("1970-01-01T00:00:00.1234567Z"), Some(123_456));
    }

    #[test]
    fn what_is_none_is_told() {
        for text in [
            "",
            "yesterday",
            "2026-11-30",
            "2026-11-30T14:05",
            "2026-11-30T14:05:00",
            "2026-02-29T14:05:00Z",
            "2026-13-01T14:05:00Z",
            "2026-11-31T14:05:00Z",
            "2026-11-30T24:05:00Z",
            "2026-11-30T14:60:00Z",
            "2026-11-30T14:05:00.Z",
            "2026-11-30T14:05:00+1:00",
            "2026-11-30T14:05:00+01:00 ",
            "2026-11-30T14:05:00ä01:00",
            "+026-11-30T14:05:00Z",
            "2026-11-3ä0T14:05:00Z",
            "9999999999999999999",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
