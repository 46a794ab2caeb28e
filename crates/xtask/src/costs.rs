//! What the heavy crates cost: the newest build report of cargo (`cargo build --timings`) as a table.
//!
//! The report is a page with its data as JSON in a script; each entry is one run of the compiler.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;

/// Crates in the table.
const MOST: usize = 25;
/// A crate that took less is not heavy, in seconds.
const HEAVY: f64 = 4.0;

/// One run of the compiler.
#[derive(Deserialize)]
struct Unit {
    name: String,
    version: String,
    duration: f64,
}

/// Prints the table.
///
/// # Errors
/// There is no report, or it has another form.
pub fn run() -> Result<()> {
    let report = folder().join("cargo-timing.html");
    let page = std::fs::read_to_string(&report)
        .with_context(|| format!("read {}; build with --timings first", report.display()))?;
    let units = units(&page).with_context(|| format!("{} has no data that is known here", report.display()))?;
    print!("{}", table(&units));
    Ok(())
}

fn folder() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    Path::new(&target).join("cargo-timings")
}

fn units(page: &str) -> Option<Vec<Unit>> {
    let (_, data) = page.split_once("UNIT_DATA = ")?;
    // The first value of what follows; the script goes on behind it.
    serde_json::Deserializer::from_str(data).into_iter().next()?.ok()
}

/// Runs of one crate (build script, library, tests) count together.
fn table(units: &[Unit]) -> String {
    let mut crates: BTreeMap<(&str, &str), f64> = BTreeMap::new();
    for unit in units {
        *crates.entry((&unit.name, &unit.version)).or_default() += unit.duration;
    }
    let all: f64 = crates.values().sum();
    let mut heavy: Vec<_> = crates.into_iter().filter(|(_, seconds)| *seconds >= HEAVY).collect();
    heavy.sort_by(|one, other| other.1.total_cmp(&one.1));
    let mut text = format!("compiled: {} units, {all:.0} s of compiler time\n", units.len());
    for ((name, version), seconds) in heavy.into_iter().take(MOST) {
        text.push_str(&format!("  {seconds:>6.1} s  {:>4.1} %  {name} {version}\n", 100.0 * seconds / all));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_heaviest_come_first_and_runs_of_one_crate_together() {
        let page = r#"<script>const UNIT_DATA = [
            {"i":0,"name":"light","version":"1.0.0","mode":"todo","duration":1.5},
            {"i":1,"name":"heavy","version":"2.0.0","mode":"todo","duration":6.0},
            {"i":2,"name":"heavy","version":"2.0.0","mode":"run-custom-build","duration":2.5},
            {"i":3,"name":"middle","version":"0.1.0","mode":"todo","duration":5.0}
        ];
        const CONCURRENCY_DATA = [];</script>"#;
        let table = table(&units(page).unwrap());
        let lines: Vec<_> = table.lines().collect();
        assert_eq!(lines[0], "compiled: 4 units, 15 s of compiler time");
        assert!(lines[1].ends_with("heavy 2.0.0") && lines[1].contains("8.5 s"), "{table}");
        assert!(lines[2].ends_with("middle 0.1.0"), "{table}");
        assert_eq!(lines.len(), 3);
        assert!(units("<html>").is_none());
    }
}
