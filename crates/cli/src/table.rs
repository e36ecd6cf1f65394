//! Lists: an aligned table on a terminal, lines with tabs in a pipe.

use std::io::{self, Write};

use crate::{screen::Screen, style::DIM};

/// Rows under headings.
pub struct Table {
    headings: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table.
    pub fn new(headings: impl IntoIterator<Item = &'static str>) -> Self {
        Self { headings: headings.into_iter().collect(), rows: Vec::new() }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// Prints the table. An empty one prints `none` on a terminal, and nothing in a pipe.
    pub fn print(&self, none: &str) -> io::Result<()> {
        let mut out = anstream::stdout().lock();
        let text = if Screen::is_terminal() { self.aligned(none) } else { self.tabbed() };
        out.write_all(text.as_bytes())
    }

    fn aligned(&self, none: &str) -> String {
        if self.rows.is_empty() {
            return format!("{DIM}{none}{DIM:#}\n");
        }
        let width = |at: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count());
            cells.chain([self.headings[at].chars().count()]).max().unwrap_or_default()
        };
        let widths: Vec<usize> = (0..self.headings.len()).map(width).collect();
        let line = |cells: &mut dyn Iterator<Item = &str>| {
            let padded = cells.zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
            padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        let mut text = format!("{DIM}{}{DIM:#}\n", line(&mut self.headings.iter().copied()));
        for row in &self.rows {
            text.push_str(&line(&mut row.iter().map(String::as_str)));
            text.push('\n');
        }
        text
    }

    fn tabbed(&self) -> String {
        let clean = |cell: &String| cell.replace(['\t', '\n', '\r'], " ");
        self.rows.iter().map(|row| row.iter().map(clean).collect::<Vec<_>>().join("\t") + "\n").collect()
    }
}

/// Prints a line for each name and value, except for empty values.
pub fn facts<'a>(facts: impl IntoIterator<Item = (&'a str, String)>) -> io::Result<()> {
    let facts: Vec<_> = facts.into_iter().filter(|(_, value)| !value.is_empty()).collect();
    let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    let mut out = anstream::stdout().lock();
    for (name, value) in facts {
        writeln!(out, "{DIM}{name:<width$}{DIM:#}  {}", value.replace('\n', &format!("\n{:width$}  ", "")))?;
    }
    Ok(())
}

/// Prints a line of JSON.
pub fn json(value: &serde_json::Value) -> io::Result<()> {
    writeln!(anstream::stdout().lock(), "{value}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_for_people_and_tabs_for_pipes() {
        let mut table = Table::new(["RUN", "STATE"]);
        assert_eq!(table.tabbed(), "");
        assert!(table.aligned("no runs").contains("no runs"));
        table.row(["0198".to_owned(), "FAILED".to_owned()]);
        table.row(["1".to_owned(), "a\tb".to_owned()]);
        let text = anstream::adapter::strip_str(&table.aligned("")).to_string();
        assert_eq!(text, "RUN   STATE\n0198  FAILED\n1     a\tb\n");
        assert_eq!(table.tabbed(), "0198\tFAILED\n1\ta b\n");
    }
}
