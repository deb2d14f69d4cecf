//! Date (RFC 3261 §20.17): `Sat, 13 Nov 2010 23:29:00 GMT`.

use super::{Problem, scan};

const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// Unix seconds of a Date value.
pub(super) fn parse(value: &[u8]) -> Result<i64, Problem> {
    let malformed: Problem = "not of the form Sat, 13 Nov 2010 23:29:00 GMT";
    let mut words = value
        .split(|&byte| scan::is_space(byte))
        .filter(|word| !word.is_empty());
    let mut word = || words.next().ok_or(malformed);
    let (_weekday, day, month, year, time, zone) = (word()?, word()?, word()?, word()?, word()?, word()?);
    // RFC 4475 §3.1.2.13: a zone other than GMT is malformed, not an offset to apply.
    if zone != b"GMT" {
        return Err("zone is not GMT");
    }
    let number = |text: &[u8], min: i64, max: i64| {
        let value = scan::decimal_u32(text).map(i64::from);
        value.filter(|value| (min..=max).contains(value)).ok_or(malformed)
    };
    let month = MONTHS
        .iter()
        .position(|name| name.as_bytes() == month)
        .ok_or(malformed)? as i64
        + 1;
    let (day, year) = (number(day, 1, 31)?, number(year, 1970, 9999)?);
    let mut clock = time.split(|&byte| byte == b':');
    let mut part = |max| number(clock.next().unwrap_or_default(), 0, max);
    let (hour, minute, second) = (part(23)?, part(59)?, part(60)?);
    if clock.next().is_some() {
        return Err(malformed);
    }
    Ok(days_from_civil(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second)
}

/// The text of a Date header for a time in Unix seconds (0 or later).
pub fn format_date(unix_seconds: i64) -> String {
    let days = unix_seconds.div_euclid(86_400);
    let rest = unix_seconds.rem_euclid(86_400);
    let (year, month, day) = civil_from_days(days);
    let weekday = DAYS[days.rem_euclid(7) as usize];
    let name = MONTHS[(month - 1) as usize];
    let (hour, minute, second) = (rest / 3_600, rest / 60 % 60, rest % 60);
    format!("{weekday}, {day:02} {name} {year} {hour:02}:{minute:02}:{second:02} GMT")
}

/// Days since 1970-01-01 in the proleptic Gregorian calendar; month and day count from 1.
pub fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    // Counted in years that start in March, so that the leap day comes last.
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_read_and_written() {
        assert_eq!(parse(b"Sat, 13 Nov 2010 23:29:00 GMT"), Ok(1_289_690_940));
        assert_eq!(format_date(1_289_690_940), "Sat, 13 Nov 2010 23:29:00 GMT");
        assert_eq!(format_date(0), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(parse(b"Fri, 01 Jan 2010 16:00:00 EST"), Err("zone is not GMT"));
        for bad in [
            "",
            "Fri, 32 Jan 2010 16:00:00 GMT",
            "Fri, 01 Foo 2010 16:00:00 GMT",
            "1 2 3 4 5:6 GMT",
        ] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad}");
        }
        for seconds in (0..4_000_000_000i64).step_by(86_400 * 13 + 7) {
            assert_eq!(parse(format_date(seconds).as_bytes()), Ok(seconds));
        }
    }
}
