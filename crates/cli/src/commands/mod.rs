//! One file a group of commands; this one sends each to its place.

pub mod actions;
pub mod agents;
pub mod alerts;
pub mod audit;
pub mod backup;
pub mod bouncers;
pub mod bundle;
pub mod cloud;
pub mod config;
pub mod doctor;
pub mod events;
pub mod exceptions;
pub mod halt;
pub mod hunt;
mod lint;
pub mod logs;
pub mod manager;
pub mod net;
mod net_keep;
pub mod noisy;
pub mod notify;
pub mod operator;
pub mod playbook;
pub mod policy;
pub mod proof;
mod rollout;
pub mod rules;
pub mod scan;
pub mod scans;
pub mod searches;
pub mod secrets;
pub mod token;
pub mod triage;
pub mod trials;
pub mod user;

use std::ffi::OsString;
use std::future::Future;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::CommandFactory;

use crate::api::Api;
use crate::args::{Cli, Command, Shared};
use crate::platform;

/// Runs a command.
pub fn run(cli: Cli) -> Result<ExitCode> {
    let shared = cli.shared;
    match cli.command {
        Command::Up(args) => platform::up(&shared, &args),
        Command::Down => platform::down(&shared),
        Command::Manager(args) => manager::run(&args),
        Command::Agent { arguments } => agent(&shared, arguments),
        Command::Doctor(args) => doctor::run(&shared, &args),
        Command::Events(command) => with_api(&shared, async |api| events::run(&api, command, shared.json).await),
        Command::Alerts { command } => with_api(&shared, async |api| alerts::run(&api, command, shared.json).await),
        Command::Actions { command } => with_api(&shared, async |api| actions::run(&api, command, shared.json).await),
        Command::Halt(args) => with_api(&shared, async |api| halt::halt(&api, args, shared.json).await),
        Command::Resume(args) => with_api(&shared, async |api| halt::resume(&api, args, shared.json).await),
        Command::Operator(command) => operator::run(&shared, command),
        Command::Audit { command } => with_api(&shared, async |api| audit::run(&api, command, shared.json).await),
        Command::Notify { command } => notify::run(&shared, command),
        Command::Proof => with_api(&shared, async |api| proof::run(&api, shared.json).await),
        Command::Rules(command) => rules::run(&shared, &command),
        Command::Playbook(command) => playbook::run(&shared, command),
        Command::Policy(command) => with_api(&shared, async |api| policy::run(&api, command, shared.json).await),
        Command::Exceptions(command) => {
            with_api(&shared, async |api| exceptions::run(&api, command, shared.json).await)
        }
        Command::Backup(args) => backup::run(&shared, &args),
        Command::Restore(args) => backup::restore(&shared, &args),
        Command::Secrets(command) => secrets::run(&shared, command),
        Command::User(command) => user::run(&shared, command),
        Command::Searches { command } => with_api(&shared, async |api| searches::run(&api, command, shared.json).await),
        Command::Bouncers(command) => with_api(&shared, async |api| bouncers::run(&api, command, shared.json).await),
        Command::Token(command) => with_api(&shared, async |api| token::run(&api, command, shared.json).await),
        Command::Agents { command: Some(agents::AgentsCommand::Scan(scan)) } => {
            let api = Api::open(&shared)?;
            block_on(scans::run(&api, scan, shared.json))
        }
        Command::Agents { command } => {
            let command = command.unwrap_or(agents::AgentsCommand::List { of: None });
            with_api(&shared, async |api| agents::run(&api, command, shared.json).await)
        }
        Command::Cloud(command) => cloud::run(&shared, command),
        Command::Config(command) => config::run(&command, shared.json),
        Command::Bundle(command) => bundle::run(&shared, command),
        Command::Logs(command) => logs::run(&command),
        Command::Net(command) => net::run(&command, shared.json),
        Command::Hunt(args) => hunt::run(&args, shared.json),
        Command::Triage(command) => triage::run(&command, shared.json),
        Command::Scan(args) => Ok(scan::run(&args, shared.json)),
        Command::Worker { name: scan::WorkerName::Malware } => {
            sakimori_scan::worker::run(sakimori_scan::worker::QUIET)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Worker { name: scan::WorkerName::Ingest } => {
            sakimori_manager::ingest::worker::run()?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Worker { name: scan::WorkerName::Lint } => {
            lint::run()?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Completions { shell } => {
            let mut command = Cli::command();
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut command, "sakimori", &mut text);
            std::io::Write::write_all(&mut std::io::stdout(), &text)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Man { dir } => {
            std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
            clap_mangen::generate_to(Cli::command(), &dir)
                .with_context(|| format!("cannot write man pages into {}", dir.display()))?;
            crate::output::line(format!("man pages are in {}; read one with: man -l {0}/sakimori.1", dir.display()))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Runs a future to its end on this thread.
pub fn block_on<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start tokio")?.block_on(future)
}

/// Runs what needs a manager.
pub fn with_api(shared: &Shared, work: impl AsyncFnOnce(Api) -> Result<()>) -> Result<ExitCode> {
    let api = Api::open(shared)?;
    block_on(work(api))?;
    Ok(ExitCode::SUCCESS)
}

/// The agent's program, which lies beside this one.
pub fn agent_program() -> Result<PathBuf> {
    let own = std::env::current_exe().context("cannot find this program's own file")?;
    let path = own.with_file_name("sakimori-agent");
    if !path.is_file() {
        bail!("{} is missing; both programs are installed side by side (make build makes both)", path.display());
    }
    Ok(path)
}

/// Becomes the agent's program. Without a configuration of its own, the one that `up` wrote applies.
fn agent(shared: &Shared, arguments: Vec<OsString>) -> Result<ExitCode> {
    let mut command = std::process::Command::new(agent_program()?);
    let own = platform::Paths::new(&shared.state).agent_config;
    let named = arguments.iter().any(|one| one.to_string_lossy().starts_with("--config"));
    if !named && std::env::var_os("SAKIMORI_AGENT_CONFIG").is_none() && own.is_file() {
        command.env("SAKIMORI_AGENT_CONFIG", own);
    }
    if shared.json {
        command.arg("--json");
    }
    let error = command.args(arguments).exec();
    Err(error).context("cannot start sakimori-agent")
}

/// Now, from the machine's clock.
pub fn now() -> sakimori_model::Timestamp {
    sakimori_runtime::Clock::now(&sakimori_runtime::SystemClock)
}
