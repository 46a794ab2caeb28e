//! Writes what this version's agent leaves on a disk into the tree (`crates/agent/tests/golden/<version>`), for every later
//! version to read. Done once a release, as root, after its number was raised; a set that is there stays as it is.

use std::process::Command;

use anyhow::{Context, ensure};

/// Runs the test that writes.
pub fn run() -> anyhow::Result<()> {
    let status = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["test", "--locked", "--workspace", "--test", "golden", "--"])
        .args(["--exact", "the_set_of_this_version_is_written_when_asked_for", "--nocapture"])
        .env("SAKIMORI_GOLDEN", "1")
        .status()
        .context("cannot start cargo")?;
    ensure!(status.success(), "the set was not written; see above");
    println!("written; look at it, and commit crates/agent/tests/golden with the release");
    Ok(())
}
