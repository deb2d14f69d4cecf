//! The repository's files, and Rust code with its comments and literals blanked out.

use anyhow::{Context as _, Result, bail};
use std::path::Path;
use std::process::Command;

/// Every file that is committed, or would be by `git add`.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    sources: Vec<Source>,
}

/// One file.
#[derive(Debug)]
pub(crate) struct Source {
    /// Relative to the repository, with `/`.
    pub(crate) path: String,
    pub(crate) bytes: usize,
    /// `None` for a file that is not UTF-8 text.
    pub(crate) text: Option<String>,
    /// Set for Rust files.
    pub(crate) rust: Option<Rust>,
}

/// What the rules want to know of a Rust file.
#[derive(Debug)]
pub(crate) struct Rust {
    /// The text with comments, strings and characters replaced by spaces, line by line the same.
    pub(crate) code: String,
    /// For each line, whether it is compiled for tests only.
    is_test_line: Vec<bool>,
}

impl Tree {
    pub(crate) fn read(root: &Path) -> Result<Self> {
        let mut command = Command::new("git");
        command
            .current_dir(root)
            .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
        let output = command.output().context("running git ls-files")?;
        if !output.status.success() {
            bail!(
                "git ls-files failed:\n{}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
        let listing = String::from_utf8(output.stdout).context("a file name is not UTF-8")?;
        let mut paths: Vec<&str> = listing.split_terminator('\0').collect();
        paths.sort_unstable();
        paths.dedup();
        let mut sources = Vec::new();
        for path in paths {
            // Deleted but still in the index, or a link to a folder: nothing to read.
            if root.join(path).is_file() {
                let bytes = std::fs::read(root.join(path)).with_context(|| format!("reading {path}"))?;
                sources.push(Source::new(path, bytes));
            }
        }
        Ok(Self { sources })
    }

    #[cfg(test)]
    pub(crate) fn of(files: &[(&str, &str)]) -> Self {
        let sources = files
            .iter()
            .map(|(path, text)| Source::new(path, text.as_bytes().to_vec()));
        Self {
            sources: sources.collect(),
        }
    }

    pub(crate) fn files(&self) -> usize {
        self.sources.len()
    }

    pub(crate) fn sources(&self) -> impl Iterator<Item = &Source> {
        self.sources.iter()
    }

    pub(crate) fn source(&self, path: &str) -> Option<&Source> {
        self.sources.iter().find(|source| source.path == path)
    }

    pub(crate) fn text(&self, path: &str) -> Option<&str> {
        self.source(path)?.text.as_deref()
    }

    /// The first 1-based line of a file that starts so; 0, the whole file, if none does.
    pub(crate) fn line_starting(&self, path: &str, prefix: &str) -> usize {
        let lines = self.text(path).unwrap_or_default().lines();
        lines
            .enumerate()
            .find(|(_, line)| line.starts_with(prefix))
            .map_or(0, |(index, _)| index + 1)
    }

    /// The Rust files, each with what was read from it.
    pub(crate) fn rust(&self) -> impl Iterator<Item = (&Source, &Rust)> {
        self.sources
            .iter()
            .filter_map(|source| Some((source, source.rust.as_ref()?)))
    }
}

impl Source {
    fn new(path: &str, bytes: Vec<u8>) -> Self {
        let length = bytes.len();
        let text = String::from_utf8(bytes).ok();
        let is_rust = path.ends_with(".rs");
        let rust = text
            .as_deref()
            .filter(|_| is_rust)
            .map(|text| Rust::read(path, text));
        Self {
            path: path.to_owned(),
            bytes: length,
            text,
            rust,
        }
    }

    /// The file's name without folders and extension.
    pub(crate) fn stem(&self) -> &str {
        let name = self.path.rsplit('/').next().unwrap_or(&self.path);
        name.split('.').next().unwrap_or(name)
    }
}

impl Rust {
    fn read(path: &str, text: &str) -> Self {
        let code = blank(text);
        let lines = code.lines().count();
        // fuzzing.rs holds what fuzzers and the replay of their corpora call; examples measure, as benches do.
        let is_test_file = path
            .split('/')
            .any(|part| matches!(part, "tests" | "tests.rs" | "benches" | "examples" | "fuzzing.rs"))
            || code.contains("#![cfg(test)]");
        let mut is_test_line = vec![is_test_file; lines];
        for start in attribute_positions(&code) {
            let first = line_of(&code, start);
            let last = line_of(&code, item_end(&code, start));
            is_test_line[first - 1..last].fill(true);
        }
        Self { code, is_test_line }
    }

    /// Whether this 1-based line is compiled for tests only.
    pub(crate) fn is_test(&self, line: usize) -> bool {
        self.is_test_line
            .get(line.wrapping_sub(1))
            .copied()
            .unwrap_or(false)
    }

    /// Whether any line is compiled for tests only.
    pub(crate) fn has_tests(&self) -> bool {
        self.is_test_line.contains(&true)
    }

    /// Lines that are not for tests.
    pub(crate) fn lines_without_tests(&self) -> usize {
        self.is_test_line.iter().filter(|is_test| !**is_test).count()
    }

    /// The 1-based lines whose code holds `needle`, once for each time, not within a longer word.
    pub(crate) fn lines_with(&self, needle: &str) -> Vec<usize> {
        words(&self.code, needle)
            .map(|position| line_of(&self.code, position))
            .collect()
    }
}

/// Where `needle` stands in `text` with no letter, digit or underscore glued to its word-like ends.
pub(crate) fn words<'a>(text: &'a str, needle: &'a str) -> impl Iterator<Item = usize> + 'a {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let starts_word = needle.starts_with(is_word);
    let ends_word = needle.ends_with(|c: char| c.is_alphanumeric());
    text.match_indices(needle)
        .map(|(position, _)| position)
        .filter(move |&position| {
            let glued_before = starts_word && text[..position].ends_with(is_word);
            let glued_after = ends_word && text[position + needle.len()..].starts_with(is_word);
            !glued_before && !glued_after
        })
}

/// The 1-based line of a byte position.
pub(crate) fn line_of(text: &str, position: usize) -> usize {
    1 + text[..position].bytes().filter(|byte| *byte == b'\n').count()
}

/// The position of the `}` or `;` that ends the item which starts at, or whose attribute stands at, `start`.
pub(crate) fn item_end(code: &str, start: usize) -> usize {
    let (mut round, mut curly) = (0_i32, 0_i32);
    for (offset, byte) in code[start..].bytes().enumerate() {
        match byte {
            b'(' | b'[' => round += 1,
            b')' | b']' => round -= 1,
            b'{' => curly += 1,
            b'}' => {
                curly -= 1;
                if curly == 0 && round == 0 {
                    return start + offset;
                }
            }
            b';' if round == 0 && curly == 0 => return start + offset,
            _ => {}
        }
    }
    code.len()
}

fn attribute_positions(code: &str) -> Vec<usize> {
    let mut positions: Vec<usize> = Vec::new();
    for attribute in ["#[cfg(test)]", "#[cfg(all(test,"] {
        positions.extend(code.match_indices(attribute).map(|(position, _)| position));
    }
    positions
}

/// Replaces comments, strings and characters by spaces, newlines kept.
fn blank(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let glued = code.ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let hidden = hidden_length(rest, glued);
        if hidden == 0 {
            code.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        }
        for c in rest[..hidden].chars() {
            code.push(if c == '\n' { '\n' } else { ' ' });
        }
        rest = &rest[hidden..];
    }
    code
}

/// How many bytes of comment or literal `rest` starts with; `glued` says that a word ends just before.
fn hidden_length(rest: &str, glued: bool) -> usize {
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return comment_length(rest);
    }
    if rest.starts_with('"') {
        return quoted_length(rest, '"');
    }
    if rest.starts_with('\'') {
        return character_length(rest);
    }
    if !glued {
        for prefix in ["br", "cr", "r"] {
            if let Some(length) = rest.strip_prefix(prefix).and_then(raw_length) {
                return prefix.len() + length;
            }
        }
    }
    0
}

/// Block comments nest.
fn comment_length(rest: &str) -> usize {
    let mut depth = 0_usize;
    let bytes = rest.as_bytes();
    let mut position = 0;
    while position + 1 < bytes.len() {
        match &bytes[position..position + 2] {
            b"/*" => depth += 1,
            b"*/" => depth -= 1,
            _ => {
                position += 1;
                continue;
            }
        }
        position += 2;
        if depth == 0 {
            return position;
        }
    }
    rest.len()
}

fn quoted_length(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (position, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return position + 1,
            _ => {}
        }
    }
    rest.len()
}

/// The length of a character literal, or 0 for a lifetime.
fn character_length(rest: &str) -> usize {
    let mut chars = rest.chars().skip(1);
    match (chars.next(), chars.next()) {
        (Some('\\'), _) | (Some(_), Some('\'')) => quoted_length(rest, '\''),
        _ => 0,
    }
}

/// The length of a raw string after its `r`, if it is one.
fn raw_length(rest: &str) -> Option<usize> {
    let hashes = rest.bytes().take_while(|byte| *byte == b'#').count();
    let body = rest[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let length = body
        .find(&end)
        .map_or(body.len(), |position| position + end.len());
    Some(hashes + 1 + length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_blanked_and_lines_kept() {
        let text = "let a = \"x\\\"{\"; // {\n/* { /* { */ */ let b = '{'; let c: &'a str = r#\"{\"# ;\nlet d = r\"\\\"; let br = b'\\''; x";
        let code = blank(text);
        assert!(!code.contains('{'), "{code}");
        assert_eq!(code.lines().count(), text.lines().count());
        for kept in [
            "let a =",
            "let b =",
            "let c: &'a str =",
            "let d =",
            "let br = b",
            "; x",
        ] {
            assert!(code.contains(kept), "{kept} in {code}");
        }
    }

    #[test]
    fn raw_identifiers_are_not_strings() {
        assert_eq!(blank("r#type + for\"x\""), "r#type + for   ");
    }

    #[test]
    fn test_code_is_told_apart() {
        let text = "fn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() { let c = [1; 2]; }\n}\nfn d() {}\n";
        let rust = Rust::read("src/lib.rs", text);
        let tests: Vec<usize> = (1..=6).filter(|line| rust.is_test(*line)).collect();
        assert_eq!(tests, [2, 3, 4, 5]);
        assert_eq!(rust.lines_without_tests(), 2);
        assert!(Rust::read("src/fuzzing.rs", "fn a() {}").is_test(1));
        assert!(Rust::read("tests/all.rs", "fn a() {}").is_test(1));
        let declared = Rust::read("src/lib.rs", "#[cfg(test)]\nmod fixture;\nfn a() {}");
        assert!(declared.is_test(2) && !declared.is_test(3));
    }

    #[test]
    fn words_are_whole() {
        let rust = Rust::read(
            "src/lib.rs",
            "unsafe {}\nforbid(unsafe_code)\nfn get_x() {}\nfn forget_y() {}\n",
        );
        assert_eq!(rust.lines_with("unsafe"), [1]);
        assert_eq!(rust.lines_with("fn get_"), [3]);
    }
}
