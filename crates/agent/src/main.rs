//! sakimori-agent: all that a protected host needs. One binary: the supervisor (`run`), its workers, and the
//! commands that ask or change a running one.
//!
//! Map: `supervisor` is the loop and all that root does; `worker_logs`, `worker_network` and `worker_uplink` are what
//! the workers do; `modules` is the catalog of protection modules; `spool` keeps what is to be sent; `enroll` makes this host
//! known to a manager; `control`, `doctor` and `uninstall` are the commands.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic))]

/// Events are many small allocations that live and die together; with the C library's allocator they cost as much as
/// parsing them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How the allocator gives memory back: at once, since a host has better uses for it. Pages are small: of large ones
/// even a process that does next to nothing takes three. It reads this when a process begins, so workers get it with
/// their environment, and `run` begins anew with it.
const ALLOCATOR_SETTINGS: &[(&str, &str)] = &[
    ("MIMALLOC_PURGE_DELAY", "0"),
    ("MIMALLOC_ARENA_EAGER_COMMIT", "0"),
    ("MIMALLOC_ABANDONED_PAGE_PURGE", "1"),
    ("MIMALLOC_ALLOW_THP", "0"),
];

mod config;
mod control;
mod doctor;
mod enroll;
mod files;
mod halt;
mod host_facts;
mod machine;
mod mandate_file;
mod modules;
mod packets;
mod quarantine;
mod ready;
mod scan;
mod show;
mod spool;
mod stop_answers;
mod supervisor;
mod triage;
mod uninstall;
mod worker_logs;
mod worker_network;
mod worker_triage;
mod worker_uplink;

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use sakimori_model::{Network, Timestamp};
use sakimori_runtime::telemetry::{self, LogFormat};
use sakimori_runtime::{Clock, SystemClock};
use sakimori_wire::ipc::{Answer, Ask};

use config::Config;

/// The agent of Sakimori: reads logs, detects attacks, blocks attackers, and tells the manager.
#[derive(Debug, Parser)]
#[command(name = "sakimori-agent", version, propagate_version = true, arg_required_else_help = true)]
struct Cli {
    /// Configuration file [default: /etc/sakimori/agent.toml, where it exists]
    #[arg(long, global = true, value_name = "FILE", env = "SAKIMORI_AGENT_CONFIG")]
    config: Option<PathBuf>,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the agent, in the foreground, until it is told to stop
    Run,
    /// Enrol this host at a manager with a token; a running agent takes the new identity by itself
    Enroll {
        /// The token, as the manager shows it; "-" reads it from standard input
        token: String,
        /// Replace a former enrolment
        #[arg(long)]
        again: bool,
    },
    /// Show modules, inputs, link and spool of the running agent
    Status,
    /// Show, take back and confirm actions of this host
    Actions {
        #[command(subcommand)]
        command: ActionsCommand,
    },
    /// Block addresses by hand, through guard and ledger like any other block
    Block {
        /// Addresses or networks
        #[arg(required = true)]
        networks: Vec<Network>,
        /// For how many seconds
        #[arg(long, default_value_t = 3_600)]
        seconds: u32,
    },
    /// List, give back and delete quarantined files
    Quarantine {
        #[command(subcommand)]
        command: quarantine::QuarantineCommand,
    },
    /// List, look at and copy out the packets of alerted flows that the policy keeps
    Packets {
        #[command(subcommand)]
        command: packets::PacketsCommand,
    },
    /// Collect, list, check and copy out triage packages: what an investigator asks for first
    Triage {
        #[command(subcommand)]
        command: triage::TriageCommand,
    },
    /// Carry out one of this host's actions by hand, through guard and ledger like any other
    #[command(after_help = "Examples:\n  sakimori-agent act kill_tree 4711 --dry-run\n  \
                            sakimori-agent act freeze_processes /tmp/miner --seconds 7200\n  \
                            sakimori-agent act isolate_host this --seconds 3600 --input allow='[\"192.0.2.7\"]'\n  \
                            sakimori-agent act lock_user mallory --input end_sessions=true\n\
                            A process is 4711 or 4711@123456 (its start), the path of a program, or sha256:… of one.")]
    Act {
        /// Which action
        action: String,
        /// On what
        target: String,
        /// For how many seconds, where it ends by itself
        #[arg(long)]
        seconds: Option<u32>,
        /// Inputs, each NAME=VALUE
        #[arg(long = "input", value_name = "NAME=VALUE")]
        inputs: Vec<String>,
        /// Only say what would be done
        #[arg(long)]
        dry_run: bool,
    },
    /// Scan for malware now, and see to scans that the policy schedules
    Scan {
        #[command(subcommand)]
        command: scan::ScanCommand,
    },
    /// Show whether each module is proven to work, or prove it now by harmless probes
    Proof {
        /// Probe now, and wait for the result
        #[arg(long)]
        run: bool,
    },
    /// Say whether this host is enrolled and protected by its newest policy and rules; exit code 1 where it is not
    #[command(after_help = "Example, in user data before the load balancer asks:\n  sakimori-agent ready --wait 5m")]
    Ready {
        /// Wait for it at most so long, as 120s or 5m
        #[arg(long, value_name = "TIME", default_value = "0s", value_parser = ready::time)]
        wait: std::time::Duration,
    },
    /// Say what this machine lacks, and what to do
    Doctor,
    /// End the running agent in good order; blocks stay until their time is up
    Stop,
    /// Stop all automatic answers on this host, without the manager and without a running agent
    #[command(after_help = "Example:\n  sakimori-agent halt --undo --reason 'customers are locked out'")]
    Halt {
        /// Take back every block that is in effect, too
        #[arg(long)]
        undo: bool,
        /// Why, for those who read of it
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Let automatic answers go on
    Resume,
    /// Take the agent's traces off this host: stop it, remove its nftables table
    Uninstall {
        /// Remove identity, spool and ledger too
        #[arg(long)]
        purge: bool,
    },
    /// The process that holds what the kernel asks through; started by the supervisor only
    #[command(hide = true)]
    Keeper {
        /// Where it listens
        socket: PathBuf,
    },
    /// Write and open the test file, as a process that is nobody special; started by the supervisor only
    #[command(hide = true)]
    ProbeMalware {
        /// Where
        path: PathBuf,
    },
    /// The process that holds a packet queue; started by the supervisor only
    #[command(hide = true)]
    Pump {
        /// Where it listens
        socket: PathBuf,
        /// Number of the queue
        queue: u16,
        /// Lowest of its three bits of marks
        mark_bit: u8,
    },
    /// A worker process; started by the supervisor only
    #[command(hide = true)]
    Worker {
        /// Which
        name: WorkerName,
    },
}

#[derive(Debug, Subcommand)]
enum ActionsCommand {
    /// List actions in effect: blocks, isolations, locked users, quarantined files
    List {
        /// Ended ones too
        #[arg(long)]
        all: bool,
    },
    /// Take actions back before their time
    Undo {
        /// Ids of actions
        #[arg(required_unless_present = "all")]
        ids: Vec<String>,
        /// All that are in effect
        #[arg(long, conflicts_with = "ids")]
        all: bool,
    },
    /// Let provisional actions stay: isolations, blocks of networks, switches to prevent
    Confirm {
        /// Ids of actions
        #[arg(required = true)]
        ids: Vec<String>,
    },
    /// Read the ledger from the disk and hold it against what the manager saw; exit code 1 where it was altered or cut
    Verify,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum WorkerName {
    Logs,
    Uplink,
    Enrol,
    Malware,
    Network,
    Gather,
    Triage,
    Sign,
}

fn main() -> std::process::ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(code) => code,
        Err(error) => {
            anstream::eprintln!("{}error:{} {error:#}", show::BAD, show::PLAIN);
            std::process::ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<std::process::ExitCode> {
    let done = std::process::ExitCode::SUCCESS;
    if let Command::Worker { name: WorkerName::Malware } = cli.command {
        // Confined before anything else, logging included.
        sakimori_scan::worker::run(sakimori_scan::worker::QUIET)?;
        return Ok(done);
    }
    if let Command::ProbeMalware { path } = &cli.command {
        return Ok(supervisor::proof::write_and_open(path)?.into());
    }
    if let Command::Keeper { socket } = &cli.command {
        supervisor::antimalware::keeper::keep(socket)?;
        return Ok(done);
    }
    if let Command::Pump { socket, queue, mark_bit } = &cli.command {
        telemetry::init(LogFormat::Text, "info");
        supervisor::pump::hold(socket, *queue, *mark_bit)?;
        return Ok(done);
    }
    if let Command::Worker { name } = cli.command {
        telemetry::init(LogFormat::Text, &std::env::var("RUST_LOG").unwrap_or_else(|_| "info".into()));
        let channel = sakimori_sys::worker::connect()?;
        match name {
            WorkerName::Logs => worker_logs::run(channel)?,
            WorkerName::Uplink => worker_uplink::run(channel)?,
            WorkerName::Enrol => worker_uplink::enrol::run(&channel)?,
            WorkerName::Network => worker_network::run(channel)?,
            WorkerName::Gather => supervisor::triage::gather::run(channel)?,
            WorkerName::Triage => worker_triage::run(&channel)?,
            WorkerName::Sign => worker_triage::sign::run(&channel)?,
            WorkerName::Malware => {}
        }
        return Ok(done);
    }
    let config = Config::load(cli.config.as_deref())?;
    let socket = config.control_socket();
    match cli.command {
        Command::Run => {
            with_allocator_settings();
            telemetry::init(config.log.format, &config.log.level);
            supervisor::run(config)?;
        }
        Command::Enroll { token, again } => {
            telemetry::init(config.log.format, "warn");
            let token = match token.as_str() {
                "-" => std::io::read_to_string(std::io::stdin()).context("cannot read the token")?,
                _ => token,
            };
            let enrolled = enroll::enroll(&config, &token, again)?;
            show::enrolled(&enrolled, cli.json)?;
        }
        Command::Status => show::status(control::ask(&socket, &Ask::Status)?, cli.json)?,
        Command::Actions { command: ActionsCommand::List { all } } => {
            show::actions(control::ask(&socket, &Ask::Actions { all })?, cli.json)?;
        }
        Command::Actions { command: ActionsCommand::Undo { ids, all: _ } } => {
            return show::done(control::ask(&socket, &Ask::Undo { ids, by: who() })?, "undone", cli.json);
        }
        Command::Actions { command: ActionsCommand::Confirm { ids } } => {
            return show::done(control::ask(&socket, &Ask::Confirm { ids, by: who() })?, "confirmed", cli.json);
        }
        Command::Actions { command: ActionsCommand::Verify } => stop_answers::verify(&config, cli.json)?,
        Command::Block { networks, seconds } => {
            let expiry: Timestamp = SystemClock.now().plus_secs(i64::from(seconds));
            let answer: Answer = control::ask(&socket, &Ask::Block { networks, expiry, by: who() })?;
            return show::done(answer, "blocked", cli.json);
        }
        Command::Quarantine { command } => return quarantine::run(&config, command, who(), cli.json),
        Command::Packets { command } => return packets::run(&config, command, cli.json),
        Command::Triage { command } => return triage::run(&config, command, who(), cli.json),
        Command::Act { action, target, seconds, inputs, dry_run } => {
            let ask = show::act(action, target, seconds, inputs, dry_run, who())?;
            return show::acted(control::ask(&socket, &ask)?, cli.json);
        }
        Command::Scan { command } => return scan::run(&socket, command, who(), cli.json),
        Command::Proof { run } => return proof(&socket, run, cli.json),
        Command::Ready { wait } => return ready::run(&config, wait, cli.json),
        Command::Doctor => return doctor::run(&config, cli.json),
        Command::Halt { undo, reason } => stop_answers::halt(&config, undo, reason, &who(), cli.json)?,
        Command::Resume => stop_answers::resume(&config, cli.json)?,
        Command::Stop => {
            return show::done(control::ask(&socket, &Ask::Stop { uninstall: false })?, "stopping", cli.json);
        }
        Command::Uninstall { purge } => uninstall::run(&config, purge)?,
        Command::Worker { .. } | Command::Keeper { .. } | Command::Pump { .. } | Command::ProbeMalware { .. } => {}
    }
    Ok(done)
}

/// Begins this process anew, as the same process, with the allocator's settings; where that cannot be, goes on.
fn with_allocator_settings() {
    if ALLOCATOR_SETTINGS.iter().all(|(name, _)| std::env::var_os(name).is_none()) {
        let error = begin_anew(ALLOCATOR_SETTINGS);
        tracing::debug!(%error, "the allocator keeps its own settings");
    }
}

/// Begins this process anew, with the same arguments and this environment added. Comes back only with an error.
fn begin_anew(environment: &[(&str, &str)]) -> std::io::Error {
    use std::os::unix::process::CommandExt;
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => return error,
    };
    let mut arguments = std::env::args_os();
    let mut command = std::process::Command::new(program);
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    command.args(arguments).envs(environment.iter().copied()).exec()
}

/// Shows what the probes said; with `run`, after a new run.
fn proof(socket: &std::path::Path, run: bool, json: bool) -> Result<std::process::ExitCode> {
    let mut answer = control::ask(socket, &Ask::Proof { run })?;
    while run && matches!(answer, Answer::Proof { running: true, .. }) {
        std::thread::sleep(std::time::Duration::from_millis(200));
        answer = control::ask(socket, &Ask::Proof { run: false })?;
    }
    show::proofs(answer, json)
}

/// Who types: the user behind sudo, where there is one.
fn who() -> String {
    std::env::var("SUDO_USER").or_else(|_| std::env::var("USER")).unwrap_or_else(|_| "root".into())
}
