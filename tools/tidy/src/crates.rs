//! What each crate must have: the lints, no unsafe code, no clock, documented limits, replayed corpora.

use crate::Violation;
use crate::metadata::Metadata;
use crate::source::{Tree, line_of};
use std::collections::BTreeSet;

/// Crates that may hold unsafe code: system calls, and an allocator.
const UNSAFE_CRATES: &[&str] = &["media-net", "noalloc"];

/// Crates that own clocks, sockets, threads or locks and may say so to clippy. `sim` reads a clock once, for an Instant
/// to count virtual time from.
const CLOCK_OWNERS: &[&str] = &["media-net", "mediad", "controld", "mctl", "demo", "bench", "sim"];

/// Each member inherits the workspace's lints.
pub(crate) fn check_inherited_lints(metadata: &Metadata, tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    for package in metadata.members() {
        let manifest = metadata.manifest(package);
        let table: Option<toml::Table> = tree.text(&manifest).and_then(|text| text.parse().ok());
        let lints = table
            .as_ref()
            .and_then(|table| table.get("lints")?.get("workspace")?.as_bool());
        if lints != Some(true) {
            let message = "does not inherit the workspace's lints; add `[lints]` with `workspace = true`";
            violations.push(Violation::new(&manifest, 0, "lints", message));
        }
    }
    violations
}

/// Unsafe code stands only in the crates that may hold it, and all others forbid it at their roots.
pub(crate) fn check_unsafe(metadata: &Metadata, tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut allowed_folders = Vec::new();
    for package in metadata.members() {
        if UNSAFE_CRATES.contains(&package.name.as_str()) {
            allowed_folders.push(metadata.folder(package));
            continue;
        }
        let is_root = |kind: &String| matches!(kind.as_str(), "lib" | "bin" | "proc-macro");
        for target in package
            .targets
            .iter()
            .filter(|target| target.kind.iter().any(is_root))
        {
            let path = metadata.relative(&target.src_path);
            let rust = tree.source(&path).and_then(|source| source.rust.as_ref());
            if !rust.is_some_and(|rust| rust.code.contains("#![forbid(unsafe_code)]")) {
                let message = "a crate root without `#![forbid(unsafe_code)]`; add it";
                violations.push(Violation::new(&path, 0, "unsafe", message));
            }
        }
    }
    for (source, rust) in tree.rust() {
        if allowed_folders
            .iter()
            .any(|folder| source.path.starts_with(folder))
        {
            continue;
        }
        for line in rust.lines_with("unsafe") {
            let message = format!("unsafe code; it lives only in {}", UNSAFE_CRATES.join(", "));
            violations.push(Violation::new(&source.path, line, "unsafe", message));
        }
    }
    violations
}

/// Only crates that own a clock, a socket, a thread or a lock silence clippy about them, and they say why.
pub(crate) fn check_clock_owners(metadata: &Metadata, tree: &Tree) -> Vec<Violation> {
    let owner_folders: Vec<String> = metadata
        .members()
        .filter(|package| CLOCK_OWNERS.contains(&package.name.as_str()))
        .map(|package| metadata.folder(package))
        .collect();
    let mut violations = Vec::new();
    for (source, rust) in tree.rust() {
        let is_owner = owner_folders.iter().any(|folder| source.path.starts_with(folder));
        for lint in ["clippy::disallowed_methods", "clippy::disallowed_types"] {
            for (position, _) in rust.code.match_indices(lint) {
                let line = line_of(&rust.code, position);
                let attribute = attribute_around(&rust.code, position);
                let silences = ["allow(", "expect("].iter().any(|word| attribute.contains(word));
                if rust.is_test(line) || !silences {
                    continue;
                }
                if !is_owner {
                    let message = format!(
                        "silences {lint}; take time and chance as arguments, or move the code to {}",
                        CLOCK_OWNERS.join(", ")
                    );
                    violations.push(Violation::new(&source.path, line, "clocks", message));
                } else if !attribute.contains("reason") {
                    let message = format!("silences {lint} without saying why; add `reason = \"…\"`");
                    violations.push(Violation::new(&source.path, line, "clocks", message));
                }
            }
        }
    }
    violations
}

/// The attribute that a position stands in, from its `#`.
fn attribute_around(code: &str, position: usize) -> &str {
    let start = code[..position].rfind('#').unwrap_or(0);
    let end = code[position..]
        .find(']')
        .map_or(code.len(), |offset| position + offset);
    &code[start..end]
}

/// Each constant of a `limits.rs` says what it bounds and what happens there.
pub(crate) fn check_limits(tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (source, rust) in tree.rust().filter(|(source, _)| source.stem() == "limits") {
        let lines: Vec<&str> = source
            .text
            .as_deref()
            .unwrap_or_default()
            .lines()
            .map(str::trim)
            .collect();
        for (index, line) in lines.iter().enumerate() {
            let declaration = line.trim_start_matches("pub(crate) ").trim_start_matches("pub ");
            let is_constant = declaration
                .strip_prefix("const ")
                .is_some_and(|rest| !rest.starts_with('_'));
            if !is_constant || rust.is_test(index + 1) {
                continue;
            }
            let above = lines[..index].iter().rev().find(|line| !line.starts_with("#["));
            if !above.is_some_and(|line| line.starts_with("///")) {
                let message =
                    "a limit without a doc comment; say what it bounds and what happens when it is full";
                violations.push(Violation::new(&source.path, index + 1, "limits", message));
            }
        }
    }
    violations
}

/// Each `corpus/<parser>/` of a crate is named by one of its tests, and each fuzz target has a corpus.
pub(crate) fn check_corpora(metadata: &Metadata, tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut parsers = BTreeSet::new();
    for folder in corpus_folders(tree) {
        let (before, parser) = folder.rsplit_once('/').expect("it ends in corpus/<parser>");
        parsers.insert(parser.to_owned());
        let owners = metadata.members().map(|package| metadata.folder(package));
        let Some(owner) = owners
            .filter(|owner| before.starts_with(owner))
            .max_by_key(String::len)
        else {
            let message = "a corpus outside any crate; put it beside the parser, where a test replays it";
            violations.push(Violation::new(&folder, 0, "corpora", message));
            continue;
        };
        let is_replayed = tree
            .rust()
            .filter(|(source, _)| source.path.starts_with(&owner))
            .any(|(source, rust)| {
                let text = source.text.as_deref().unwrap_or_default();
                rust.has_tests() && text.contains("corpus") && text.contains(parser)
            });
        if !is_replayed {
            let message =
                format!("no test of this crate replays the corpus `{parser}`; add one that names it");
            violations.push(Violation::new(&folder, 0, "corpora", message));
        }
    }
    for (source, _) in tree
        .rust()
        .filter(|(source, _)| source.path.starts_with("tools/fuzz/fuzz_targets/"))
    {
        if !parsers.contains(source.stem()) {
            let message = format!(
                "no crate has a corpus/{}/; commit one and replay it in a test",
                source.stem()
            );
            violations.push(Violation::new(&source.path, 0, "corpora", message));
        }
    }
    violations
}

/// Every folder `…/corpus/<parser>` that holds a file.
fn corpus_folders(tree: &Tree) -> BTreeSet<String> {
    let folder = |path: &str| {
        let (before, inside) = path.split_once("/corpus/")?;
        let (parser, _) = inside.split_once('/')?;
        Some(format!("{before}/corpus/{parser}"))
    };
    tree.sources().filter_map(|source| folder(&source.path)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::fixture::workspace;

    fn messages(violations: Vec<Violation>) -> Vec<String> {
        violations.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_crate_that_does_not_inherit_the_lints_is_found() {
        let metadata = workspace(&[("rtp", &[]), ("sdp", &[]), ("sip", &[])], &[]);
        let tree = Tree::of(&[
            ("rtp/Cargo.toml", "[lints]\nworkspace = true\n"),
            ("sdp/Cargo.toml", "[package]\nname = \"sdp\"\n"),
            ("sip/Cargo.toml", "[lints]\nworkspace = false\n"),
        ]);
        let files: Vec<String> = check_inherited_lints(&metadata, &tree)
            .into_iter()
            .map(|violation| violation.file)
            .collect();
        assert_eq!(files, ["sdp/Cargo.toml", "sip/Cargo.toml"]);
    }

    #[test]
    fn unsafe_code_and_roots_that_allow_it_are_found() {
        let metadata = workspace(&[("rtp", &[]), ("sip", &[]), ("media-net", &[])], &[]);
        let tree = Tree::of(&[
            ("rtp/src/lib.rs", "#![forbid(unsafe_code)]\n// unsafe {}\n"),
            ("sip/src/lib.rs", "// #![forbid(unsafe_code)]\n"),
            ("sip/tests/a.rs", "fn a() {\n    unsafe { b() }\n}\n"),
            ("media-net/src/lib.rs", "unsafe fn a() {}\n"),
        ]);
        let messages = messages(check_unsafe(&metadata, &tree));
        assert_eq!(messages.len(), 2, "{messages:#?}");
        assert!(messages[0].starts_with("sip/src/lib.rs: [unsafe] a crate root"));
        assert!(messages[1].starts_with("sip/tests/a.rs:2: [unsafe] unsafe code"));
    }

    #[test]
    fn a_core_that_silences_clippy_about_clocks_is_found() {
        let metadata = workspace(&[("rtp", &[]), ("mediad", &[])], &[]);
        let tree = Tree::of(&[
            (
                "rtp/src/lib.rs",
                "#![allow(clippy::disallowed_methods, reason = \"I want to\")]\n",
            ),
            (
                "rtp/src/units.rs",
                "#[expect(\n    clippy::disallowed_types\n)]\nfn a() {}\n",
            ),
            (
                "rtp/src/time.rs",
                "#[cfg(test)]\nmod tests {\n#![allow(clippy::disallowed_methods)]\n}\n",
            ),
            ("rtp/src/strict.rs", "#![deny(clippy::disallowed_methods)]\n"),
            (
                "mediad/src/lib.rs",
                "#![allow(clippy::disallowed_methods, reason = \"owns a clock\")]\n",
            ),
            ("mediad/src/main.rs", "#![allow(clippy::disallowed_types)]\n"),
        ]);
        let messages = messages(check_clock_owners(&metadata, &tree));
        assert_eq!(messages.len(), 3, "{messages:#?}");
        assert!(messages[0].starts_with("rtp/src/lib.rs:1: [clocks] silences clippy::disallowed_methods;"));
        assert!(messages[1].starts_with("rtp/src/units.rs:2: [clocks] silences clippy::disallowed_types;"));
        assert!(
            messages[2].starts_with("mediad/src/main.rs:1: [clocks]")
                && messages[2].contains("without saying why")
        );
    }

    #[test]
    fn a_limit_without_a_doc_comment_is_found() {
        let text = "//! Bounds.\n\n/// Calls; refused beyond.\n#[rustfmt::skip]\npub const CALLS_MAX: u32 = 1;\n\npub const LEGS_MAX: u32 = 2;\nconst _: () = assert!(true);\n";
        let tree = Tree::of(&[
            ("a/src/limits.rs", text),
            ("a/src/other.rs", "pub const A: u8 = 1;"),
        ]);
        let messages = messages(check_limits(&tree));
        assert_eq!(messages.len(), 1, "{messages:#?}");
        assert!(messages[0].starts_with("a/src/limits.rs:7: [limits]"));
    }

    #[test]
    fn a_corpus_that_no_test_replays_and_a_target_without_corpus_are_found() {
        let metadata = workspace(&[("rtp", &[]), ("sip", &[])], &[]);
        let tree = Tree::of(&[
            ("rtp/corpus/header/a", ""),
            ("rtp/corpus/rtcp/a", ""),
            (
                "rtp/tests/corpora_replay.rs",
                "const CORPUS: &str = \"corpus/header\";",
            ),
            ("rtp/src/lib.rs", "// corpus/rtcp is only mentioned outside tests"),
            ("sip/tests/other.rs", "corpus rtcp"),
            ("tools/fuzz/corpus/stray/a", ""),
            ("tools/fuzz/fuzz_targets/header.rs", ""),
            ("tools/fuzz/fuzz_targets/sdp.rs", ""),
        ]);
        let messages = messages(check_corpora(&metadata, &tree));
        assert_eq!(messages.len(), 3, "{messages:#?}");
        assert!(messages[0].starts_with("rtp/corpus/rtcp: [corpora] no test of this crate"));
        assert!(messages[1].starts_with("tools/fuzz/corpus/stray: [corpora] a corpus outside"));
        assert!(messages[2].starts_with("tools/fuzz/fuzz_targets/sdp.rs: [corpora] no crate has"));
    }
}
