//! What is printed: tables for people, JSON for programs, colour on a terminal only. Text that came from outside
//! loses its control characters on the way to a terminal.

use std::io::Write;

use anstyle::{AnsiColor, Reset, Style};
use anyhow::Result;
use serde::Serialize;
use serde_json::Value;

/// For what is wrong.
pub const BAD: Style = AnsiColor::Red.on_default().bold();
/// For what does less than it could.
pub const WARN: Style = AnsiColor::Yellow.on_default();
/// For what is well.
pub const GOOD: Style = AnsiColor::Green.on_default();
/// For headings.
pub const HEAD: Style = Style::new().bold();
/// After any of them.
pub const PLAIN: Reset = Reset;

/// Widest cell of a table, save the last of a row.
const WIDEST: usize = 48;

/// Prints a value as JSON over several lines.
pub fn json(value: &impl Serialize) -> Result<()> {
    let mut out = anstream::stdout().lock();
    writeln!(out, "{}", serde_json::to_string_pretty(value)?)?;
    Ok(())
}

/// Prints a value as one line of JSON.
pub fn json_line(value: &impl Serialize) -> Result<()> {
    let mut out = anstream::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(value)?)?;
    Ok(())
}

/// Prints a line.
pub fn line(text: impl std::fmt::Display) -> Result<()> {
    let mut out = anstream::stdout().lock();
    writeln!(out, "{text}")?;
    Ok(())
}

/// Prints rows under a heading; says `nothing` where there are none.
pub fn table(heading: &[&str], rows: &[Vec<String>], nothing: &str) -> Result<()> {
    if rows.is_empty() {
        return line(nothing);
    }
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|cell| clean(cell)).collect()).collect();
    let mut widths: Vec<usize> = heading.iter().map(|word| word.chars().count()).collect();
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count().min(WIDEST));
        }
    }
    let mut out = anstream::stdout().lock();
    let words: Vec<String> = heading.iter().map(|word| (*word).to_owned()).collect();
    writeln!(out, "{HEAD}{}{PLAIN}", laid_out(&words, &widths))?;
    for row in &rows {
        writeln!(out, "{}", laid_out(row, &widths))?;
    }
    Ok(())
}

fn laid_out(cells: &[String], widths: &[usize]) -> String {
    let last = cells.len().saturating_sub(1);
    let mut out = String::new();
    for (at, (cell, width)) in cells.iter().zip(widths).enumerate() {
        if at == last {
            out.push_str(cell);
        } else {
            let shown = if cell.chars().count() > *width {
                cell.chars().take(width.saturating_sub(1)).chain(['…']).collect()
            } else {
                cell.clone()
            };
            out.push_str(&format!("{shown:<width$}  "));
        }
    }
    out.trim_end().to_owned()
}

/// Prints name and value in two columns.
pub fn pairs(pairs: &[(&str, String)]) -> Result<()> {
    let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    let mut out = anstream::stdout().lock();
    for (name, value) in pairs.iter().filter(|(_, value)| !value.is_empty()) {
        writeln!(out, "{HEAD}{name:<width$}{PLAIN}  {}", clean(value))?;
    }
    Ok(())
}

/// Without control characters, so that nothing in a log can steer a terminal.
pub fn clean(text: &str) -> String {
    text.chars().map(|one| if one.is_control() { '·' } else { one }).collect()
}

/// A value of a nested document by its dotted path, as text; empty where it is absent.
pub fn text(document: &Value, path: &str) -> String {
    let mut at = document;
    for part in path.split('.') {
        match at.get(part) {
            Some(next) => at = next,
            None => return document.get(path).map(shown).unwrap_or_default(),
        }
    }
    shown(at)
}

/// A value as a cell shows it.
pub fn shown(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(shown).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

/// A progress line on a terminal; on anything else, one line a step.
pub struct Progress(indicatif::ProgressBar);

impl Progress {
    /// Begins.
    pub fn begin(quiet: bool) -> Self {
        if quiet || !std::io::IsTerminal::is_terminal(&std::io::stderr()) {
            return Self(indicatif::ProgressBar::hidden());
        }
        let bar = indicatif::ProgressBar::new_spinner();
        bar.enable_steady_tick(std::time::Duration::from_millis(120));
        Self(bar)
    }

    /// Says what is being done.
    pub fn say(&self, text: &str) {
        if self.0.is_hidden() {
            anstream::eprintln!("{text}");
        } else {
            self.0.set_message(text.to_owned());
        }
    }

    /// Ends, leaving nothing behind.
    pub fn end(self) {
        self.0.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_are_found_nested_or_flat_and_cannot_steer_a_terminal() {
        let document = json!({"source": {"ip": "203.0.113.7"}, "host.name": "web1", "tags": ["a", "b"]});
        assert_eq!(text(&document, "source.ip"), "203.0.113.7");
        assert_eq!(text(&document, "host.name"), "web1");
        assert_eq!(text(&document, "tags"), "a, b");
        assert_eq!(text(&document, "absent.one"), "");
        assert_eq!(clean("a\u{1b}[31mb\n"), "a·[31mb·");
    }

    #[test]
    fn columns_line_up_and_long_cells_are_cut() {
        let widths = [4, 3];
        assert_eq!(laid_out(&["ab".into(), "c".into()], &widths), "ab    c");
        assert_eq!(laid_out(&["abcdef".into(), "c".into()], &widths), "abc…  c");
    }
}
