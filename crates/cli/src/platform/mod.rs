//! The whole platform on this machine: `up` starts a supervising process that keeps manager and agent alive, waits
//! until all is well, and proves the loop; `down` takes it away again.
//!
//! ```text
//! <state>/  manager.toml agent.toml   written once, then yours     cli.toml   URL and token for the commands
//!           seal.key                  opens the manager's secrets, made at its first start
//!           run.json                  processes, each with its start time
//!           manager/ agent/           their state                  logs/ probe/
//! ```

mod prepare;
mod process;
mod proof;
mod supervise;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::{Value, json};

use crate::api::{Access, Api};
use crate::args::Shared;
use crate::commands::{agent_program, block_on};
use crate::output::{self, Progress, text};
pub use process::running;

/// Where the platform's state lies by default: a system's where root asks, else the user's own.
pub fn default_state() -> PathBuf {
    if rustix::process::geteuid().is_root() {
        return "/var/lib/sakimori".into();
    }
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let states = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")));
    states.map_or_else(|| "/var/lib/sakimori".into(), |states| states.join("sakimori"))
}

/// How long manager and agent may take until they are well.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long they may take to end.
const END: Duration = Duration::from_secs(90);

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  sudo sakimori up\n  sakimori up      as far as it can without root: it says what it lacks\n  sudo sakimori up --api 127.0.0.1:7700 --link 127.0.0.1:7701"
)]
pub struct UpArgs {
    /// Do not prove the loop
    #[arg(long)]
    no_proof: bool,
    /// Where the API listens [default: 127.0.0.1:7600]
    #[arg(long, value_name = "ADDRESS")]
    api: Option<SocketAddr>,
    /// Where agents connect [default: 127.0.0.1:7601]
    #[arg(long, value_name = "ADDRESS")]
    link: Option<SocketAddr>,
    /// Be the supervising process
    #[arg(long, hide = true)]
    supervise: bool,
}

/// Where everything of a state folder lies.
#[derive(Clone, Debug)]
pub struct Paths {
    /// The folder.
    pub state: PathBuf,
    /// The manager's configuration.
    pub manager_config: PathBuf,
    /// The agent's configuration.
    pub agent_config: PathBuf,
    /// What the agent knows since enrolment.
    pub enrolled: PathBuf,
    /// What runs.
    pub run: PathBuf,
    /// Logs of the programs.
    pub logs: PathBuf,
    /// The probe's log.
    pub probe: PathBuf,
}

impl Paths {
    /// Below a folder.
    pub fn new(state: &Path) -> Self {
        let state = std::path::absolute(state).unwrap_or_else(|_| state.to_owned());
        Self {
            manager_config: state.join("manager.toml"),
            agent_config: state.join("agent.toml"),
            enrolled: state.join("agent/agent.json"),
            run: state.join("run.json"),
            logs: state.join("logs"),
            probe: state.join("probe/auth.log"),
            state,
        }
    }

    /// The agent's id, once it is enrolled.
    pub fn agent_id(&self) -> Option<String> {
        self.enrolled("agent_id")
    }

    /// A field of what the agent knows since enrolment, where it is not empty.
    fn enrolled(&self, field: &str) -> Option<String> {
        let found: Value = serde_json::from_slice(&std::fs::read(&self.enrolled).ok()?).ok()?;
        Some(text(&found, field)).filter(|text| !text.is_empty())
    }

    /// A command line of the agent's.
    pub fn agent(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = Command::new(agent_program()?);
        command.arg("--config").arg(&self.agent_config).args(arguments).stdin(Stdio::null());
        Ok(command)
    }
}

/// `sakimori up`.
pub fn up(shared: &Shared, args: &UpArgs) -> Result<ExitCode> {
    let paths = Paths::new(&shared.state);
    if args.supervise {
        supervise::run(&paths)?;
        return Ok(ExitCode::SUCCESS);
    }
    agent_program()?;
    let progress = Progress::begin(shared.json);
    let mut already = running(&paths);
    if already.as_ref().is_some_and(process::Run::outdated) {
        progress.say("the programs are newer than what runs; starting again");
        process::end_all(&paths, END)?;
        already = None;
    }
    let password = match &already {
        Some(_) => {
            progress.say("it runs already; looking whether it is well");
            if args.api.is_some() || args.link.is_some() {
                bail!("it runs already; sakimori down first, then up with the other addresses");
            }
            prepare::access(&paths)?
        }
        None => {
            progress.say("preparing");
            process::end_leftovers(&paths, END)?;
            prepare::configs(&paths, args.api, args.link)?;
            // Before a first user is made, whose password must not be lost to an error.
            prepare::free_ports(&paths)?;
            prepare::access(&paths)?
        }
    };
    let access = Access::load(&paths.state)?.context("cli.toml is missing; run sakimori up again")?;
    let outcome = block_on(async {
        if already.is_none() {
            progress.say("starting manager and agent");
            supervise::begin(&paths)?;
        }
        progress.say("waiting for the manager");
        let api = Api::new(&access, None)?;
        if let Err(error) =
            wait("the manager is ready", &paths, async || api.status("/readyz").await == Some(200)).await
        {
            return match api.lacks().await {
                lacking if lacking.is_empty() => Err(error),
                lacking => Err(error.context(format!("the manager runs and is not ready:\n{lacking}"))),
            };
        }
        progress.say("waiting for the agent");
        wait("the agent is connected", &paths, async || connected(&api, &paths).await).await?;
        if args.no_proof {
            return Ok(None);
        }
        progress.say("proving the loop on this machine");
        proof::run(&api, &paths).await.map(Some)
    });
    progress.end();
    if outcome.is_err()
        && let Some(password) = &password
    {
        // It is kept nowhere: whoever has to mend something first must not lose it.
        anstream::eprintln!("first user: admin   password (shown once): {password}");
    }
    report(shared, &paths, &access, password, outcome?, already.is_some())?;
    Ok(ExitCode::SUCCESS)
}

/// Is this host's agent connected?
async fn connected(api: &Api, paths: &Paths) -> bool {
    let Some(id) = paths.agent_id() else { return false };
    let agent = api.get(&format!("/api/v1/agents/{id}"), &[]).await;
    agent.is_ok_and(|agent| text(&agent, "state") == "connected")
}

/// Polls until a condition holds; ends at once where the supervising process is gone.
async fn wait(what: &str, paths: &Paths, mut condition: impl AsyncFnMut() -> bool) -> Result<Duration> {
    let began = Instant::now();
    loop {
        if condition().await {
            return Ok(began.elapsed());
        }
        let gone = running(paths).is_none() && began.elapsed() > Duration::from_secs(5);
        if gone || began.elapsed() > PATIENCE {
            let why = if gone {
                "the supervising process has ended".to_owned()
            } else {
                format!("{} s have passed", PATIENCE.as_secs())
            };
            bail!(
                "waited in vain: {what} ({why}); next: sudo sakimori doctor, and the logs in {}:\n{}",
                paths.logs.display(),
                ["supervisor.log", "manager.log", "agent.log"].map(|name| tail(&paths.logs.join(name))).concat()
            );
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The last lines of a log.
fn tail(path: &Path) -> String {
    let bytes = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(bytes.get(bytes.len().saturating_sub(4_096)..).unwrap_or_default()).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    let last = lines.get(lines.len().saturating_sub(8)..).unwrap_or_default();
    if last.is_empty() { String::new() } else { format!("{}:\n  {}\n", path.display(), last.join("\n  ")) }
}

fn report(
    shared: &Shared,
    paths: &Paths,
    access: &Access,
    password: Option<String>,
    proof: Option<proof::Proof>,
    already: bool,
) -> Result<()> {
    if shared.json {
        return output::json(&json!({
            "server": access.server, "user": "admin", "password": password, "already_running": already,
            "agent": paths.agent_id(), "proof": proof,
        }));
    }
    let good = output::GOOD;
    let plain = output::PLAIN;
    if let Some(proof) = proof {
        let whole = proof.lacking.is_empty();
        let verdict = if whole { "the loop works on this machine" } else { "the loop works as far as it can here" };
        output::line(format!("{good}{verdict}{plain}: probe address {}", proof.address))?;
        let rows: Vec<Vec<String>> = proof
            .steps
            .iter()
            .map(|step| vec![step.what.to_owned(), step.seen_by.to_owned(), format!("{} ms", step.milliseconds)])
            .collect();
        output::table(&["step", "seen by", "after"], &rows, "")?;
        for lacking in &proof.lacking {
            output::line(format!("{}not proved:{plain} {}: {}", output::WARN, lacking.what, lacking.why))?;
        }
        if !whole {
            output::line("what else is missing, and what to do: sakimori doctor")?;
        }
        output::line("")?;
    }
    output::line(format!("{good}Sakimori runs{plain}; its console is at {}", access.server))?;
    if let Some(password) = password {
        output::line(format!("first user: admin   password (shown once): {password}"))?;
    }
    output::line("try next:")?;
    let state =
        if paths.state == default_state() { String::new() } else { format!(" --state {}", paths.state.display()) };
    let own = std::env::current_exe().map_or_else(|_| "sakimori".into(), |path| path.display().to_string());
    for (command, what) in [
        ("alerts", "what was detected"),
        ("actions", "what was done about it"),
        ("events search 'event.category:authentication' --from 1h", "who logged in"),
    ] {
        output::line(format!("  {own}{state} {command}   # {what}"))?;
    }
    Ok(())
}

/// `sakimori down`.
pub fn down(shared: &Shared) -> Result<ExitCode> {
    let paths = Paths::new(&shared.state);
    if !paths.manager_config.is_file() && !paths.run.is_file() {
        return said(shared, "nothing of it is here, so nothing runs");
    }
    let progress = Progress::begin(shared.json);
    let ran = running(&paths).is_some();
    progress.say("stopping agent and manager");
    process::end_all(&paths, END)?;
    let mut removed = Ok(());
    if paths.agent_config.is_file() {
        progress.say("removing the agent's nftables table");
        let out = paths.agent(&["uninstall"])?.output().context("cannot start sakimori-agent")?;
        if !out.status.success() {
            let reason = String::from_utf8_lossy(&out.stderr).trim().to_owned();
            removed =
                Err(anyhow::anyhow!("the programs are stopped, but: {reason}; next: sudo sakimori agent uninstall"));
        }
    }
    progress.end();
    removed?;
    said(shared, if ran { "stopped; nftables is as it was" } else { "it was not running; nftables is as it was" })
}

fn said(shared: &Shared, text: &str) -> Result<ExitCode> {
    if shared.json {
        output::json(&json!({ "done": text }))?
    } else {
        output::line(text)?
    }
    Ok(ExitCode::SUCCESS)
}
