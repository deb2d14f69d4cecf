//! Excuses: what may stay as it is, how far, and why. A ratchet: nothing grows beyond its entry, and an
//! entry that is not needed any more is a violation.

use crate::Violation;
use anyhow::Result;
use serde::Deserialize;

/// Where the excuses stand.
pub(crate) const FILE: &str = "tools/tidy/allow.toml";

/// A violation that an entry may excuse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) violation: Violation,
    /// Which one in the file: the function's name, the word; empty for the file itself.
    pub(crate) subject: String,
    /// What must not exceed the entry's `max`: lines, or for words the how-manieth it is.
    pub(crate) measure: usize,
}

/// The parsed file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AllowList {
    #[serde(default)]
    allow: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    rule: String,
    file: String,
    #[serde(default)]
    subject: String,
    max: usize,
    reason: String,
}

impl Entry {
    fn is_about(&self, finding: &Finding) -> bool {
        self.rule == finding.violation.rule
            && self.file == finding.violation.file
            && self.subject == finding.subject
    }
}

impl AllowList {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        Ok(toml::from_str(text)?)
    }

    /// The findings that no entry excuses, and the entries that excuse nothing or give no reason.
    pub(crate) fn apply(&self, findings: Vec<Finding>) -> Vec<Violation> {
        let mut violations = Vec::new();
        for entry in &self.allow {
            let Entry {
                rule,
                file,
                subject,
                reason,
                ..
            } = entry;
            if !findings.iter().any(|finding| entry.is_about(finding)) {
                let message = format!("the entry {rule} {file} {subject} is not needed any more; remove it");
                violations.push(Violation::new(FILE, 0, "allow", message));
            }
            if reason.trim().is_empty() {
                let message = format!("the entry {rule} {file} {subject} gives no reason; give one");
                violations.push(Violation::new(FILE, 0, "allow", message));
            }
        }
        for finding in findings {
            match self.allow.iter().find(|entry| entry.is_about(&finding)) {
                Some(entry) if finding.measure <= entry.max => {}
                Some(entry) => {
                    let mut violation = finding.violation;
                    violation.message += &format!(" ({FILE} allows {})", entry.max);
                    violations.push(violation);
                }
                None => violations.push(finding.violation),
            }
        }
        violations
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "[[allow]]\nrule = \"function-length\"\nfile = \"a.rs\"\nsubject = \"run\"\nmax = 90\nreason = \"a table\"\n";

    fn finding(measure: usize) -> Finding {
        let violation = Violation::new("a.rs", 3, "function-length", "too long");
        Finding {
            violation,
            subject: "run".to_owned(),
            measure,
        }
    }

    #[test]
    fn an_entry_excuses_up_to_its_measure_and_no_further() {
        let list = AllowList::parse(LIST).expect("a list");
        assert_eq!(list.apply(vec![finding(90)]), []);
        let violations = list.apply(vec![finding(91)]);
        assert_eq!(violations.len(), 1);
        assert!(violations[0].message.contains("allows 90"));
        assert_eq!(
            AllowList::default().apply(vec![finding(71)]),
            [finding(71).violation]
        );
    }

    #[test]
    fn an_entry_that_excuses_nothing_is_a_violation() {
        let violations = AllowList::parse(LIST).expect("a list").apply(vec![]);
        assert_eq!(violations.len(), 1);
        assert!(
            violations[0].message.contains("not needed any more"),
            "{violations:?}"
        );
    }

    #[test]
    fn an_entry_without_a_reason_is_a_violation() {
        let list = AllowList::parse(&LIST.replace("a table", " ")).expect("a list");
        assert_eq!(list.apply(vec![finding(80)]).len(), 1);
        assert!(AllowList::parse("[[allow]]\nrule = \"x\"\nfile = \"a.rs\"\nmax = 1\n").is_err());
    }
}
