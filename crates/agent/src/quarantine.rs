//! `sakimori-agent quarantine`: list, give back, delete. The running agent does it, by its ledger; where none runs, the
//! store itself is changed, and the ledger learns of it at the next start. What is given back is noted by content and
//! path first, so that protection leaves it alone from then on.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Subcommand;
use sakimori_host::quarantine::{Bounds, Quarantine};
use sakimori_wire::ipc::{Answer, Ask, QuarantineAsk};
use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::files::write_atomically;
use crate::{control, show};

/// Most files that are remembered as given back; the oldest goes first.
const MAX_GIVEN_BACK: usize = 10_000;

#[derive(Debug, Subcommand)]
pub enum QuarantineCommand {
    /// List quarantined files
    List,
    /// Put a file back where it was, exactly as it was, and leave it alone there from then on
    Restore {
        /// Its id, as `list` shows it
        id: String,
        /// Put it here instead
        #[arg(long, value_name = "PATH")]
        to: Option<PathBuf>,
    },
    /// Delete a file for good
    Delete {
        /// Its id, as `list` shows it
        id: String,
    },
}

/// Runs a command; `by` is who asks.
///
/// # Errors
/// No right, no such item, or something is in the way.
pub fn run(config: &Config, command: QuarantineCommand, by: String, json: bool) -> Result<ExitCode> {
    let folder = config.quarantine();
    if !folder.is_dir() {
        return match command {
            QuarantineCommand::List => {
                print_items(&[], json)?;
                Ok(ExitCode::SUCCESS)
            }
            QuarantineCommand::Restore { id, .. } | QuarantineCommand::Delete { id } => {
                bail!("there is no item {id}; nothing was ever quarantined on this host")
            }
        };
    }
    let ask = match command {
        QuarantineCommand::List => {
            list(&Quarantine::open(&folder, Bounds::default())?, json)?;
            return Ok(ExitCode::SUCCESS);
        }
        QuarantineCommand::Restore { id, to } => {
            let to = to.map(|path| std::path::absolute(&path)).transpose().context("cannot find that path")?;
            QuarantineAsk::Restore { id, to, by }
        }
        QuarantineCommand::Delete { id } => QuarantineAsk::Delete { id, by },
    };
    let done = if matches!(ask, QuarantineAsk::Restore { .. }) { "given back" } else { "deleted" };
    let socket = config.control_socket();
    let answer = if std::os::unix::net::UnixStream::connect(&socket).is_ok() {
        control::ask(&socket, &Ask::Quarantine(ask))?
    } else {
        alone(config, &ask)?;
        Answer::Done { count: 1, refused: Vec::new() }
    };
    show::done(answer, done, json)
}

/// Without a running agent.
fn alone(config: &Config, ask: &QuarantineAsk) -> Result<()> {
    let store = Quarantine::open(&config.quarantine(), Bounds::default())?;
    match ask {
        QuarantineAsk::Restore { id, to, .. } => {
            let item = store.item(id)?;
            if let Some(place) = to.clone().or_else(|| item.original_path()) {
                GivenBack::at(&config.given_back()).add(&item.sha256, &place)?;
            }
            store.restore(id, to.as_deref())?;
        }
        QuarantineAsk::Delete { id, .. } => store.delete(id)?,
    }
    Ok(())
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
    print_items(&items, json)?;
    if damaged > 0 {
        bail!("{damaged} items are damaged");
    }
    Ok(())
}

fn print_items(items: &[sakimori_host::quarantine::Item], json: bool) -> Result<()> {
    if json {
        anstream::println!("{}", serde_json::to_string_pretty(items)?);
        return Ok(());
    }
    let clean = |text: &str| text.chars().map(|one| if one.is_control() { '·' } else { one }).collect::<String>();
    for item in items {
        anstream::println!("{}  {}  {}  {}", item.id, item.taken, clean(&item.cause.rule), clean(&item.path));
    }
    anstream::println!("{} files in quarantine", items.len());
    Ok(())
}

/// What was given back, by content and path: a small file that root alone can read.
#[derive(Clone, Debug)]
pub struct GivenBack(PathBuf);

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    sha256: String,
    path: PathBuf,
}

impl GivenBack {
    /// The list in this file.
    pub fn at(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// Notes one more.
    ///
    /// # Errors
    /// The disk says no.
    pub fn add(&self, sha256: &str, path: &Path) -> Result<()> {
        let entry = Entry { sha256: sha256.to_owned(), path: path.to_owned() };
        let mut entries = self.read();
        if entries.contains(&entry) {
            return Ok(());
        }
        if entries.len() >= MAX_GIVEN_BACK {
            entries.remove(0);
        }
        entries.push(entry);
        write_atomically(&self.0, &serde_json::to_vec(&entries)?, 0o600).context("cannot note what is given back")
    }

    /// Was this content given back at this place?
    pub fn has(&self, sha256: &str, path: &Path) -> bool {
        self.read().iter().any(|entry| entry.sha256 == sha256 && entry.path == path)
    }

    /// Was this content given back at any place?
    pub fn has_content(&self, sha256: &str) -> bool {
        self.read().iter().any(|entry| entry.sha256 == sha256)
    }

    fn read(&self) -> Vec<Entry> {
        std::fs::read(&self.0).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_given_back_is_known_by_content_and_place_and_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let list = GivenBack::at(&folder.path().join("given-back"));
        assert!(!list.has("aa", Path::new("/x")));
        list.add("aa", Path::new("/x")).unwrap();
        list.add("aa", Path::new("/x")).unwrap();
        assert_eq!(list.read().len(), 1);
        assert!(
            list.has("aa", Path::new("/x")) && !list.has("aa", Path::new("/y")) && !list.has("bb", Path::new("/x"))
        );
        std::fs::write(folder.path().join("given-back"), "half a li").unwrap();
        assert!(!list.has("aa", Path::new("/x")), "a damaged list gives nothing free");
    }
}
