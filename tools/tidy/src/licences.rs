//! Under which licences others' code may come in.

use crate::Violation;
use crate::metadata::Metadata;
use crate::source::Tree;

/// Licences whose terms a binary under MIT or Apache-2.0 can meet. The same list stands in deny.toml.
///
/// OFL-1.1 and Ubuntu-font-1.0 are for fonts in the benchmark's plots; no program that ships holds them.
const ALLOWED: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "MPL-2.0",
    "OFL-1.1",
    "OpenSSL",
    "Ubuntu-font-1.0",
    "Unicode-3.0",
    "Unicode-DFS-2016",
    "Unlicense",
    "Zlib",
];

/// Checks the licence of every package that any member is built or tested with.
pub(crate) fn check(metadata: &Metadata, tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    for package in &metadata.packages {
        let line = tree.line_starting("Cargo.lock", &format!("name = \"{}\"", package.name));
        let Some(licence) = &package.license else {
            let message = format!(
                "{} {} states no licence; replace it",
                package.name, package.version
            );
            violations.push(Violation::new("Cargo.lock", line, "licences", message));
            continue;
        };
        if !is_allowed(licence) {
            let message = format!(
                "{} {} comes under `{licence}`; replace it, or add the licence to tools/tidy/src/licences.rs and deny.toml if its terms can be met",
                package.name, package.version
            );
            violations.push(Violation::new("Cargo.lock", line, "licences", message));
        }
    }
    violations
}

/// Evaluates an SPDX expression; the old form `MIT/Apache-2.0` means OR.
fn is_allowed(expression: &str) -> bool {
    let spaced = expression
        .replace('(', " ( ")
        .replace(')', " ) ")
        .replace('/', " OR ");
    let tokens: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = tokens.as_slice();
    let allowed = either(&mut rest);
    allowed && rest.is_empty()
}

fn either(rest: &mut &[&str]) -> bool {
    let mut allowed = both(rest);
    while take(rest, "OR") {
        // Not `||` alone: the right side must be read in any case.
        let right = both(rest);
        allowed = allowed || right;
    }
    allowed
}

fn both(rest: &mut &[&str]) -> bool {
    let mut allowed = one(rest);
    while take(rest, "AND") {
        let right = one(rest);
        allowed = allowed && right;
    }
    allowed
}

fn one(rest: &mut &[&str]) -> bool {
    if take(rest, "(") {
        let allowed = either(rest);
        return take(rest, ")") && allowed;
    }
    let Some((licence, after)) = rest.split_first() else {
        return false;
    };
    *rest = after;
    if take(rest, "WITH") {
        let Some((exception, after)) = rest.split_first() else {
            return false;
        };
        *rest = after;
        return ALLOWED.contains(&format!("{licence} WITH {exception}").as_str())
            || ALLOWED.contains(licence);
    }
    ALLOWED.contains(licence)
}

fn take(rest: &mut &[&str], word: &str) -> bool {
    let found = rest.first() == Some(&word);
    if found {
        *rest = &rest[1..];
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::fixture::workspace;

    #[test]
    fn expressions_are_evaluated() {
        for allowed in [
            "MIT",
            "MIT OR Apache-2.0",
            "MIT/Apache-2.0",
            "GPL-3.0-only OR MIT",
            "(MIT OR Apache-2.0) AND Unicode-3.0",
            "Apache-2.0 WITH LLVM-exception OR GPL-2.0-only",
            "(Apache-2.0 OR MIT) AND BSD-3-Clause",
        ] {
            assert!(is_allowed(allowed), "{allowed}");
        }
        for refused in [
            "GPL-3.0-only",
            "MIT AND GPL-3.0-only",
            "",
            "(MIT",
            "MIT MIT",
            "MIT AND (AGPL-3.0 OR GPL-2.0)",
        ] {
            assert!(!is_allowed(refused), "{refused}");
        }
    }

    #[test]
    fn deny_toml_has_the_same_list() {
        let deny: toml::Table = include_str!("../../../deny.toml")
            .parse()
            .expect("deny.toml is TOML");
        let allowed = deny["licenses"]["allow"].as_array().expect("a list");
        let allowed: Vec<&str> = allowed.iter().filter_map(|licence| licence.as_str()).collect();
        assert_eq!(allowed, ALLOWED);
    }

    #[test]
    fn a_package_under_a_foreign_licence_or_none_is_refused() {
        let mut metadata = workspace(
            &[("rtp", &["copyleft", "unknown"])],
            &[("copyleft", &[]), ("unknown", &[])],
        );
        let tree = Tree::of(&[("Cargo.lock", "[[package]]\nname = \"copyleft\"\n")]);
        assert_eq!(check(&metadata, &tree), []);
        metadata.packages[1].license = Some("GPL-3.0-only".to_owned());
        metadata.packages[2].license = None;
        let violations = check(&metadata, &tree);
        assert_eq!((violations.len(), violations[0].line), (2, 2));
        assert!(
            violations[0]
                .message
                .starts_with("copyleft 1.0.0 comes under `GPL-3.0-only`")
        );
        assert!(
            violations[1]
                .message
                .starts_with("unknown 1.0.0 states no licence")
        );
    }
}
