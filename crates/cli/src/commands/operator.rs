//! `operator`: keys of people, and their signatures on what goes beyond a host's mandate.
//!
//! A key lives in a file of its owner's (mode 0600) on his own machine; it is never sent anywhere. What waits is
//! exported, read and signed there, and the signature is submitted:
//!
//! ```text
//! sakimori operator waiting → export ID > order.json → sign --key KEY order.json > signed.json → submit signed.json
//! ```

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Subcommand;
use reqwest::Method;
use sakimori_content::keys::{self, Use};
use sakimori_model::Order;
use sakimori_respond::seal::{Act, seal};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::with_api;
use crate::api::{Api, part};
use crate::args::Shared;
use crate::output::{self, text};

/// Largest file that is read.
const MAX_BYTES: u64 = 1 << 20;

#[derive(Debug, Subcommand)]
pub enum OperatorCommand {
    /// Make a key, for its owner's machine; prints the public half for the mandates of hosts
    #[command(after_help = "Example:\n  sakimori operator keygen ~/.config/sakimori/operator.key")]
    Keygen {
        /// File of the key
        file: PathBuf,
    },
    /// Print the public half of a key
    Public {
        /// File of the key
        file: PathBuf,
    },
    /// List what waits for its host, and what it lacks
    Waiting,
    /// Print something that waits, for signing
    Export {
        /// Id of the action
        id: String,
    },
    /// Sign something, without a manager; says on standard error what it is
    #[command(after_help = "Example:\n  sakimori operator sign --key operator.key order.json > signed.json")]
    Sign {
        /// File of the key
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        /// For how many seconds the signature is good
        #[arg(long, default_value_t = 86_400)]
        valid: u32,
        /// What `export` printed; "-" for standard input
        file: PathBuf,
    },
    /// Hand a signature in
    Submit {
        /// What `sign` printed; "-" for standard input
        file: PathBuf,
    },
}

/// Something to be signed, as it is exported.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Paper {
    /// Agent of the host.
    agent: String,
    /// Id of the action.
    id: String,
    /// `order` or `undo`.
    kind: String,
    /// The order, or who asked for the undo.
    content: Value,
}

/// A signature, as it is submitted.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Signed {
    agent: String,
    id: String,
    kind: String,
    seal: String,
}

pub fn run(shared: &Shared, command: OperatorCommand) -> Result<ExitCode> {
    let done = Ok(ExitCode::SUCCESS);
    match command {
        OperatorCommand::Keygen { file } => {
            if file.exists() {
                bail!("{} is there already; choose another name", file.display());
            }
            let key = keys::load_or_make_for(&file, Use::Operator)?;
            eprintln!("the key is in {}; keep it, and never on the manager", file.display());
            output::line(keys::public_text(&key.verifying_key()))?;
            done
        }
        OperatorCommand::Public { file } => {
            output::line(keys::public_text(&keys::load_for(&file, Use::Operator)?.verifying_key()))?;
            done
        }
        OperatorCommand::Sign { key, valid, file } => {
            let paper: Paper = serde_json::from_str(&read(&file)?).context("expected what operator export prints")?;
            output::json(&sign(&key, valid, paper)?)?;
            done
        }
        OperatorCommand::Waiting => with_api(shared, async |api| waiting(&api, shared.json).await),
        OperatorCommand::Export { id } => with_api(shared, async |api| output::json(&find(&api, &id).await?)),
        OperatorCommand::Submit { file } => {
            let signed: Signed = serde_json::from_str(&read(&file)?).context("expected what operator sign prints")?;
            with_api(shared, async |api| submit(&api, signed, shared.json).await)
        }
    }
}

fn read(file: &Path) -> Result<String> {
    use std::io::Read;
    let mut text = String::new();
    if file == Path::new("-") {
        std::io::stdin().take(MAX_BYTES).read_to_string(&mut text).context("cannot read standard input")?;
    } else {
        let open = std::fs::File::open(file).with_context(|| format!("cannot read {}", file.display()))?;
        open.take(MAX_BYTES).read_to_string(&mut text).with_context(|| format!("cannot read {}", file.display()))?;
    }
    Ok(text)
}

fn sign(key: &Path, valid: u32, paper: Paper) -> Result<Signed> {
    let key = keys::load_for(key, Use::Operator)?;
    let now = super::now();
    let until = now.plus_secs(i64::from(valid));
    let Paper { agent, id, kind, content } = paper;
    let order: Option<Order> = match kind.as_str() {
        "undo" => None,
        "order" => Some(serde_json::from_value(content.clone()).context("the order is not understood")?),
        other => bail!("cannot sign a {other}; expected an order or an undo"),
    };
    let by = text(&content, "by");
    let act = match &order {
        None => Act::Undo { action: &id, by: &by },
        Some(order) if order.id == id => Act::Order(order),
        Some(order) => bail!("the order has the id {} and is exported as {id}", order.id),
    };
    // Told from what is signed, not from words beside it.
    match &order {
        None => eprintln!("undo of action {id}, asked for by {by}"),
        Some(order) => {
            let end = order.expiry.map_or_else(|| "as policy says".to_owned(), |end| end.to_string());
            eprintln!("{} {} until {end}: {} ({})", order.action, order.target, order.cause.title, order.cause.by);
        }
    }
    eprintln!("for host {agent}; the signature is good until {until}");
    let seal = hex::encode(seal(&key, &agent, act, now, until));
    Ok(Signed { agent, id, kind, seal })
}

async fn all(api: &Api) -> Result<Vec<Value>> {
    let answer = api.get("/api/v1/orders", &[]).await?;
    Ok(answer.get("items").and_then(Value::as_array).cloned().unwrap_or_default())
}

async fn find(api: &Api, id: &str) -> Result<Paper> {
    let items = all(api).await?;
    let item = items
        .iter()
        .find(|item| text(item, "id") == id)
        .with_context(|| format!("nothing waits under the id {id}; sakimori operator waiting lists what does"))?;
    let content = item.get("content").cloned().unwrap_or_default();
    Ok(Paper { agent: text(item, "agent"), id: text(item, "id"), kind: text(item, "kind"), content })
}

async fn waiting(api: &Api, json: bool) -> Result<()> {
    let items = all(api).await?;
    if json {
        return output::json(&items);
    }
    let joined = |item: &Value, name: &str| {
        let list = item.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
        let names = list.iter().filter_map(Value::as_str).map(|one| one.split(" ed25519:").next().unwrap_or(one));
        names.collect::<Vec<_>>().join(", ")
    };
    let rows: Vec<Vec<String>> = items
        .iter()
        .map(|item| {
            let target = super::actions::target_of(&json!({ "order": item.get("content") }));
            let lacks = match text(item, "lacks").as_str() {
                "0" => "the host's answer".to_owned(),
                number => format!("{number} of {}", joined(item, "signers")),
            };
            let (id, kind, agent) = (text(item, "id"), text(item, "kind"), text(item, "agent"));
            vec![id, kind, target, agent, lacks, joined(item, "signed")]
        })
        .collect();
    output::table(&["id", "kind", "target", "agent", "lacks", "signed by"], &rows, "nothing waits")
}

async fn submit(api: &Api, signed: Signed, json: bool) -> Result<()> {
    let path = format!("/api/v1/orders/{}/signatures", part(&signed.id));
    let body = json!({ "agent": signed.agent, "kind": signed.kind, "seal": signed.seal });
    let answer = api.send(Method::POST, &path, &body).await?;
    if json {
        return output::json(&answer);
    }
    output::line(format!("the signature is with {}; its host judges it now", signed.id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use sakimori_model::Timestamp;
    use sakimori_respond::seal;

    #[test]
    fn what_is_exported_is_signed_for_its_host_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("operator.key");
        let key = keys::load_or_make_for(&file, Use::Operator).unwrap().verifying_key();
        let order = json!({
            "id": "a", "action": "block_address", "target": {"network": "192.0.0.0/16"}, "expiry": null,
            "cause": {"alert": "", "rule": "", "title": "by hand", "events": [], "by": "ann"},
            "via": null, "probe": false, "inputs": {}, "signatures": [],
        });
        let paper = |id: &str, kind: &str, content: Value| Paper {
            agent: "host-a".into(),
            id: id.into(),
            kind: kind.into(),
            content,
        };
        let signed = sign(&file, 60, paper("a", "order", order.clone())).unwrap();
        let seals = [hex::decode(&signed.seal).unwrap()];
        let read: Order = serde_json::from_value(order.clone()).unwrap();
        let now: Timestamp = super::super::now();
        seal::verify(&key, "ann", &seals, "host-a", Act::Order(&read), now).unwrap();
        assert!(seal::verify(&key, "ann", &seals, "host-b", Act::Order(&read), now).is_err());
        assert!(sign(&file, 60, paper("b", "order", order)).is_err(), "the id beside is not the order's");
        assert!(sign(&file, 60, paper("a", "policy", Value::Null)).is_err());
        let undo = sign(&file, 60, paper("a", "undo", json!({"by": "ann"}))).unwrap();
        let seals = [hex::decode(&undo.seal).unwrap()];
        seal::verify(&key, "ann", &seals, "host-a", Act::Undo { action: "a", by: "ann" }, now).unwrap();
    }
}
