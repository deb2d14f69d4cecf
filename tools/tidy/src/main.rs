//! Checks what the compiler and clippy cannot: who may depend on whom, where unsafe code and clocks may
//! live, how long a function may grow, and what must not be committed.
//!
//! Owns: the rules and their tables. Must never know what the code it reads does, nor change a file.
//!
//! Run it with `make lint`, or `cargo run -p tidy`. It prints one line for each violation,
//! `file:line: [rule] what is wrong; remedy`, and ends non-zero if there is one.
//!
//! Each rule is a function from sources or from `cargo metadata` to violations, with a test on a fixture that
//! violates it.
#![forbid(unsafe_code)]

mod allow;
mod arrows;
mod crates;
mod licences;
mod metadata;
mod size;
mod source;
mod words;

use crate::metadata::Metadata;
use crate::source::Tree;
use anyhow::{Context as _, Result};
use std::fmt;
use std::process::ExitCode;

/// One breach of one rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Violation {
    /// Relative to the repository's root.
    file: String,
    /// 1-based; 0 where the whole file is meant.
    line: usize,
    /// The rule's name.
    rule: &'static str,
    /// What is wrong and what to do about it.
    message: String,
}

impl Violation {
    fn new(file: &str, line: usize, rule: &'static str, message: impl Into<String>) -> Self {
        Self {
            file: file.to_owned(),
            line,
            rule,
            message: message.into(),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            file,
            line,
            rule,
            message,
        } = self;
        match line {
            0 => write!(f, "{file}: [{rule}] {message}"),
            line => write!(f, "{file}:{line}: [{rule}] {message}"),
        }
    }
}

fn main() -> Result<ExitCode> {
    let metadata = Metadata::of_this_workspace()?;
    let tree = Tree::read(&metadata.workspace_root).context("reading the repository")?;
    let mut violations = check(&metadata, &tree)?;
    violations.sort();
    violations.dedup();
    for violation in &violations {
        println!("{violation}");
    }
    if violations.is_empty() {
        println!(
            "tidy: {} files, {} packages, in order",
            tree.files(),
            metadata.packages.len()
        );
        return Ok(ExitCode::SUCCESS);
    }
    println!("tidy: {} violation(s)", violations.len());
    Ok(ExitCode::FAILURE)
}

fn check(metadata: &Metadata, tree: &Tree) -> Result<Vec<Violation>> {
    let allow = allow::AllowList::parse(tree.text(allow::FILE).unwrap_or_default())
        .with_context(|| format!("in {}", allow::FILE))?;
    let mut violations = Vec::new();
    violations.extend(arrows::check_arrows(metadata, tree));
    violations.extend(arrows::check_runtime(metadata, tree));
    violations.extend(arrows::check_purity(metadata, tree));
    violations.extend(licences::check(metadata, tree));
    violations.extend(crates::check_inherited_lints(metadata, tree));
    violations.extend(crates::check_unsafe(metadata, tree));
    violations.extend(crates::check_clock_owners(metadata, tree));
    violations.extend(crates::check_limits(tree));
    violations.extend(crates::check_corpora(metadata, tree));
    violations.extend(words::check_size(tree));
    violations.extend(words::check_file_names(tree));
    // The rules one can be excused from, with a reason; an excuse nobody needs is itself a violation.
    let mut excusable = size::check(tree);
    excusable.extend(words::check_words(tree));
    violations.extend(allow.apply(excusable));
    Ok(violations)
}
