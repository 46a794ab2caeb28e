//! `sakimori-agent triage`: collect a package of this host, list, check, copy out and delete those that are kept. Root alone can.
//! What is in a package was written by an enemy perhaps, so it is looked at by a process that has given up everything else.

pub mod store;

use std::io::{IsTerminal, Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Subcommand;
use sakimori_respond::actions::collect_triage;
use sakimori_sys::sandbox::{self, Sandbox};
use sakimori_wire::ipc::{ActAsk, Ask};
use sakimori_wire::triage::{self, MAX_PACKAGE};
use serde_json::json;

use crate::config::Config;
use crate::files::write_atomically;
use crate::{control, show};
use store::Store;

/// What looking at a package takes: it, and the largest file in it.
const CONFINED: Sandbox = Sandbox { executable_memory: false, memory: 4 << 30, descriptors: 64 };
/// Longest CA that is read.
const MAX_CA: u64 = 256 << 10;

#[derive(Debug, Subcommand)]
pub enum TriageCommand {
    /// Have the running agent make a package of this host; `list` shows it when it is done
    Collect,
    /// List the packages that are kept, oldest first
    List,
    /// Check a package against its signature and the manager's CA, and list what is in it
    Show {
        /// Its name, as `list` and the action's reason have it
        name: String,
        /// Print this file of it
        #[arg(long, value_name = "NAME")]
        file: Option<String>,
    },
    /// Copy one out; `sakimori triage verify` checks it anywhere
    #[command(
        after_help = "Example:\n  sakimori-agent triage export 1767225600123456-0123456789abcdef --to web1.triage.tar"
    )]
    Export {
        /// Its name
        name: String,
        /// Where to; standard output where it is not given
        #[arg(long, value_name = "FILE")]
        to: Option<PathBuf>,
    },
    /// Delete one
    Delete {
        /// Its name
        name: String,
    },
}

/// Runs a command.
///
/// # Errors
/// No right, no such package, or something is in the way.
pub fn run(config: &Config, command: TriageCommand, by: String, json: bool) -> Result<ExitCode> {
    if let TriageCommand::Collect = command {
        let target = crate::host_facts::HostFacts::read(config.agent.host_name.as_deref()).name;
        let action = collect_triage::ID.to_owned();
        let ask = Ask::Act(ActAsk { action, target, seconds: None, inputs: Default::default(), by });
        return show::acted(control::ask(&config.control_socket(), &ask)?, json);
    }
    let folder = config.triage();
    if !folder.is_dir() {
        match command {
            TriageCommand::List => print_items(&[], json)?,
            _ => bail!("there is no package; none was ever made on this host"),
        }
        return Ok(ExitCode::SUCCESS);
    }
    let mut store = Store::open(&folder)?;
    match command {
        TriageCommand::Collect => {}
        TriageCommand::List => print_items(store.items(), json)?,
        TriageCommand::Show { name, file } => look(config, &store, &name, file.as_deref(), json)?,
        TriageCommand::Export { name, to } => {
            let mut bytes = Vec::new();
            store.read(&name)?.take(MAX_PACKAGE * 2).read_to_end(&mut bytes).context("cannot read the package")?;
            match to {
                Some(path) if path.exists() => bail!("{} exists; name another file", path.display()),
                Some(path) => write_atomically(&std::path::absolute(path)?, &bytes, 0o600)?,
                None if std::io::stdout().is_terminal() => bail!("a package is not for a terminal; give --to FILE"),
                None => std::io::stdout().write_all(&bytes).context("cannot write to standard output")?,
            }
        }
        TriageCommand::Delete { name } => {
            store.delete(&name)?;
            anstream::println!("{name} is deleted");
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn print_items(items: &[store::Item], json: bool) -> Result<()> {
    if json {
        let list: Vec<_> =
            items.iter().map(|item| json!({"name": item.name, "made": item.made(), "bytes": item.size})).collect();
        anstream::println!("{}", serde_json::to_string_pretty(&list)?);
        return Ok(());
    }
    for item in items {
        anstream::println!("{}  {}  {} bytes", item.name, item.made(), item.size);
    }
    anstream::println!("{} packages", items.len());
    Ok(())
}

fn look(config: &Config, store: &Store, name: &str, file: Option<&str>, json: bool) -> Result<()> {
    let package = store.read(name)?;
    let ca = std::fs::File::open(config.identity().join(crate::worker_uplink::identity::CA)).ok();
    sandbox::enter(&CONFINED).context("cannot give up what looking at a package does not need")?;
    let mut bytes = Vec::new();
    package.take(MAX_PACKAGE * 2).read_to_end(&mut bytes).context("cannot read the package")?;
    let ca = ca.and_then(|ca| {
        let mut text = String::new();
        ca.take(MAX_CA).read_to_string(&mut text).ok().map(|_| text)
    });
    if let Some(wanted) = file {
        let (_, inner) = triage::open(&bytes[..])?;
        let mut found = None;
        triage::files(&inner, |name, bytes| {
            if name == wanted {
                found = Some(bytes.to_vec());
            }
            Ok(())
        })?;
        let found = found.with_context(|| format!("the package has no file {wanted}"))?;
        // For a terminal: nothing in it speaks to that.
        let text = String::from_utf8_lossy(&found).replace(|c: char| c.is_control() && c != '\n' && c != '\t', "?");
        return std::io::stdout().write_all(text.as_bytes()).context("cannot write to standard output");
    }
    let verified = triage::verify(&bytes[..], ca.as_deref())?;
    if json {
        let files = &verified.files;
        let of_the_ca = verified.of_the_ca;
        anstream::println!("{}", json!({"statement": verified.statement, "of_the_ca": of_the_ca, "files": files}));
        return Ok(());
    }
    for one in &verified.files {
        anstream::println!("{}  {:>9}  {}", one.sha256, one.size, one.name);
    }
    let of = if verified.of_the_ca { "the manager's CA knows who signed it" } else { "who signed it is not known" };
    let statement = &verified.statement;
    anstream::println!("{} made {} for {}: whole, and {of}", statement.host, statement.made, statement.action);
    Ok(())
}
