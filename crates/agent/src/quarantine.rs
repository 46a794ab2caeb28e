//! `sakimori-agent quarantine`: list, give back, delete. It works on the store itself, whether or not the agent runs.
//! What is given back is noted by its sum first, so that protection leaves it alone from then on.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Subcommand;
use sakimori_host::quarantine::{Bounds, Quarantine};

use crate::config::Config;
use crate::files::write_atomically;

#[derive(Debug, Subcommand)]
pub enum QuarantineCommand {
    /// List quarantined files
    List,
    /// Put a file back where it was, exactly as it was, and leave it alone from then on
    Restore {
        /// Its id
        id: String,
        /// Put it here instead
        #[arg(long, value_name = "PATH")]
        to: Option<PathBuf>,
    },
    /// Delete a file for good
    Delete {
        /// Its id
        id: String,
    },
}

/// Runs a command.
///
/// # Errors
/// No right, no such item, or something is in the way.
pub fn run(config: &Config, command: &QuarantineCommand, json: bool) -> Result<ExitCode> {
    let store = Quarantine::open(&config.quarantine(), Bounds::default())?;
    match command {
        QuarantineCommand::List => list(&store, json)?,
        QuarantineCommand::Restore { id, to } => {
            let item = store.item(id)?;
            note(&config.given_back(), &item.sha256)?;
            let path = store.restore(id, to.as_deref())?;
            anstream::println!("{} is back", path.display());
        }
        QuarantineCommand::Delete { id } => {
            store.delete(id)?;
            anstream::println!("{id} is deleted");
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn list(store: &Quarantine, json: bool) -> Result<()> {
    let (mut items, mut damaged) = (Vec::new(), 0);
    for item in store.list()? {
        match item {
            Ok(item) => items.push(item),
            Err(error) => {
                damaged += 1;
                anstream::eprintln!("{error}");
            }
        }
    }
    if json {
        anstream::println!("{}", serde_json::to_string_pretty(&items)?);
    } else {
        for item in &items {
            let clean =
                |text: &str| text.chars().map(|one| if one.is_control() { '·' } else { one }).collect::<String>();
            anstream::println!("{}  {}  {}  {}", item.id, item.taken, clean(&item.cause.rule), clean(&item.path));
        }
        anstream::println!("{} files in quarantine", items.len());
    }
    if damaged > 0 {
        bail!("{damaged} items are damaged");
    }
    Ok(())
}

/// Notes a sum as given back.
fn note(path: &Path, sha256: &str) -> Result<()> {
    let mut sums = given_back(path);
    if !sums.iter().any(|own| own == sha256) {
        sums.push(sha256.to_owned());
    }
    let text = sums.join("\n") + "\n";
    write_atomically(path, text.as_bytes(), 0o600).context("cannot note what is given back")
}

/// Sums of what was given back.
pub fn given_back(path: &Path) -> Vec<String> {
    std::fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}
