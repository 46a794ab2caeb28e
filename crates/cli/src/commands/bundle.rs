//! `bundle`: building and verifying rule bundles without a manager, and sending one to it.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Subcommand;
use reqwest::Method;
use sakimori_content::bundle::{self, Draft};
use sakimori_content::{files, keys};
use sakimori_manager::sealing;
use sakimori_runtime::sealing::is_sealed;
use serde_json::json;

use super::backup::own_config;
use super::{now, with_api};
use crate::args::Shared;
use crate::output::{self, text};

#[derive(Debug, Subcommand)]
pub enum BundleCommand {
    /// Build and sign a bundle of a folder's content
    #[command(
        after_help = "Example:\n  sakimori bundle build --content content --key bundle.key --number 7 --out rules.bundle"
    )]
    Build {
        /// Folder with logs/, sigma/ and playbooks/; the content of this program where absent
        #[arg(long, value_name = "DIR")]
        content: Option<PathBuf>,
        /// Signing key; made where it is absent. This machine's manager has its own, sealed, in bundle.key of its
        /// state_dir
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        /// Number of the bundle; nobody takes one that is not above the one he has
        #[arg(long)]
        number: u64,
        /// Where it goes
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// What changed
        #[arg(long, default_value = "")]
        notes: String,
    },
    /// Verify a bundle
    #[command(after_help = "Example:\n  sakimori bundle verify rules.bundle --key ed25519:5f0c…")]
    Verify {
        /// The bundle
        file: PathBuf,
        /// Public key of who may have signed it, ed25519:…
        #[arg(long)]
        key: String,
        /// Refuse it unless its number is above this
        #[arg(long, default_value_t = 0)]
        newer_than: u64,
    },
    /// Show the bundle that the manager has in force
    Show,
    /// Send a newer bundle to the manager
    Install {
        /// The bundle
        file: PathBuf,
    },
}

pub fn run(shared: &Shared, command: BundleCommand) -> Result<ExitCode> {
    let json = shared.json;
    match command {
        BundleCommand::Build { content, key, number, out, notes } => {
            let content = match &content {
                Some(dir) => files::read_dir(dir)?,
                None => files::builtin(),
            };
            let sealed = std::fs::read(&key).is_ok_and(|bytes| is_sealed(&bytes));
            let key = match sealed {
                true => sealing::bundle_key(&own_config(shared, None)?.1, &key)?,
                false => keys::load_or_make(&key)?,
            };
            let draft = Draft { created: Some(now()), notes, ..Draft::from(number) };
            let bytes = bundle::build(&content, draft, &key)?;
            std::fs::write(&out, &bytes).with_context(|| format!("cannot write {}", out.display()))?;
            let public = keys::public_text(&key.verifying_key());
            if json {
                output::json(
                    &json!({ "file": out, "number": number, "files": content.len(), "size": bytes.len(), "key": public }),
                )?;
            } else {
                output::line(format!(
                    "{} holds {} files as bundle {number}, signed by {public}",
                    out.display(),
                    content.len()
                ))?;
            }
        }
        BundleCommand::Verify { file, key, newer_than } => {
            let key = keys::parse_public(&key)?;
            let found = bundle::verify(&read(&file)?, &key, newer_than)
                .with_context(|| format!("{} is refused", file.display()))?;
            if json {
                output::json(&json!({ "number": found.number, "files": found.files.len(), "notes": found.notes }))?;
            } else {
                output::line(format!(
                    "bundle {} with {} files is whole and signed by that key",
                    found.number,
                    found.files.len()
                ))?;
            }
        }
        BundleCommand::Show => {
            return with_api(shared, async |api| show(&api.get("/api/v1/bundles/current", &[]).await?, json));
        }
        BundleCommand::Install { file } => {
            let bytes = read(&file)?;
            return with_api(shared, async |api| {
                show(&api.bytes(Method::PUT, "/api/v1/bundles/current", bytes).await?, json)
            });
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn read(file: &PathBuf) -> Result<Vec<u8>> {
    std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))
}

fn show(bundle: &serde_json::Value, json: bool) -> Result<()> {
    if json {
        return output::json(bundle);
    }
    let pairs: Vec<(&str, String)> =
        ["number", "created", "files", "rules", "size", "notes"].map(|name| (name, text(bundle, name))).into();
    output::pairs(&pairs)
}
