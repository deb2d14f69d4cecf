//! What must not be committed: leftovers, machine paths, empty names, large files.

use crate::Violation;
use crate::allow::Finding;
use crate::source::{Source, Tree, line_of, words};

/// Largest file, in bytes.
const FILE_BYTES_MAX: usize = 1 << 20;

/// Names that say nothing about what a module holds.
const EMPTY_NAMES: &[&str] = &[
    "util", "utils", "common", "helper", "helpers", "manager", "managers", "misc",
];

/// Rust code, comments and literals apart: the words, the rule, the remedy.
const CODE_WORDS: &[(&str, &str, &str)] = &[
    ("todo!(", "leftovers", "write it, or leave it out"),
    ("unimplemented!(", "leftovers", "write it, or leave it out"),
    ("dbg!(", "leftovers", "remove it"),
    ("#[ignore]", "ignored-test", "say why: #[ignore = \"…\"]"),
    ("fn get_", "names", "call it by what it returns, without get_"),
];

/// Any text. In pieces, so that this file does not break its own rule.
const TEXT_WORDS: &[(&str, &str, &str)] = &[
    (concat!("FIX", "ME"), "leftovers", "fix it, or open an issue"),
    (concat!("XX", "X"), "leftovers", "fix it, or open an issue"),
    (
        concat!("/wo", "rk/"),
        "machine-path",
        "use a path relative to the repository",
    ),
    (
        concat!("/ro", "ot/"),
        "machine-path",
        "use a path relative to the repository",
    ),
    (
        concat!("/ho", "me/"),
        "machine-path",
        "use a path relative to the repository",
    ),
    (
        concat!("/Use", "rs/"),
        "machine-path",
        "use a path relative to the repository",
    ),
    (
        concat!("/tm", "p/"),
        "machine-path",
        "use std::env::temp_dir() or CARGO_TARGET_TMPDIR",
    ),
];

/// Finds words that must not be committed; each can be excused, as many times as the entry's `max` says.
pub(crate) fn check_words(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in tree.sources() {
        if let Some(rust) = &source.rust {
            for (word, rule, remedy) in CODE_WORDS {
                let positions = words(&rust.code, word).filter(|&position| !is_idiom(&rust.code[position..]));
                let lines = positions.map(|position| line_of(&rust.code, position)).collect();
                findings.extend(found(source, word, rule, remedy, lines));
            }
            for name in EMPTY_NAMES {
                let declaration = format!("mod {name}");
                let lines = rust.lines_with(&declaration);
                findings.extend(found(
                    source,
                    &declaration,
                    "names",
                    "name the noun it holds",
                    lines,
                ));
            }
        }
        // Written by tools, full of others' words.
        let is_lock = source.path.ends_with("Cargo.lock") || source.path.ends_with("package-lock.json");
        let Some(text) = source.text.as_deref().filter(|_| !is_lock) else {
            continue;
        };
        for (word, rule, remedy) in TEXT_WORDS {
            let positions = words(text, word).filter(|position| !is_inside_path(text, word, *position));
            let lines = positions.map(|position| line_of(text, position)).collect();
            findings.extend(found(source, word, rule, remedy, lines));
        }
    }
    findings
}

/// Names with `get_` that the standard library has made every reader expect.
fn is_idiom(code: &str) -> bool {
    [
        "fn get_mut",
        "fn get_or_",
        "fn get_many_mut",
        "fn get_disjoint_mut",
    ]
    .iter()
    .any(|name| code.starts_with(name))
}

/// Whether what looks like a path from the root goes on a relative one, as in `net/work/`.
fn is_inside_path(text: &str, word: &str, position: usize) -> bool {
    let before = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '}' | ')');
    word.starts_with('/') && text[..position].ends_with(before)
}

fn found(source: &Source, word: &str, rule: &'static str, remedy: &str, lines: Vec<usize>) -> Vec<Finding> {
    let finding = |(index, line): (usize, usize)| Finding {
        violation: Violation::new(&source.path, line, rule, format!("`{word}`; {remedy}")),
        subject: word.to_owned(),
        measure: index + 1,
    };
    lines.into_iter().enumerate().map(finding).collect()
}

/// Files too large for a repository.
pub(crate) fn check_size(tree: &Tree) -> Vec<Violation> {
    let large = tree.sources().filter(|source| source.bytes > FILE_BYTES_MAX);
    large
        .map(|source| {
            let message = format!(
                "{} bytes, more than {FILE_BYTES_MAX}; generate it, or commit less of it",
                source.bytes
            );
            Violation::new(&source.path, 0, "file-size", message)
        })
        .collect()
}

/// Source files and folders whose names say nothing.
pub(crate) fn check_file_names(tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    for source in tree.sources() {
        let is_code = [".rs", ".ts", ".tsx", ".js", ".mjs", ".sh", ".py"];
        if !is_code.iter().any(|extension| source.path.ends_with(extension)) {
            continue;
        }
        let folders = source.path.split('/').rev().skip(1);
        if let Some(name) = folders
            .chain([source.stem()])
            .find(|part| EMPTY_NAMES.contains(part))
        {
            let message = format!("`{name}` says nothing about what it holds; name the noun");
            violations.push(Violation::new(&source.path, 0, "names", message));
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(path: &str, text: &str) -> Vec<String> {
        let findings = check_words(&Tree::of(&[(path, text)]));
        findings
            .iter()
            .map(|finding| finding.violation.to_string())
            .collect()
    }

    #[test]
    fn each_forbidden_word_in_code_is_found() {
        for (word, rule, _) in CODE_WORDS {
            let messages = messages("a/src/lib.rs", &format!("fn a() {{}}\n    {word}"));
            assert_eq!(messages.len(), 1, "{word}");
            assert!(
                messages[0].starts_with(&format!("a/src/lib.rs:2: [{rule}] `{word}`")),
                "{messages:?}"
            );
        }
    }

    #[test]
    fn each_forbidden_word_in_text_is_found_in_any_file() {
        for (word, rule, _) in TEXT_WORDS {
            for path in ["README.md", "a/src/lib.rs", "tools/run.sh"] {
                let messages = messages(path, &format!("// a word\n// {word} stands here"));
                assert_eq!(messages.len(), 1, "{word} in {path}");
                assert!(
                    messages[0].starts_with(&format!("{path}:2: [{rule}]")),
                    "{messages:?}"
                );
            }
        }
    }

    #[test]
    fn innocent_text_passes() {
        let text = "// todo!( in a comment\n#[ignore = \"slow\"]\nfn budget_get() {}\nfn get_mut() {}\nfn get_or_insert() { let s = \"dbg!(\"; }\n";
        assert_eq!(messages("a/src/lib.rs", text), [""; 0]);
        let text = concat!(
            "mktemp XX",
            "XXXX, net/wo",
            "rk/x, $HOME/tm",
            "p: all of them relative"
        );
        assert_eq!(messages("README.md", text), [""; 0]);
        assert_eq!(messages("Cargo.lock", TEXT_WORDS[0].0), [""; 0]);
    }

    #[test]
    fn the_second_of_two_exceeds_an_entry_for_one() {
        let findings = check_words(&Tree::of(&[("a/src/lib.rs", "dbg!(1);\ndbg!(2);")]));
        let measures: Vec<usize> = findings.iter().map(|finding| finding.measure).collect();
        assert_eq!(measures, [1, 2]);
    }

    #[test]
    fn empty_names_are_found_as_file_folder_and_module() {
        let tree = Tree::of(&[
            ("a/src/utils.rs", ""),
            ("a/tests/common/mod.rs", ""),
            ("a/src/commonwealth.rs", "mod helpers;\nmod helpful;"),
            ("docs/common.md", ""),
        ]);
        let files: Vec<String> = check_file_names(&tree)
            .into_iter()
            .map(|violation| violation.file)
            .collect();
        assert_eq!(files, ["a/src/utils.rs", "a/tests/common/mod.rs"]);
        let modules = check_words(&tree);
        assert_eq!(modules.len(), 1);
        assert_eq!(
            (modules[0].subject.as_str(), modules[0].violation.line),
            ("mod helpers", 1)
        );
    }

    #[test]
    fn a_file_over_a_mebibyte_is_found() {
        let at_limit = "x".repeat(FILE_BYTES_MAX);
        let above = at_limit.clone() + "x";
        let violations = check_size(&Tree::of(&[("fits.bin", &at_limit), ("large.bin", &above)]));
        assert_eq!(violations.len(), 1);
        assert_eq!(
            (violations[0].file.as_str(), violations[0].rule),
            ("large.bin", "file-size")
        );
    }
}
