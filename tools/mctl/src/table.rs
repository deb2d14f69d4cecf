//! Lines and columns on standard output.

use std::{
    fmt::{Display, Write as _},
    io::{self, Write as _},
};

/// Prints one line. Whoever reads no further (`mctl watch | head -1`) ends the program, and that is no failure.
pub(crate) fn say(line: impl Display) {
    if let Err(error) = writeln!(io::stdout(), "{line}") {
        let broken = error.kind() == io::ErrorKind::BrokenPipe;
        std::process::exit(i32::from(!broken));
    }
}

/// A table: headings, then rows.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// One with these headings. A heading that begins with `>` makes its column flush right.
    pub(crate) fn new(headings: &[&str]) -> Self {
        Self {
            rows: vec![headings.iter().map(|heading| (*heading).to_owned()).collect()],
        }
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// Prints it, or `nothing` when it has no rows.
    pub(crate) fn print(&self, nothing: &str) {
        if self.rows.len() == 1 {
            say(nothing);
        } else {
            say(self.text().trim_end());
        }
    }

    fn text(&self) -> String {
        let right: Vec<bool> = self.rows[0]
            .iter()
            .map(|heading| heading.starts_with('>'))
            .collect();
        let cell = |row: usize, column: usize| {
            let text = self.rows[row].get(column).map_or("", String::as_str);
            if row == 0 {
                text.trim_start_matches('>')
            } else {
                text
            }
        };
        let width = |column| {
            (0..self.rows.len())
                .map(|row| cell(row, column).chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..right.len()).map(width).collect();
        let mut text = String::new();
        for row in 0..self.rows.len() {
            let mut line = String::new();
            for (column, width) in widths.iter().enumerate() {
                let cell = cell(row, column);
                let padded = if right[column] {
                    format!("{cell:>width$}")
                } else {
                    format!("{cell:<width$}")
                };
                let gap = if column == 0 { "" } else { "  " };
                line.write_fmt(format_args!("{gap}{padded}"))
                    .expect("writing to a String does not fail");
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_numbers_are_flush_right() {
        let mut table = Table::new(&["name", ">packets"]);
        table.row(["a".into(), "7".into()]);
        table.row(["longer".into(), "123456789".into()]);
        assert_eq!(
            table.text(),
            "name      packets\na               7\nlonger  123456789\n"
        );
    }
}
