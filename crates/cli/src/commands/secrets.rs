//! `secrets`: named secrets of the tenant, and the key that seals everything.

use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Subcommand;
use reqwest::Method;
use sakimori_runtime::sealing::Ring;
use serde_json::{Value, json};

use super::with_api;
use crate::api::{Api, part};
use crate::args::Shared;
use crate::output::{self, text};

/// Largest secret, in bytes.
const MOST: u64 = 64 << 10;

#[derive(Debug, Subcommand)]
pub enum SecretsCommand {
    /// List secrets: names and history, never values
    List,
    /// Set or replace a secret; its value comes from standard input and is never shown again
    #[command(after_help = "Examples:\n  sakimori secrets set ops < ops.secret\n  \
        openssl rand -hex 32 | sakimori secrets set ops\n\n\
        A channel of the manager's configuration signs by it: secret = \"ops\" in [[notify]]; one of another tenant than \
        default by \"tenant/ops\".")]
    Set {
        /// Its name
        name: String,
    },
    /// Delete a secret
    Delete {
        /// Its name
        name: String,
    },
    /// Show which key seals secrets, and where it lies; not the key
    Key,
    /// Make a new sealing key, and seal everything anew under it
    #[command(
        after_help = "Examples:\n  sakimori secrets rotate\n  sakimori secrets rotate --forget-older      after a leak\n\n\
        Then copy the key file again to where you keep it. Older keys stay in it, since they open backups that were made \
        before; without them such a backup needs a copy of the former file."
    )]
    Rotate {
        /// Take older keys out of the key file
        #[arg(long)]
        forget_older: bool,
    },
    /// Write a new sealing key into a file, for a manager that gets its key by systemd
    #[command(
        after_help = "Example:\n  sakimori secrets keygen seal.key && systemd-creds encrypt --name=sakimori-seal-key \
        seal.key /etc/credstore.encrypted/sakimori-seal-key"
    )]
    Keygen {
        /// The file; nothing is written over
        file: PathBuf,
    },
}

pub fn run(shared: &Shared, command: SecretsCommand) -> Result<ExitCode> {
    let json = shared.json;
    match command {
        SecretsCommand::Keygen { file } => keygen(&file, json),
        other => with_api(shared, async |api| ask(&api, other, json).await),
    }
}

async fn ask(api: &Api, command: SecretsCommand, json: bool) -> Result<()> {
    match command {
        SecretsCommand::List => {
            let found = api.list("/api/v1/secrets", &[], 10_000).await?;
            if json {
                return output::json(&found);
            }
            let names = ["tenant", "name", "changed", "changed_by"];
            let mut rows: Vec<Vec<String>> = Vec::new();
            for secret in &found {
                let used: Vec<&str> =
                    secret["used_by"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
                rows.push(names.iter().map(|name| text(secret, name)).chain([used.join(", ")]).collect());
            }
            output::table(&["tenant", "name", "changed", "changed_by", "used_by"], &rows, "no secrets")
        }
        SecretsCommand::Set { name } => {
            let value = value()?;
            let set = api.bytes(Method::PUT, &format!("/api/v1/secrets/{}", part(&name)), value).await?;
            let said = format!("{} of the tenant {} is set", text(&set, "name"), text(&set, "tenant"));
            if json { output::json(&set) } else { output::line(said) }
        }
        SecretsCommand::Delete { name } => {
            api.delete(&format!("/api/v1/secrets/{}", part(&name))).await?;
            if json { output::json(&json!({ "deleted": name })) } else { output::line(format!("{name} is deleted")) }
        }
        SecretsCommand::Rotate { forget_older } => {
            let body = json!({ "forget_older": forget_older });
            let done = api.send(Method::POST, "/api/v1/sealing/rotate", &body).await?;
            if json {
                return output::json(&done);
            }
            let sealing = done.get("sealing").unwrap_or(&Value::Null);
            output::line(format!(
                "{} secrets are sealed anew under the key {}; copy {} to where you keep it",
                text(&done, "sealed"),
                text(sealing, "key"),
                text(sealing, "file")
            ))
        }
        SecretsCommand::Key | SecretsCommand::Keygen { .. } => {
            let found = api.get("/api/v1/sealing", &[]).await?;
            if json {
                return output::json(&found);
            }
            let older: Vec<&str> =
                found.get("older").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
            output::pairs(&[("key", text(&found, "key")), ("older", older.join(", ")), ("file", text(&found, "file"))])
        }
    }
}

fn value() -> Result<Vec<u8>> {
    let mut value = Vec::new();
    std::io::stdin().take(MOST + 1).read_to_end(&mut value).context("cannot read standard input")?;
    if value.len() as u64 > MOST {
        bail!("a secret has at most {} KiB", MOST >> 10);
    }
    Ok(value)
}

fn keygen(path: &std::path::Path, json: bool) -> Result<ExitCode> {
    let ring = Ring::generate()?;
    let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| {
        std::io::Write::write_all(&mut file, ring.to_text().expose().as_bytes())?;
        file.sync_all()
    })
    .with_context(|| format!("cannot write {}", path.display()))?;
    let id = ring.newest().to_string();
    if json {
        output::json(&json!({ "file": path, "key": id }))?;
    } else {
        output::line(format!("{} holds the key {id}", path.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}
