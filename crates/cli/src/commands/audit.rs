//! `audit`: who changed what, and whether somebody altered the record of it.

use anyhow::{Result, bail};
use clap::Subcommand;
use serde_json::Value;

use crate::api::Api;
use crate::output::{self, text};

#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// List what was changed and by whom, newest first
    #[command(after_help = "Example:\n  sakimori audit list --limit 200 --json")]
    List {
        /// Most entries
        #[arg(long, default_value_t = 50)]
        limit: usize,
    },
    /// Go through the chains of hashes; exit code 1 where an entry was altered or is missing
    #[command(after_help = "Example:\n  sakimori audit verify && echo whole")]
    Verify,
}

pub async fn run(api: &Api, command: Option<AuditCommand>, json: bool) -> Result<()> {
    match command.unwrap_or(AuditCommand::List { limit: 50 }) {
        AuditCommand::List { limit } => {
            let found = api.list("/api/v1/audit", &[], limit).await?;
            if json {
                return output::json(&found);
            }
            let names = ["time", "tenant", "sequence", "actor", "action", "target", "address"];
            let rows: Vec<Vec<String>> =
                found.iter().map(|entry| names.iter().map(|name| text(entry, name)).collect()).collect();
            output::table(&names, &rows, "nothing was changed yet")
        }
        AuditCommand::Verify => {
            let answer = api.get("/api/v1/audit/verify", &[]).await?;
            let whole = answer.get("whole").and_then(Value::as_bool) == Some(true);
            if json {
                output::json(&answer)?;
            } else {
                show(&answer)?;
            }
            if !whole {
                bail!(
                    "an entry was altered or removed; compare the heads with those of a backup, and treat the manager's \
                     machine as broken into until you know by whom"
                );
            }
            Ok(())
        }
    }
}

fn show(answer: &Value) -> Result<()> {
    let chains = answer.get("chains").and_then(Value::as_array).cloned().unwrap_or_default();
    let rows: Vec<Vec<String>> = chains
        .iter()
        .map(|chain| {
            let broken = text(chain, "broken_at");
            let state = if broken.is_empty() { "whole".to_owned() } else { format!("BROKEN at entry {broken}") };
            vec![text(chain, "tenant"), text(chain, "log"), text(chain, "entries"), state, text(chain, "head")]
        })
        .collect();
    output::table(&["tenant", "log", "entries", "state", "head"], &rows, "nothing was changed yet")?;
    let list = |name: &str| answer.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
    for witness in list("witnesses") {
        if witness.get("agrees").and_then(Value::as_bool) != Some(true) {
            let (agent, chain) = (text(&witness, "agent"), text(&witness, "chain"));
            output::line(format!("NOT THE SAME: entry {} of {chain} as {agent} saw it", text(&witness, "sequence")))?;
        }
    }
    for broken in list("breaks") {
        output::line(format!(
            "BROKEN: {} of {}: {}",
            text(&broken, "kind"),
            text(&broken, "agent"),
            text(&broken, "detail")
        ))?;
    }
    Ok(())
}
