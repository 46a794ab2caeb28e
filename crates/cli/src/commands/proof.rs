//! `proof`: whether each host's modules, and each channel for messages, are proven to work.

use anyhow::{Result, bail};
use serde_json::{Value, json};

use crate::api::Api;
use crate::output::{self, text};

/// Most hosts in one listing.
const MOST: usize = 10_000;

/// Shows it. An error where something is not proven, so that a script sees it.
pub async fn run(api: &Api, json: bool) -> Result<()> {
    let hosts = api.list("/api/v1/proof", &[], MOST).await?;
    let channels = api.get("/api/v1/proof/channels", &[]).await?;
    let channels = channels.get("items").and_then(Value::as_array).cloned().unwrap_or_default();
    let of_host = |host: &Value| {
        let modules = host.get("modules").and_then(Value::as_array).cloned().unwrap_or_default();
        let name = text(host, "host");
        modules.into_iter().map(move |proof| (name.clone(), proof)).collect::<Vec<_>>()
    };
    let channel = |proof: &Value| ("(messages)".to_owned(), proof.clone());
    let all: Vec<(String, Value)> = hosts.iter().flat_map(of_host).chain(channels.iter().map(channel)).collect();
    if json {
        output::json(&json!({ "hosts": hosts, "channels": channels }))?;
    } else {
        let rows: Vec<Vec<String>> = all.iter().map(|(host, proof)| row(host, proof)).collect();
        let nothing = "no host is enrolled; sakimori agents token makes a token for one";
        output::table(&["host", "module", "state", "last proven", "ms", "what"], &rows, nothing)?;
    }
    match all.iter().filter(|(_, proof)| text(proof, "state") != "proven").count() {
        0 => Ok(()),
        open => bail!("{open} of {} are not proven within the last day", all.len()),
    }
}

fn row(host: &str, proof: &Value) -> Vec<String> {
    let of = |name: &str| text(proof, name);
    vec![host.to_owned(), of("subject"), of("state"), of("proven"), of("took_ms"), of("detail")]
}
