//! Telephone numbers: patterns and rewriting.

use serde::Deserialize;

/// What may stand at one place of a number.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    /// This character.
    One(char),
    /// Any of these.
    Of(Vec<(char, char)>),
    /// One or more characters, whatever they are; only at the end.
    Rest,
    /// None or more; only at the end.
    MayBeRest,
}

/// A pattern of numbers: `X` is a digit, `Z` one of 1-9, `N` one of 2-9, `[2-47]` one of a set, `.` at the end one
/// or more characters, `!` at the end none or more; every other character stands for itself.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Pattern {
    text: String,
    places: Vec<Place>,
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = |problem: &str| format!("pattern {text:?}: {problem}");
        if text.is_empty() {
            return Err(wrong("is empty; write a number, or ! for all"));
        }
        let mut places = Vec::new();
        let mut chars = text.chars();
        while let Some(one) = chars.next() {
            if matches!(places.last(), Some(Place::Rest | Place::MayBeRest)) {
                return Err(wrong("nothing can follow . or !; move it to the end"));
            }
            places.push(match one {
                'X' => Place::Of(vec![('0', '9')]),
                'Z' => Place::Of(vec![('1', '9')]),
                'N' => Place::Of(vec![('2', '9')]),
                '.' => Place::Rest,
                '!' => Place::MayBeRest,
                '[' => {
                    read_set(&mut chars).ok_or_else(|| wrong("[ has no ], or nothing in it; write [2-47]"))?
                }
                other => Place::One(other),
            });
        }
        Ok(Self {
            text: text.to_owned(),
            places,
        })
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// True when the whole number is one of these.
    pub fn matches(&self, number: &str) -> bool {
        let mut rest = number.chars();
        for place in &self.places {
            let next = rest.next();
            let fits = match (place, next) {
                (Place::MayBeRest, _) | (Place::Rest, Some(_)) => return true,
                (Place::One(wanted), Some(found)) => *wanted == found,
                (Place::Of(ranges), Some(found)) => {
                    ranges.iter().any(|(from, to)| (*from..=*to).contains(&found))
                }
                (Place::Rest | Place::One(_) | Place::Of(_), None) => false,
            };
            if !fits {
                return false;
            }
        }
        rest.next().is_none()
    }

    /// How much it says: of two that match, the one with more goes first.
    pub(crate) fn weight(&self) -> usize {
        let says = |place: &Place| match place {
            Place::One(_) => 2,
            Place::Of(_) => 1,
            Place::Rest | Place::MayBeRest => 0,
        };
        self.places.iter().map(says).sum()
    }
}

fn read_set(chars: &mut std::str::Chars<'_>) -> Option<Place> {
    let mut ranges: Vec<(char, char)> = Vec::new();
    loop {
        match chars.next()? {
            ']' if ranges.is_empty() => return None,
            ']' => return Some(Place::Of(ranges)),
            '-' if !ranges.is_empty() => match chars.next()? {
                ']' => {
                    ranges.push(('-', '-'));
                    return Some(Place::Of(ranges));
                }
                to => ranges.last_mut()?.1 = to,
            },
            one => ranges.push((one, one)),
        }
    }
}

impl TryFrom<String> for Pattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text)
    }
}

/// How numbers that match are changed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rewrite {
    /// Numbers it is for.
    pub pattern: Pattern,
    /// So many characters are taken off the front.
    #[serde(default)]
    pub strip: usize,
    /// Then this is put before it.
    #[serde(default)]
    pub prefix: String,
    /// This instead of the number, whatever it was.
    #[serde(default)]
    pub set: Option<String>,
}

/// The number as the first rule that matches makes it; as it is when none does.
pub fn rewrite(rules: &[Rewrite], number: &str) -> String {
    let Some(rule) = rules.iter().find(|rule| rule.pattern.matches(number)) else {
        return number.to_owned();
    };
    if let Some(set) = &rule.set {
        return set.clone();
    }
    let kept: String = number.chars().skip(rule.strip).collect();
    format!("{}{kept}", rule.prefix)
}

/// A number as people write it without what only makes it readable: spaces, hyphens, dots and brackets go when
/// nothing but digits is left, perhaps with a `+` before them; and so do parameters behind it, which a number has as the
/// user of an address (RFC 3261 §19.1.6), such as `;npdi`. Anything else is a name and stays as it is.
pub fn plain(number: &str) -> String {
    let is_visual = |one: char| matches!(one, ' ' | '-' | '.' | '(' | ')' | '/');
    let bare = number.split(';').next().unwrap_or_default();
    let plain: String = bare.chars().filter(|one| !is_visual(*one)).collect();
    let digits = plain.strip_prefix('+').unwrap_or(&plain);
    let is_number = !digits.is_empty()
        && digits
            .chars()
            .all(|one| one.is_ascii_digit() || matches!(one, '*' | '#'));
    if is_number { plain } else { number.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_what_they_say() {
        for (pattern, yes, no) in [
            ("100", &["100"][..], &["10", "1000", "", "x100"][..]),
            ("0XX", &["012", "099"], &["01", "0123", "0a2"]),
            ("+44.", &["+442", "+44207"], &["+44", "44207"]),
            ("9!", &["9", "9112"], &["8", ""]),
            ("NZX", &["210", "999"], &["110", "200"]),
            ("[2-47]5", &["25", "45", "75"], &["55", "65", "85", "-5"]),
            ("[ab-]", &["a", "b", "-"], &["c"]),
            ("!", &["", "anything"], &[]),
            (".", &["x", "xy"], &[""]),
            ("sales", &["sales"], &["sale", "saless"]),
        ] {
            let read = Pattern::parse(pattern).unwrap();
            for number in yes {
                assert!(read.matches(number), "{pattern} {number}");
            }
            for number in no {
                assert!(!read.matches(number), "{pattern} {number}");
            }
        }
    }

    #[test]
    fn what_is_no_pattern_is_told_with_the_remedy() {
        for (pattern, problem) in [
            ("", "is empty"),
            ("1.2", "move it to the end"),
            ("!x", "move it to the end"),
            ("[12", "has no ]"),
            ("[]", "nothing in it"),
        ] {
            let error = Pattern::parse(pattern).unwrap_err();
            assert!(error.contains(problem), "{error}");
        }
    }

    #[test]
    fn the_first_rule_that_matches_rewrites() {
        let rules: Vec<Rewrite> = ["00.", "0.", "112", "[1-9]XXXXXX"]
            .iter()
            .zip([
                (2, "+", None),
                (1, "+44", None),
                (0, "", Some("emergency")),
                (0, "+4420", None),
            ])
            .map(|(pattern, (strip, prefix, set))| Rewrite {
                pattern: Pattern::parse(pattern).unwrap(),
                strip,
                prefix: prefix.to_owned(),
                set: set.map(str::to_owned),
            })
            .collect();
        for (number, expected) in [
            ("0049301234", "+49301234"),
            ("02071234567", "+442071234567"),
            ("112", "emergency"),
            ("7123456", "+44207123456"),
            ("alice", "alice"),
            ("", ""),
        ] {
            assert_eq!(rewrite(&rules, number), expected);
        }
    }

    #[test]
    fn stripping_more_than_there_is_leaves_the_prefix() {
        let rule = Rewrite {
            pattern: Pattern::parse("!").unwrap(),
            strip: 10,
            prefix: "9".to_owned(),
            set: None,
        };
        assert_eq!(rewrite(&[rule], "123"), "9");
    }

    #[test]
    fn what_makes_a_number_readable_goes() {
        for (written, plain_number) in [
            ("+44 (20) 7123-4567", "+442071234567"),
            ("030/123.45", "03012345"),
            ("*31#", "*31#"),
            ("j.smith", "j.smith"),
            ("room-7", "room-7"),
            ("+", "+"),
            ("+1 212 555 0100;npdi;rn=+12125550000", "+12125550100"),
            ("112;phone-context=example.com", "112"),
            ("j.smith;x=1", "j.smith;x=1"),
            (";npdi", ";npdi"),
        ] {
            assert_eq!(plain(written), plain_number);
        }
    }
}
