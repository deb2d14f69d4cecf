//! Functions fit on a screen and files in a head.

use crate::Violation;
use crate::allow::Finding;
use crate::source::{Rust, Tree, item_end, line_of, words};

/// Longest function, from its `fn` to its closing brace.
const FUNCTION_LINES_MAX: usize = 70;

/// Longest file, lines that are compiled for tests only not counted.
const FILE_LINES_MAX: usize = 1_000;

/// Finds functions and files that are too long; test code may be as long as it reads well.
pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (source, rust) in tree.rust() {
        for function in functions(rust) {
            if function.lines > FUNCTION_LINES_MAX && !rust.is_test(function.line) {
                let message = format!(
                    "fn {} has {} lines, more than {FUNCTION_LINES_MAX}; split it where its purposes part",
                    function.name, function.lines
                );
                findings.push(Finding {
                    violation: Violation::new(&source.path, function.line, "function-length", message),
                    subject: function.name,
                    measure: function.lines,
                });
            }
        }
        let lines = rust.lines_without_tests();
        if lines > FILE_LINES_MAX {
            let message = format!(
                "{lines} lines without tests, more than {FILE_LINES_MAX}; give one of its nouns a module"
            );
            findings.push(Finding {
                violation: Violation::new(&source.path, 0, "file-length", message),
                subject: String::new(),
                measure: lines,
            });
        }
    }
    findings
}

struct Function {
    name: String,
    /// 1-based.
    line: usize,
    lines: usize,
}

fn functions(rust: &Rust) -> Vec<Function> {
    let code = &rust.code;
    let mut functions = Vec::new();
    for position in words(code, "fn") {
        let after = code[position + 2..].trim_start();
        let name: String = after
            .chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect();
        // A function pointer type has no name.
        if name.is_empty() {
            continue;
        }
        let line = line_of(code, position);
        functions.push(Function {
            name,
            line,
            lines: line_of(code, item_end(code, position)) - line + 1,
        });
    }
    functions
}

#[cfg(test)]
mod tests {
    use super::*;

    fn function(name: &str, lines: usize) -> String {
        format!(
            "pub fn {name}(a: [u8; 2]) -> fn(u8) {{\n{}}}\n",
            "    // {\n".repeat(lines - 2)
        )
    }

    #[test]
    fn a_function_of_the_limit_passes_and_one_line_more_does_not() {
        let text = function("fits", FUNCTION_LINES_MAX) + &function("sprawls", FUNCTION_LINES_MAX + 1);
        let findings = check(&Tree::of(&[("a/src/lib.rs", &text)]));
        assert_eq!(findings.len(), 1);
        assert_eq!(
            (findings[0].subject.as_str(), findings[0].measure),
            ("sprawls", FUNCTION_LINES_MAX + 1)
        );
        assert_eq!(
            (findings[0].violation.line, findings[0].violation.rule),
            (71, "function-length")
        );
    }

    #[test]
    fn long_tests_are_nobodys_business() {
        let text = function("scenario", 300);
        let within = format!("#[cfg(test)]\nmod tests {{\n{text}}}\n");
        assert_eq!(
            check(&Tree::of(&[
                ("a/tests/scenario.rs", &text),
                ("a/src/lib.rs", &within)
            ]))
            .len(),
            0
        );
    }

    #[test]
    fn a_file_is_measured_without_its_tests() {
        let body = "const A: u8 = 1;\n".repeat(FILE_LINES_MAX);
        let tests = format!("#[cfg(test)]\nmod tests {{\n{body}}}\n");
        assert_eq!(
            check(&Tree::of(&[("a/src/lib.rs", &(body.clone() + &tests))])).len(),
            0
        );
        let findings = check(&Tree::of(&[(
            "a/src/lib.rs",
            &(body + "const B: u8 = 2;\n" + &tests),
        )]));
        assert_eq!((findings.len(), findings[0].measure), (1, FILE_LINES_MAX + 1));
        assert_eq!(findings[0].violation.rule, "file-length");
    }
}
