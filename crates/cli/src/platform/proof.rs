//! The proof: failed logins of a documentation address go into a log of the probe's own; they must be detected,
//! blocked in nftables, recorded, and undone. What they cause carries `sakimori.probe` and stays on this host.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use chrono::{DateTime, Utc};
use reqwest::Method;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{Paths, wait};
use crate::api::{Api, part};
use crate::commands::actions::target_of;
use crate::commands::now;
use crate::output::text;

/// Name of the probe's input.
const INPUT: &str = "probe";
/// Failed logins that are written; the rule for brute force asks for five.
const ATTEMPTS: u64 = 5;
/// How long all of a step may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// The probe's log begins anew beyond this.
const MOST_LOG: u64 = 1 << 20;

/// What was proved.
#[derive(Debug, Serialize)]
pub struct Proof {
    /// The address that attacked.
    pub address: String,
    /// In the order of the loop.
    pub steps: Vec<Step>,
    /// What could not be proved here, and why.
    pub lacking: Vec<Lacking>,
}

/// A part of the loop that this machine, or this user, has not.
#[derive(Debug, Serialize)]
pub struct Lacking {
    /// What.
    pub what: &'static str,
    /// Why, with the next step.
    pub why: String,
}

/// One step.
#[derive(Debug, Serialize)]
pub struct Step {
    /// What happened.
    pub what: &'static str,
    /// Who was asked.
    pub seen_by: &'static str,
    /// Since the lines were written, or since the undo was asked for.
    pub milliseconds: u128,
}

/// Plays it.
pub async fn run(api: &Api, paths: &Paths) -> Result<Proof> {
    let agent = paths.agent_id().context("the agent is not enrolled; run sakimori up again")?;
    begin_log(paths)?;
    add_input(api, paths, &agent).await?;
    wait("the agent reads the probe's log", paths, async || reads(paths).await).await?;
    warm(api, paths).await?;
    let address = unused(api, &agent).await?;
    let lacking = blocks_lack(paths).await;
    let began = Instant::now();
    write_lines(paths, &address)?;
    let kernel = if sakimori_runtime::doctor::program("nft") { "nft" } else { "sakimori-agent" };
    let last = if lacking.is_some() { "failed" } else { "done" };
    // All at once, so that each is seen when it happens and not when its turn comes.
    let seen = Seen { began, address: &address, paths };
    let in_kernel = async || Ok((lacking.is_some() || blocked(paths, &address).await).then_some(()));
    let (blocked_after, alert_after, events_after, action) = tokio::try_join!(
        seen.when("blocked in nftables", in_kernel),
        seen.when("alert in the lake", async || Ok(alert(api, &address).await?.then_some(()))),
        seen.when("events in the lake", async || Ok((events(api, &address).await? >= ATTEMPTS).then_some(()))),
        seen.when("action in the manager", async || find_action(api, &agent, &address, last).await),
    )?;
    let step = |what, seen_by, milliseconds| Step { what, seen_by, milliseconds };
    let mut steps = vec![
        step("events in the lake", "search", events_after.1),
        step("alert in the lake", "search", alert_after.1),
        step("action in the manager", "API", action.1),
    ];
    if let Some(why) = lacking {
        return Ok(Proof { address, steps, lacking: vec![Lacking { what: "blocked in nftables", why }] });
    }
    steps.insert(0, step("blocked in nftables", kernel, blocked_after.1));
    undone(api, paths, &address, &action.0, kernel, &mut steps).await?;
    Ok(Proof { address, steps, lacking: Vec::new() })
}

/// Undoes the probe's block, and waits until it is out of the kernel and recorded.
async fn undone(
    api: &Api,
    paths: &Paths,
    address: &str,
    action: &Value,
    kernel: &'static str,
    steps: &mut Vec<Step>,
) -> Result<()> {
    let id = text(action, "order.id");
    let began = Instant::now();
    api.send(Method::POST, &format!("/api/v1/actions/{}/undo", part(&id)), &json!({}))
        .await
        .context("cannot undo the probe's block")?;
    wait("the block is out of nftables", paths, async || !blocked(paths, address).await).await?;
    steps.push(Step { what: "undone in nftables", seen_by: kernel, milliseconds: began.elapsed().as_millis() });
    let path = format!("/api/v1/actions/{}", part(&id));
    wait("the undo is recorded", paths, async || {
        api.get(&path, &[]).await.is_ok_and(|action| text(&action, "state") == "undone")
    })
    .await?;
    steps.push(Step { what: "undo recorded", seen_by: "API", milliseconds: began.elapsed().as_millis() });
    Ok(())
}

/// What keeps the agent from blocking on this machine, where something does: no rights, no nf_tables.
async fn blocks_lack(paths: &Paths) -> Option<String> {
    let status = ask(paths, &["--json", "status"]).await?;
    let modules = status.get("modules")?.as_array()?;
    let module = modules.iter().find(|module| text(module, "id") == "block_address")?;
    (text(module, "state") == "failing").then(|| text(module, "detail"))
}

/// Waits for conditions, and says when each held.
struct Seen<'a> {
    began: Instant,
    address: &'a str,
    paths: &'a Paths,
}

impl Seen<'_> {
    async fn when<T>(&self, what: &str, mut look: impl AsyncFnMut() -> Result<Option<T>>) -> Result<(T, u128)> {
        loop {
            if let Some(found) = look().await? {
                return Ok((found, self.began.elapsed().as_millis()));
            }
            if self.began.elapsed() > PATIENCE {
                bail!(
                    "the loop does not close: {what} did not happen for {} in {} s; next: sudo sakimori doctor, and \
                     the logs in {}",
                    self.address,
                    PATIENCE.as_secs(),
                    self.paths.logs.display()
                );
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Waits until the agent works with the manager's rules: after a start it loads them first. A line that means
/// nothing shows that it reads with them.
async fn warm(api: &Api, paths: &Paths) -> Result<()> {
    let bundle = text(&api.get("/api/v1/bundles/current", &[]).await?, "number");
    wait("the agent has the manager's rules", paths, async || {
        ask(paths, &["--json", "status"]).await.is_some_and(|status| text(&status, "bundle") == bundle)
    })
    .await?;
    let before = lines_read(paths).await.unwrap_or_default();
    append(paths, &format!("{} sakimori-probe sshd[4000]: Server listening on 127.0.0.1 port 22.\n", stamp()))?;
    wait("the agent reads a first line", paths, async || {
        lines_read(paths).await.is_some_and(|lines| lines != before && lines > 0)
    })
    .await?;
    Ok(())
}

/// Lines that the agent has read of the probe's log since it began.
async fn lines_read(paths: &Paths) -> Option<u64> {
    input(&ask(paths, &["--json", "status"]).await?)?.get("lines")?.as_u64()
}

fn input(status: &Value) -> Option<&Value> {
    status.get("inputs")?.as_array()?.iter().find(|input| text(input, "name") == INPUT)
}

fn stamp() -> String {
    let time: DateTime<Utc> = now().to_chrono();
    time.format("%b %e %H:%M:%S").to_string()
}

fn append(paths: &Paths, lines: &str) -> Result<()> {
    let mut file = std::fs::OpenOptions::new().append(true).open(&paths.probe)?;
    file.write_all(lines.as_bytes()).with_context(|| format!("cannot write {}", paths.probe.display()))
}

/// Makes the log, empty where it was long.
fn begin_log(paths: &Paths) -> Result<()> {
    if let Some(folder) = paths.probe.parent() {
        super::prepare::folder(folder)?;
    }
    let file = std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(&paths.probe);
    let file = file.with_context(|| format!("cannot write {}", paths.probe.display()))?;
    if file.metadata()?.len() > MOST_LOG {
        file.set_len(0)?;
    }
    Ok(())
}

fn write_lines(paths: &Paths, address: &str) -> Result<()> {
    let time = stamp();
    let line = |at| {
        format!(
            "{time} sakimori-probe sshd[{}]: Failed password for root from {address} port {} ssh2\n",
            4_000 + at,
            40_000 + at
        )
    };
    append(paths, &(0..ATTEMPTS).map(line).collect::<String>())
}

/// Adds the probe's input to this host's own layer, where it is not there.
async fn add_input(api: &Api, paths: &Paths, agent: &str) -> Result<()> {
    let name = format!("host:{agent}");
    let layers = api.get("/api/v1/policies/layers", &[]).await?;
    let own = layers
        .get("layers")
        .and_then(Value::as_array)
        .and_then(|layers| layers.iter().find(|layer| text(layer, "layer") == name));
    let number = own.and_then(|layer| layer.get("number")).and_then(Value::as_i64).unwrap_or_default();
    let before = own.and_then(|layer| layer.get("tree")).and_then(Value::as_object).cloned().unwrap_or_default();
    let input = json!({
        "name": INPUT, "source": "linux/auth", "file": paths.probe.display().to_string(), "zone": "UTC", "probe": true,
    });
    let Some(tree) = with_input(&before, input) else { return Ok(()) };
    let body = json!({ "tree": tree, "over": number });
    let path = format!("/api/v1/policies/layers/{}", part(&name));
    api.send(Method::PUT, &path, &body).await.context("cannot add the probe's input to this host's policy")?;
    Ok(())
}

/// The layer with the input; `None` where it has it already.
fn with_input(layer: &Map<String, Value>, input: Value) -> Option<Map<String, Value>> {
    let mut tree = layer.clone();
    let mut at = &mut tree;
    for name in ["modules", "log_inspection"] {
        let below = at.entry(name).or_insert_with(|| json!({}));
        if !below.is_object() {
            *below = json!({});
        }
        at = below.as_object_mut()?;
    }
    let sources = at.entry("sources").or_insert_with(|| json!({ "add": [] }));
    if !sources.is_array() && !sources.is_object() {
        *sources = json!({ "add": [] });
    }
    let list = match sources {
        Value::Array(list) => list,
        other => other.as_object_mut()?.entry("add").or_insert_with(|| json!([])).as_array_mut()?,
    };
    if list.contains(&input) {
        return None;
    }
    list.retain(|one| one.get("name") != input.get("name"));
    list.push(input);
    Some(tree)
}

/// Does the agent read the probe's log?
async fn reads(paths: &Paths) -> bool {
    let status = ask(paths, &["--json", "status"]).await;
    status.as_ref().and_then(input).is_some_and(|input| text(input, "state") == "reading")
}

async fn ask(paths: &Paths, arguments: &[&str]) -> Option<Value> {
    let mut command = tokio::process::Command::from(paths.agent(arguments).ok()?);
    serde_json::from_slice(&command.output().await.ok()?.stdout).ok()
}

/// An address of 203.0.113.0/24 that no former probe used lately: one that was undone is let be for a time.
async fn unused(api: &Api, agent: &str) -> Result<String> {
    let query = [("action", "block_address".to_owned()), ("place", agent.to_owned())];
    let used: Vec<String> = api.list("/api/v1/actions", &query, 1_000).await?.iter().map(target_of).collect();
    let [first] = super::prepare::random::<1>()?;
    (0..=255_u8)
        .map(|step| first.wrapping_add(step))
        .filter(|host| (1..=254).contains(host))
        .map(|host| format!("203.0.113.{host}"))
        .find(|address| !used.contains(address))
        .context("every address of 203.0.113.0/24 was used lately; try again in an hour, or: sakimori up --no-proof")
}

/// Is it in the kernel?
async fn blocked(paths: &Paths, address: &str) -> bool {
    if sakimori_runtime::doctor::program("nft") {
        let out = tokio::process::Command::new("nft").args(["list", "ruleset"]).output().await;
        return out.is_ok_and(|out| names(&String::from_utf8_lossy(&out.stdout), address));
    }
    let actions = ask(paths, &["--json", "actions", "list"]).await;
    actions
        .as_ref()
        .and_then(Value::as_array)
        .is_some_and(|actions| actions.iter().any(|one| target_of(one) == address))
}

/// Does a text name this address, and not one that only begins or ends like it?
fn names(text: &str, address: &str) -> bool {
    let beside = |one: Option<char>| one.is_some_and(|one| one.is_ascii_digit() || one == '.');
    text.match_indices(address).any(|(at, found)| {
        let (before, after) = (text.get(..at).unwrap_or_default(), text.get(at + found.len()..).unwrap_or_default());
        !beside(before.chars().next_back()) && !beside(after.chars().next())
    })
}

async fn alert(api: &Api, address: &str) -> Result<bool> {
    let query = [("q", format!("source.ip:{address} and sakimori.probe:true")), ("from", lately())];
    Ok(!api.list("/api/v1/alerts", &query, 1).await?.is_empty())
}

async fn events(api: &Api, address: &str) -> Result<u64> {
    let query =
        [("q", format!("source.ip:{address} and sakimori.probe:true and event.action:ssh_login")), ("from", lately())];
    let answer = api.get("/api/v1/events/count", &query).await?;
    Ok(answer.get("count").and_then(Value::as_u64).unwrap_or_default())
}

/// Before anything that this proof wrote, after what one an hour ago did.
fn lately() -> String {
    now().plus_secs(-300).to_string()
}

async fn find_action(api: &Api, agent: &str, address: &str, state: &str) -> Result<Option<Value>> {
    let query = [("action", "block_address".to_owned()), ("place", agent.to_owned()), ("target", address.to_owned())];
    let found = api.list("/api/v1/actions", &query, 10).await?;
    Ok(found.into_iter().find(|action| text(action, "state") == state))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_input_joins_what_the_layer_says_and_only_once() {
        let input = json!({"name": "probe", "file": "/p"});
        let once = with_input(&Map::new(), input.clone()).unwrap();
        assert_eq!(once["modules"]["log_inspection"]["sources"]["add"], json!([input]));
        assert_eq!(with_input(&once, input.clone()), None);
        let own = json!({"modules": {"log_inspection": {"sources": [{"name": "mine"}]}, "block_address": {"mode": "detect"}}});
        let with = with_input(own.as_object().unwrap(), input.clone()).unwrap();
        assert_eq!(with["modules"]["log_inspection"]["sources"], json!([{"name": "mine"}, input]));
        assert_eq!(with["modules"]["block_address"]["mode"], "detect");
        let moved = with_input(&with, json!({"name": "probe", "file": "/q"})).unwrap();
        assert_eq!(moved["modules"]["log_inspection"]["sources"].as_array().unwrap().len(), 2);
    }

    #[test]
    fn an_address_is_not_taken_for_a_longer_one() {
        assert!(names("elements = { 203.0.113.7 timeout 1h }", "203.0.113.7"));
        assert!(names("{203.0.113.70, 203.0.113.7}", "203.0.113.7"));
        assert!(!names("203.0.113.70", "203.0.113.7") && !names("1203.0.113.7", "203.0.113.7"));
    }
}
