//! An instance whose malware could not be cleaned is isolated, taken out of its load balancer and replaced by its Auto Scaling
//! group; the replacement enrols by the group's token and has its group's policy and the newest rules before its health check
//! passes.
//!
//! The malware event comes as Deep Security sends it, over a topic and a queue of the AWS simulator. The replacement is a network
//! namespace: once the simulator shows a new instance, its user data is run there as an image would, with the instance's id
//! where cloud-init writes it. The manager is away meanwhile, and has newer rules when it comes back: until then the
//! health check must not pass.

mod machine;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use sakimori_sys::lab::{End, Lab};
use serde_json::{Value, json};

use self::machine::Machine;
use crate::api::{items, wait};
use crate::demo::field;
use crate::platform::{PATIENCE, Places, Platform, Process, tail};
use crate::second_reader::SecondReader;

/// The manager's side, as both machines reach it.
const MANAGER: &str = "10.99.1.1";
const SIMULATOR: &str = "127.0.0.1:5000";
const CLOUD: &str = include_str!("cloud.py");
/// Of our tests: the vendor's event of a cleaning that failed.
const MALWARE: &str = include_str!("../../../manager/tests/ways/deep_security_malware.json");
/// How long the replacement may take to be ready, as the group's grace period before it counts health checks: rules are loaded
/// twice, by builds that are slow to load them.
const GRACE: Duration = Duration::from_secs(300);
const PLAYBOOK: &str = "replace-in-group";
/// A rule that the newest bundle has and the former one has not.
const NEWER: &str = "title: Newer than the image\nid: 5d1c1a77-3d0f-4f3c-9d1c-6b1a9d3b7e21\nname: newer_than_the_image\nstatus: stable\n\
description: One rule more.\nauthor: Sakimori\ndate: 2026-11-26\nlogsource:\n  product: linux\n  service: auth\ndetection:\n  \
sel:\n    event.action: newer-than-the-image\n  condition: sel\nlevel: low\nsakimori:\n  id: newer-than-the-image\n  revision: 1\n";

/// Options of the story.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The AWS simulator.
    #[arg(long, env = "SAKIMORI_MOTO", default_value = "moto_server")]
    moto: PathBuf,
}

/// Plays it.
///
/// # Errors
/// A step that did not happen.
pub fn run(options: &Options) -> Result<()> {
    let dir = tempfile::Builder::new().prefix("sakimori-replacement-").tempdir()?;
    let outcome = play(options, dir.path());
    if outcome.is_err() {
        for name in ["manager.log", "agent.log", "replacement/agent.log", "moto.log"] {
            eprintln!("{}", tail(&dir.path().join(name)));
        }
    }
    outcome
}

fn lab() -> Result<Arc<Lab>> {
    let mut lab = Lab::new("skmreplace")?;
    for name in ["manager", "first", "second"] {
        lab.add(name)?;
    }
    lab.join(
        End { namespace: "manager", device: "one", addresses: &["10.99.1.1/24"] },
        End { namespace: "first", device: "inside", addresses: &["10.99.1.2/24"] },
    )?;
    lab.join(
        End { namespace: "manager", device: "two", addresses: &["10.99.2.1/24"] },
        End { namespace: "second", device: "inside", addresses: &["10.99.2.2/24"] },
    )?;
    lab.route("second", "10.99.1.0/24", "10.99.2.1")?;
    Ok(Arc::new(lab))
}

fn play(options: &Options, dir: &Path) -> Result<()> {
    let lab = lab()?;
    let mut command = lab.command("manager", &options.moto)?;
    command.args(["-H", "127.0.0.1", "-p", "5000"]);
    let _moto = Process::start(command, &dir.join("moto.log"))?;
    let simulator: std::net::SocketAddr = SIMULATOR.parse()?;
    wait("the simulator answers", PATIENCE, || {
        lab.inside("manager", || std::net::TcpStream::connect(simulator).is_ok()).unwrap_or(false)
    })?;
    let python = options.moto.parent().context("moto_server lies in a folder")?.join("python3");
    let mut cloud = SecondReader::start(&lab, &python, CLOUD, &[format!("http://{SIMULATOR}")])?;
    let made = cloud.ask(&json!(["build"]))?;
    let infected = field(&made, "/instance").to_owned();
    let mut platform = start(&lab, dir, field(&made, "/queue"), &infected)?;
    let began = Instant::now();
    let told = |what: &str| println!("{:>8} ms  {what}", began.elapsed().as_millis());

    cloud.ask(&json!(["tell", field(&made, "/topic"), MALWARE.replace("INFECTED", &infected)]))?;
    let mut new = String::new();
    wait("another instance is in the group", PATIENCE, || {
        let Ok(seen) = cloud.ask(&json!(["see", infected])) else { return false };
        let group = seen.pointer("/group").and_then(Value::as_object).cloned().unwrap_or_default();
        new = group.keys().find(|id| **id != infected).cloned().unwrap_or_default();
        !new.is_empty() && !group.contains_key(&infected)
    })?;
    told(&format!("{infected} left its group, and {new} came"));
    let seen = cloud.ask(&json!(["see", infected]))?;
    let isolated = json!({"groups": ["sakimori-isolation"], "served": false, "state": "running"});
    for (name, wanted) in isolated.as_object().context("an object")? {
        ensure!(seen.get(name) == Some(wanted), "{infected}: {name} is not {wanted}: {seen}");
    }
    wait("the playbook is done", PATIENCE, || {
        let all = platform.api.get("/api/v1/executions").unwrap_or_default();
        items(&all).iter().any(|one| field(one, "/playbook") == PLAYBOOK && field(one, "/state") == "done")
    })?;
    told(&format!("{infected} is in the isolation group and behind no load balancer"));

    let token = token(&platform)?;
    // The manager goes, and comes back with newer rules than any that an image can have.
    let former = number(&platform, "/api/v1/bundles/current", "/number")?;
    platform.manager.take().context("no manager")?.kill()?;
    let replacement = Machine::boot(&lab, &dir.join("replacement"), &new, &token)?;
    wait("the replacement runs", PATIENCE, || replacement.waits_for().contains("not enrolled"))?;
    wait("the health check answers", PATIENCE, || replacement.health().is_ok())?;
    let status = replacement.health()?;
    ensure!(status == 404, "the health check of a host that is not enrolled answers {status}");
    told(&format!("{new} runs; its health check does not pass"));
    let rule = dir.join("content/sigma/hosts");
    std::fs::create_dir_all(&rule)?;
    std::fs::write(rule.join("newer_than_the_image.yml"), NEWER)?;
    platform.start_manager()?;
    let bundle = number(&platform, "/api/v1/bundles/current", "/number")?;
    ensure!(bundle > former, "the rules of the manager are no newer ones: {former}, {bundle}");
    let mut earlier = 0;
    wait("the health check passes", GRACE, || {
        // As often as a load balancer would at the most: this machine is the replacement's too.
        std::thread::sleep(Duration::from_millis(250));
        let passes = replacement.health().is_ok_and(|status| status == 200);
        earlier += u32::from(!passes);
        passes
    })?;
    // What it says of itself at that moment; the manager may hear of it a moment later.
    let status = replacement.status()?;
    told(&format!("{new} passes its health check, after {earlier} times when it did not"));
    let policy = number(&platform, "/api/v1/policies/layers", "/number")?;
    let has = |name: &str| status.get(name).and_then(Value::as_u64).unwrap_or_default();
    ensure!(has("bundle") == bundle, "rule bundle {bundle} is the newest, and {} in use", has("bundle"));
    ensure!(has("policy") == policy, "policy {policy} is the newest, and {} in effect", has("policy"));
    let reads = status.pointer("/inputs/0");
    ensure!(reads.map(|input| field(input, "/name")) == Some("web"), "its group's policy has it read a log: {status}");
    let agents = items(&platform.api.get("/api/v1/agents")?);
    let Some(agent) = agents.iter().find(|one| field(one, "/name") == new) else {
        bail!("{new} is unknown: {agents:?}")
    };
    ensure!(agent.get("tags") == Some(&json!(["web"])), "it is not of its group: {agent}");
    told(&format!("policy {policy} of its group and rule bundle {bundle} were in effect"));
    replacement.end()?;
    platform.stop()
}

/// The manager with its policies.
fn start(lab: &Arc<Lab>, dir: &Path, queue: &str, infected: &str) -> Result<Platform> {
    let places = Places {
        lab: Some((Arc::clone(lab), "manager".into(), "first".into())),
        link: format!("{MANAGER}:7601"),
        api: "127.0.0.1:7600".into(),
    };
    std::fs::create_dir_all(dir.join("content"))?;
    let settings = format!(
        "content_dir = \"{}\"\n[lake]\nflush_seconds = 2\nleast_free_percent = 0\n\
         [cloud.accounts.main]\nregion = \"ap-northeast-1\"\nendpoint_url = \"http://{SIMULATOR}\"\naccount_id = \"123456789012\"\n\
         [[ingest.sqs]]\nname = \"deep-security\"\nqueue = \"{queue}\"\naccount = \"main\"\n",
        dir.join("content").display()
    );
    let platform = Platform::start(dir, places, &settings, "")?;
    let layers = [
        ("tenant", json!({"response": {"playbooks_on": [PLAYBOOK]}})),
        (
            "group:web",
            json!({"modules": {
                "block_address": {"state": "off"},
                "log_inspection": {"sources": [
                    {"name": "web", "source": "linux/auth", "file": dir.join("replacement/auth.log"), "zone": "UTC"}]},
            }}),
        ),
    ];
    for (layer, tree) in layers {
        platform.api.call("PUT", &format!("/api/v1/policies/layers/{layer}"), Some(json!({ "tree": tree })))?;
    }
    println!("{infected} serves the site, in an Auto Scaling group of one");
    Ok(platform)
}

/// A token of the group, as its launch template carries it.
fn token(platform: &Platform) -> Result<String> {
    let asked = json!({"name": "web", "tags": ["web"], "uses": 100, "hours": 24});
    let made = platform.api.call("POST", "/api/v1/enrolment-tokens", Some(asked))?;
    Ok(field(&made, "/token").to_owned())
}

/// A number of an answer; of a list of layers the newest number, as agents count it.
fn number(platform: &Platform, path: &str, at: &str) -> Result<u64> {
    let found = platform.api.get(path)?;
    let one = |value: &Value| value.pointer(at).and_then(Value::as_u64);
    let layers = found.get("layers").and_then(Value::as_array);
    let number = match layers {
        Some(layers) => layers.iter().filter_map(one).max().map(|number| number + 1),
        None => one(&found),
    };
    number.with_context(|| format!("no number in {found}"))
}
