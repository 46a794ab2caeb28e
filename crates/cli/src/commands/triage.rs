//! `sakimori triage verify`: holds a triage package of a host against its signature, the manager's CA and its own list. Needs no
//! manager. What is in the package was written by an enemy perhaps, so it is looked at by a process that has given up all else.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Subcommand;
use sakimori_sys::sandbox::{self, Sandbox};
use sakimori_wire::triage::{self, MAX_PACKAGE};
use serde_json::json;

use crate::output;

/// What it takes: a package, and the largest file in it.
const CONFINED: Sandbox = Sandbox { executable_memory: false, memory: 4 << 30, descriptors: 64 };
/// Longest CA that is read.
const MAX_CA: u64 = 256 << 10;

#[derive(Debug, Subcommand)]
pub enum TriageCommand {
    /// Check a package, and list what is in it; exit code 2 where it is whole and nobody says whose key signed it
    #[command(
        after_help = "Examples:\n  sakimori triage verify web1.triage.tar --ca /var/lib/sakimori/manager/ca/ca.pem\n\
                            The CA is the manager's ca/ca.pem; each enrolled host has it as identity/ca.pem."
    )]
    Verify {
        /// The package, as `sakimori-agent triage export` wrote it
        file: PathBuf,
        /// Certificate of the manager's CA, PEM
        #[arg(long, value_name = "FILE")]
        ca: Option<PathBuf>,
    },
}

/// Runs a command.
pub fn run(command: &TriageCommand, json: bool) -> Result<ExitCode> {
    let TriageCommand::Verify { file, ca } = command;
    let open = |path: &PathBuf| File::open(path).with_context(|| format!("cannot open {}", path.display()));
    let (package, ca) = (open(file)?, ca.as_ref().map(open).transpose()?);
    sandbox::enter(&CONFINED).context("cannot give up what looking at a package does not need")?;
    let mut text = String::new();
    if let Some(ca) = &ca {
        ca.take(MAX_CA).read_to_string(&mut text).context("cannot read the CA")?;
    }
    let verified = triage::verify(package.take(MAX_PACKAGE * 2), ca.as_ref().map(|_| text.as_str()))?;
    if json {
        output::line(json!({
            "statement": verified.statement, "certificate": verified.certificate, "of_the_ca": verified.of_the_ca,
            "files": verified.files,
        }))?;
    } else {
        for one in &verified.files {
            output::line(format!("{}  {:>9}  {}", one.sha256, one.size, plain(&one.name)))?;
        }
        let statement = &verified.statement;
        output::line(format!(
            "{} (agent {}) made {} for action {}: whole, {} files",
            plain(&statement.host),
            plain(&statement.agent),
            statement.made,
            plain(&statement.action),
            verified.files.len()
        ))?;
        output::line(match verified.of_the_ca {
            true => "the manager's CA issued the certificate that signed it".to_owned(),
            false => format!(
                "signed by the certificate {} that is in it: give --ca, or compare that with the host's",
                verified.certificate
            ),
        })?;
    }
    Ok(if verified.of_the_ca { ExitCode::SUCCESS } else { ExitCode::from(2) })
}

/// For a terminal: nothing in it speaks to that.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}
