//! `make demo`: the attack story, step by step, with what was seen and how long each answer took.
//!
//! It starts processes, plays the attacker, and reads the public API, the kernel (`nft`) and the simulator (AWS's
//! SDK). It writes to no database, lake or nftables. A step that does not happen ends it with an error.

mod answers;
mod exploit;
mod table;
mod undo;
mod upload;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use self::table::{Line, Told};
use crate::api::{Api, wait};
use crate::platform::{PATIENCE, Places, Platform, profile, tail};
use crate::story::{ATTACKER, ATTACKER6, CLIENT, FAKE, HOST, HOST6, MANAGER, PARTNER, PROXY, World};

/// Seconds that a block lasts in the demo.
const EXPIRY: u64 = 20;

/// Options of the demo.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The AWS simulator.
    #[arg(long, env = "SAKIMORI_MOTO", default_value = "moto_server")]
    moto: PathBuf,
    /// Keep the folder of logs.
    #[arg(long)]
    keep: bool,
}

/// Plays it.
///
/// # Errors
/// A step that did not happen.
pub fn run(options: &Options) -> Result<()> {
    let mut dir = tempfile::Builder::new().prefix("sakimori-demo-").tempdir()?;
    // Workers run under uids of their own and are handed descriptors; only sshd and nginx need to walk in here.
    dir.disable_cleanup(options.keep);
    let began = Instant::now();
    println!("building three hosts and a proxy in network namespaces ({} build)", profile());
    let world = World::build(&dir.path().join("world"), &options.moto)?;
    let outcome = play(&world, dir.path());
    if outcome.is_err() {
        for name in ["manager.log", "agent.log", "world/auth.log", "world/sshd.log"] {
            eprintln!("{}", tail(&dir.path().join(name)));
        }
    }
    outcome?.print();
    println!("the story took {:.1} s", began.elapsed().as_secs_f64());
    Ok(())
}

fn play(world: &World, dir: &std::path::Path) -> Result<Told> {
    let mut platform = start(world, dir)?;
    let mut told = Told::default();
    println!("1. an attacker guesses passwords; 2. from his IPv6 address, too");
    let [first, second] = together([
        &|told| attacked(world, &platform, ATTACKER, HOST, "1 passwords guessed (IPv4)", &mut told.lines),
        &|told| attacked(world, &platform, ATTACKER6, HOST6, "2 passwords guessed (IPv6)", &mut told.lines),
    ])?;
    told.extend(first.1);
    told.extend(second.1);
    let first = first.0;
    let lines = &mut told.lines;
    println!("3. one who is allowed, and one behind a trusted proxy");
    allowed(world, &platform, lines)?;
    behind_proxy(world, &platform, lines)?;
    message(world, lines)?;
    println!("7. malware is uploaded");
    upload::uploaded(world, &platform, &mut told)?;
    println!("8. exploits are sent to the web server, which the host now inspects and prevents");
    exploit::prevented(world, &platform, &mut told)?;
    println!("9. playbooks act in the cloud account, and take back what they did");
    answers::played(world, &platform, &mut told)?;
    println!("6. a block is taken back by hand");
    let undone = undo::by_hand(world, &platform, &mut told)?;
    println!("4. the manager is killed while events flow");
    outage(world, &mut platform, &mut told.lines)?;
    println!("5. the blocks' time is up");
    expired(world, &platform, &first, &undone, &mut told.lines)?;
    told.all_playbooks(&platform.api.get("/api/v1/playbooks")?)?;
    platform.stop()?;
    Ok(told)
}

fn start(world: &World, dir: &std::path::Path) -> Result<Platform> {
    let places = Places {
        lab: Some((std::sync::Arc::clone(&world.lab), "manager".into(), "host".into())),
        link: format!("{MANAGER}:7601"),
        api: "127.0.0.1:7600".into(),
    };
    let manager = format!(
        "[lake]\nflush_seconds = 2\nleast_free_percent = 0\n[cloud.waf]\nregion = \"ap-northeast-1\"\nendpoint_url = \"http://127.0.0.1:5000\"\n\
         [cloud.accounts.main]\nregion = \"ap-northeast-1\"\nendpoint_url = \"http://127.0.0.1:5000\"\n\
         endpoints = {{ workspaces = \"http://{FAKE}\" }}\n\
         [[notify]]\nname = \"ops\"\nurl = \"http://127.0.0.1:8099/hook\"\nburst_seconds = 1\n"
    );
    let mut platform = Platform::start(dir, places, &manager, "")?;
    platform.api.call("PUT", "/api/v1/policies/layers/tenant", Some(json!({"tree": policy(world)})))?;
    platform.enrol()?;
    platform.reading("auth")?;
    platform.reading("nginx")?;
    wait("the manager's rules are in use", PATIENCE, || {
        platform.api.search("event.action:bundle-applied").is_ok_and(|told| !told.is_empty())
    })?;
    Ok(platform)
}

/// The tenant's policy.
fn policy(world: &World) -> Value {
    json!({
        "modules": {
            "log_inspection": {"sources": [
                {"name": "auth", "source": "linux/auth", "file": world.dir.join("auth.log"), "zone": "UTC"},
                {"name": "nginx", "source": "nginx/access", "file": world.dir.join("nginx/access.log")},
            ]},
            "antimalware": {"state": "on", "paths": [world.web_root()]},
            "block_address": {"expiry_seconds": EXPIRY, "expiry_most_seconds": 60, "grace_seconds": 60},
        },
        "response": {"allow": [PARTNER], "trusted_proxies": [PROXY]},
    })
}

/// Plays scenes at the same time, each with a table of its own.
fn together<T: Send, const N: usize>(scenes: [&(dyn Fn(&mut Told) -> Result<T> + Sync); N]) -> Result<[(T, Told); N]> {
    std::thread::scope(|scope| {
        let playing = scenes.map(|scene| {
            scope.spawn(move || {
                let mut told = Told::default();
                scene(&mut told).map(|outcome| (outcome, told))
            })
        });
        let mut played = Vec::new();
        for one in playing {
            played.push(one.join().map_err(|_| anyhow::anyhow!("a thread of the demo failed"))??);
        }
        played.try_into().map_err(|_| anyhow::anyhow!("a scene is missing"))
    })
}

pub fn field<'a>(value: &'a Value, path: &str) -> &'a str {
    value.pointer(path).and_then(Value::as_str).unwrap_or_default()
}

fn alert(api: &Api, source: &str) -> Option<Value> {
    api.search(&format!("event.kind:alert and source.ip:{source}")).ok()?.into_iter().next()
}

fn action(api: &Api, kind: &str, target: &str, state: &str) -> Option<Value> {
    api.actions().ok()?.into_iter().find(|action| {
        field(action, "/order/action") == kind
            && field(action, "/order/target/network") == target
            && field(action, "/state") == state
    })
}

/// Guessing until the block: the alert names source, user and host; nftables and the WAF hold the address; the
/// next connection dies. Returns when the block began.
fn attacked(
    world: &World,
    platform: &Platform,
    from: &str,
    to: &str,
    step: &'static str,
    lines: &mut Vec<Line>,
) -> Result<Instant> {
    if !world.reaches(from, to) {
        bail!("{from} cannot reach {to} before the attack");
    }
    let began = Instant::now();
    std::thread::scope(|scope| -> Result<()> {
        let guesses = scope.spawn(|| world.guess(from, to, 12, &["root"]));
        let kernel = wait(&format!("{from} is in nftables"), PATIENCE, || world.in_kernel(&platform.table, from))?;
        lines.push(Line {
            step,
            seen: "sshd's log, rule on the host".into(),
            answered: "nftables".into(),
            took: kernel,
        });
        let alerted = wait("the alert is in the lake", PATIENCE, || alert(&platform.api, from).is_some())?;
        let found = alert(&platform.api, from).context("the alert")?;
        if field(&found, "/user/name") != "root" || field(&found, "/host/name") != "web1" {
            bail!("the alert does not name user and host: {found}");
        }
        lines.push(Line {
            step,
            seen: "alert: source, user, host".into(),
            answered: "lake".into(),
            took: kernel + alerted,
        });
        let waf = wait(&format!("{from} is in the WAF's set"), PATIENCE, || {
            world.waf().is_ok_and(|held| held.iter().any(|one| one.split('/').next() == Some(from)))
        })?;
        lines.push(Line {
            step,
            seen: "alert at the manager".into(),
            answered: "AWS WAF set".into(),
            took: kernel + alerted + waf,
        });
        guesses.join().map_err(|_| anyhow::anyhow!("the attacker failed"))??;
        Ok(())
    })?;
    if world.reaches(from, to) {
        bail!("{from} still reaches {to}");
    }
    lines.push(Line { step, seen: "his next connection".into(), answered: "refused".into(), took: began.elapsed() });
    Ok(began)
}

fn allowed(world: &World, platform: &Platform, lines: &mut Vec<Line>) -> Result<()> {
    let step = "3 one on the allow-list";
    world.guess(PARTNER, HOST, 8, &["root"])?;
    let took = wait("the partner's alert", PATIENCE, || alert(&platform.api, PARTNER).is_some())?;
    wait("both refusals", PATIENCE, || {
        action(&platform.api, "block_address", PARTNER, "refused").is_some()
            && action(&platform.api, "waf_block", PARTNER, "refused").is_some()
    })?;
    if world.in_kernel(&platform.table, PARTNER) || !world.reaches(PARTNER, HOST) {
        bail!("an address on the allow-list was blocked");
    }
    lines.push(Line { step, seen: "alert".into(), answered: "no block, and the action says why".into(), took });
    Ok(())
}

fn behind_proxy(world: &World, platform: &Platform, lines: &mut Vec<Line>) -> Result<()> {
    let step = "3 a client behind a trusted proxy";
    let began = Instant::now();
    world.browse(CLIENT, &["/?file=../../../../etc/passwd", "/index.html?page=../../../etc/shadow"])?;
    wait("the client is in the WAF's set", PATIENCE, || {
        world.waf().is_ok_and(|held| held.iter().any(|one| one == &format!("{CLIENT}/32")))
    })?;
    lines.push(Line {
        step,
        seen: "nginx's log".into(),
        answered: "AWS WAF set: the client".into(),
        took: began.elapsed(),
    });
    wait("the host's action", PATIENCE, || action(&platform.api, "block_address", CLIENT, "no_effect").is_some())?;
    let host = action(&platform.api, "block_address", CLIENT, "no_effect").context("the host's action")?;
    let reason = field(&host, "/reason");
    if reason != format!("no effect here: arrives through proxy {PROXY}") {
        bail!("the host's action says: {reason}");
    }
    if world.waf()?.iter().any(|one| one.starts_with(PROXY)) || world.in_kernel(&platform.table, PROXY) {
        bail!("the proxy was blocked");
    }
    lines.push(Line { step, seen: "the same alert".into(), answered: reason.to_owned(), took: began.elapsed() });
    Ok(())
}

fn message(world: &World, lines: &mut Vec<Line>) -> Result<()> {
    let took = wait("a message about the attacker", PATIENCE, || {
        world.messages.lock().is_ok_and(|all| all.iter().any(|message| message.to_string().contains(ATTACKER)))
    })?;
    lines.push(Line { step: "a person is told", seen: "alert".into(), answered: "webhook, signed".into(), took });
    Ok(())
}

/// The manager dies; the host blocks a new attacker by itself; after the restart nothing is lost and nothing twice.
fn outage(world: &World, platform: &mut Platform, lines: &mut Vec<Line>) -> Result<()> {
    let step = "4 the manager is killed";
    let newcomer = ATTACKER6_SECOND;
    world
        .lab
        .command("attacker", "ip")?
        .args(["address", "add", &format!("{newcomer}/64"), "dev", "out", "nodad"])
        .status()?;
    if let Some(manager) = platform.manager.take() {
        manager.kill()?;
    }
    let began = Instant::now();
    std::thread::scope(|scope| -> Result<()> {
        let guesses = scope.spawn(|| world.guess(newcomer, HOST6, 10, &["root"]));
        wait("the host blocks by itself", PATIENCE, || world.in_kernel(&platform.table, newcomer))?;
        lines.push(Line {
            step,
            seen: "rule on the host".into(),
            answered: "nftables, with no manager".into(),
            took: began.elapsed(),
        });
        guesses.join().map_err(|_| anyhow::anyhow!("the attacker failed"))?
    })?;
    let began = Instant::now();
    platform.start_manager()?;
    wait("the alert arrives after the restart", PATIENCE, || alert(&platform.api, newcomer).is_some())?;
    lines.push(Line { step, seen: "spool".into(), answered: "lake, after the restart".into(), took: began.elapsed() });
    let count = |log: &str| std::fs::read_to_string(world.dir.join(log)).map_or(0, |text| text.lines().count() as u64);
    let stored =
        |api: &Api, stream: &str| api.count(&format!("sakimori.stream:{stream} and not event.kind:alert")).unwrap_or(0);
    wait("every line is in the lake", PATIENCE, || {
        stored(&platform.api, "auth") == count("auth.log")
            && stored(&platform.api, "nginx") == count("nginx/access.log")
    })
    .with_context(|| format!("{} lines, {} events", count("auth.log"), stored(&platform.api, "auth")))?;
    let books = platform.api.get("/api/v1/events/balance")?;
    if crate::api::items(&books).iter().any(|row| row.get("balanced") != Some(&Value::Bool(true))) {
        bail!("the books do not balance: {books}");
    }
    lines.push(Line {
        step,
        seen: format!("{} + {} lines", count("auth.log"), count("nginx/access.log")),
        answered: "each once in the lake, the books balance".into(),
        took: began.elapsed(),
    });
    Ok(())
}

/// A second IPv6 address of the attacker's, for the time without a manager.
const ATTACKER6_SECOND: &str = "2001:db8::99";

fn expired(world: &World, platform: &Platform, first: &Instant, undone: &str, lines: &mut Vec<Line>) -> Result<()> {
    let step = "5 the time is up";
    wait("the attacker reaches the host again", Duration::from_secs(90), || world.reaches(ATTACKER, HOST))?;
    lines.push(Line { step, seen: "his next connection".into(), answered: "accepted".into(), took: first.elapsed() });
    wait("the WAF's sets are empty", Duration::from_secs(90), || world.waf().is_ok_and(|held| held.is_empty()))?;
    wait("all blocks say expired", Duration::from_secs(90), || {
        platform.api.actions().is_ok_and(|all| {
            all.iter().filter(|action| !field(action, "/order/target/network").is_empty()).all(|action| {
                !matches!(field(action, "/state"), "planned" | "approved" | "running" | "done" | "undoing")
            }) && ["block_address", "waf_block"].iter().all(|kind| {
                all.iter().any(|action| {
                    field(action, "/order/action") == *kind
                        && field(action, "/order/target/network") == ATTACKER
                        && field(action, "/state") == "expired"
                })
            })
        })
    })?;
    let all = platform.api.actions()?;
    let state = all.iter().find(|action| field(action, "/order/id") == undone).map(|action| field(action, "/state"));
    if state != Some("undone") {
        bail!("the action taken back by hand is {state:?}");
    }
    lines.push(Line {
        step,
        seen: "reconcilers".into(),
        answered: "WAF sets empty, actions expired".into(),
        took: first.elapsed(),
    });
    Ok(())
}
