//! `agents`: which hosts are protected and how they are, taking one out, and the tokens with which hosts join.

use std::net::IpAddr;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use reqwest::Method;
use sakimori_wire::token::EnrolmentToken;
use serde_json::{Value, json};

use crate::api::{Api, part};
use crate::output::{self, text};

#[derive(Debug, Subcommand)]
pub enum AgentsCommand {
    /// List agents: connected, away, silent, stopped, retired or revoked
    List {
        /// Those in this state
        #[arg(long = "in", value_name = "STATE")]
        of: Option<String>,
    },
    /// Show an agent
    Show {
        /// Its id
        id: String,
    },
    /// Revoke an agent: its certificate is worth nothing from now on
    Revoke {
        /// Its id
        id: String,
    },
    /// Forget a revoked agent; its events stay
    Forget {
        /// Its id
        id: String,
    },
    /// Have a host scan paths for malware
    #[command(
        after_help = "What is found is alerted and quarantined as policy and playbooks of the host say; a scan that \
        is under way is ended by: sakimori actions undo ID. With --wait: exit code 0 nothing found, 1 something found, 2 \
        not everything could be judged, or it did not run to its end.\n\nExamples:\n  \
        sakimori agents scan web1 /srv/www --wait\n  \
        sakimori agents scan web1 / --exclude /var/lib/docker --cpu 10 --reason 'after the incident'"
    )]
    Scan(super::scans::Scan),
    /// Make a token with which a host joins, or a group of hosts; it is shown once
    #[command(after_help = "Examples:\n  \
        sakimori agents token --name web1\n  \
        sakimori agents token --group web --uses 50 --expires 7d --from 10.0.0.0/8\n\
        On the host: sudo sakimori-agent enroll TOKEN. In an image or a launch template: the token in \
        /etc/sakimori/enrolment.token, mode 600; each machine enrols itself at its first boot.")]
    Token(NewToken),
    /// List tokens with which hosts join
    Tokens,
    /// Take a token back; hosts that joined by it stay
    TakeBack {
        /// Its id
        id: String,
    },
}

/// What a token is to be.
#[derive(Debug, Args)]
pub struct NewToken {
    /// Name for people [default: the first group, or "host"]
    #[arg(long)]
    name: Option<String>,
    /// Group that its hosts belong to: a tag, and the policy layer group:NAME
    #[arg(long = "group", visible_alias = "tag", value_name = "NAME")]
    groups: Vec<String>,
    /// How many hosts it may enrol
    #[arg(long, default_value_t = 1)]
    uses: u32,
    /// How long it is good for: 12h, 7d, 8w
    #[arg(long, default_value = "24h", value_parser = hours)]
    expires: u32,
    /// Network from which it may be used; anywhere where none is named
    #[arg(long = "from", value_name = "NETWORK")]
    networks: Vec<sakimori_model::Network>,
}

/// Hours of a time like 12h, 7d or 8w.
fn hours(text: &str) -> Result<u32> {
    let unit = |text: &str| match text {
        "h" => Some(1),
        "d" => Some(24),
        "w" => Some(24 * 7),
        _ => None,
    };
    let at = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let (number, name) = text.split_at(at);
    match (number.parse::<u32>().ok(), unit(name)) {
        (Some(number), Some(hours)) if number > 0 => Ok(number.saturating_mul(hours)),
        _ => bail!("expected a time like 12h, 7d or 8w"),
    }
}

pub async fn run(api: &Api, command: AgentsCommand, json: bool) -> Result<()> {
    let path = |id: &str| format!("/api/v1/agents/{}", part(id));
    match command {
        AgentsCommand::List { of } => {
            let mut found = api.list("/api/v1/agents", &[], 100_000).await?;
            found.retain(|agent| of.as_ref().is_none_or(|state| text(agent, "state") == *state));
            listed(&found, &["id", "name", "state", "state_since", "last_seen", "tags"], "no agents", json)
        }
        AgentsCommand::Show { id } => {
            let agent = api.get(&path(&id), &[]).await?;
            if json {
                return output::json(&agent);
            }
            let names = ["id", "name", "state", "state_since", "last_seen", "enrolled", "token", "tags"];
            let mut pairs: Vec<(&str, String)> = names.iter().map(|name| (*name, text(&agent, name))).collect();
            pairs.extend(agent.pointer("/status/scans").map(scans).unwrap_or_default());
            output::pairs(&pairs)?;
            // What each module does, and what it does not see.
            let modules = agent.pointer("/status/modules").and_then(Value::as_array).cloned().unwrap_or_default();
            let row = |module: &Value| ["id", "state", "detail"].map(|name| text(module, name)).to_vec();
            let rows: Vec<Vec<String>> = modules.iter().map(row).collect();
            if rows.is_empty() { Ok(()) } else { output::table(&["module", "state", "what"], &rows, "") }
        }
        AgentsCommand::Revoke { id } => {
            let agent = api.send(Method::POST, &format!("{}/revoke", path(&id)), &json!({})).await?;
            if json { output::json(&agent) } else { output::line(format!("{id} is revoked")) }
        }
        AgentsCommand::Forget { id } => {
            api.delete(&path(&id)).await?;
            if json { output::json(&json!({ "deleted": id })) } else { output::line(format!("{id} is forgotten")) }
        }
        AgentsCommand::Scan(scan) => super::scans::run(api, scan, json).await.map(|_| ()),
        AgentsCommand::Token(new) => make(api, &new, json).await,
        AgentsCommand::Tokens => {
            let found = api.list("/api/v1/enrolment-tokens", &[], 10_000).await?;
            let names = ["id", "name", "tags", "uses", "most_uses", "networks", "expires", "used", "created_by"];
            listed(&found, &names, "no enrolment tokens", json)
        }
        AgentsCommand::TakeBack { id } => {
            api.delete(&format!("/api/v1/enrolment-tokens/{}", part(&id))).await?;
            if json { output::json(&json!({ "deleted": id })) } else { output::line(format!("{id} is taken back")) }
        }
    }
}

/// How scans of a host stand, where there is something to say.
fn scans(scans: &serde_json::Value) -> Vec<(&'static str, String)> {
    let figures = |scan: &serde_json::Value| {
        let part = |name: &str| text(scan, name);
        format!("{} {}: {} files, {} found", part("name"), part("state"), part("counts.files"), part("counts.found"))
    };
    let there = |name: &str| scans.get(name).filter(|scan| scan.is_object());
    let mut rows = Vec::new();
    rows.extend(there("now").map(|scan| ("scan", figures(scan))));
    rows.extend(there("last").map(|scan| ("last scan", format!("{}, {}", figures(scan), text(scan, "ended")))));
    let turns = scans.get("next").and_then(serde_json::Value::as_array);
    let next = turns.and_then(|turns| turns.iter().min_by_key(|turn| text(turn, "at")));
    rows.extend(next.map(|turn| ("next scan", format!("{} at {}", text(turn, "name"), text(turn, "at")))));
    rows
}

async fn make(api: &Api, new: &NewToken, json: bool) -> Result<()> {
    let name = new.name.clone().or_else(|| new.groups.first().cloned()).unwrap_or_else(|| "host".into());
    let networks: Vec<String> = new.networks.iter().map(ToString::to_string).collect();
    let body = json!({
        "name": name, "tags": new.groups, "hours": new.expires, "uses": new.uses, "networks": networks,
    });
    let made = api.send(Method::POST, "/api/v1/enrolment-tokens", &body).await?;
    if json {
        return output::json(&made);
    }
    let token = text(&made, "token");
    output::line(&token)?;
    if only_here(&token) {
        anstream::eprintln!(
            "it is good on this machine only, to which the manager listens; for others: sakimori down, then sakimori up \
             --link ADDRESS:7601, with an address of this machine that they reach"
        );
    }
    anstream::eprintln!("this is shown once; on the host: sudo sakimori-agent enroll TOKEN");
    Ok(())
}

/// Does a token lead to no other machine's manager than one's own?
fn only_here(token: &str) -> bool {
    let Ok(token) = token.parse::<EnrolmentToken>() else { return false };
    let address = token.host_port().and_then(|(host, _)| host.parse::<IpAddr>().ok());
    address.is_some_and(|address| address.is_loopback() || address.is_unspecified())
}

fn listed(found: &[serde_json::Value], names: &[&str], nothing: &str, json: bool) -> Result<()> {
    if json {
        return output::json(&found);
    }
    let row = |one: &serde_json::Value| names.iter().map(|name| text(one, name)).collect();
    output::table(names, &found.iter().map(row).collect::<Vec<Vec<String>>>(), nothing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_says_whether_it_leads_to_another_machine() {
        let leads = |address: &str| {
            let token = EnrolmentToken { address: address.into(), ca_sha256: [7; 32], secret: "s".into() };
            !only_here(&token.to_string())
        };
        assert!(leads("192.0.2.1:7601") && leads("manager.example:7601") && leads("[2001:db8::1]:7601"));
        assert!(!leads("127.0.0.1:7601") && !leads("0.0.0.0:7601") && !leads("[::]:7601") && !leads("[::1]:7601"));
    }

    #[test]
    fn a_host_s_scans_are_shown_where_there_are_some() {
        assert!(scans(&serde_json::Value::Null).is_empty());
        let scan = json!({"name": "n", "state": "scanning", "counts": {"files": 5, "found": 1}});
        let turns = json!([{"name": "b", "at": "2026-12-02"}, {"name": "a", "at": "2026-12-01"}]);
        let rows = scans(&json!({"now": scan, "last": null, "next": turns}));
        assert_eq!(rows, [("scan", "n scanning: 5 files, 1 found".into()), ("next scan", "a at 2026-12-01".into())]);
    }

    #[test]
    fn a_time_has_a_number_and_a_unit() {
        assert_eq!((hours("12h").unwrap(), hours("7d").unwrap(), hours("2w").unwrap()), (12, 168, 336));
        for wrong in ["", "7", "d", "0h", "7m", "-1h", "1.5d", "７d"] {
            assert!(hours(wrong).is_err(), "{wrong}");
        }
    }
}
