//! `doctor`: what this machine lacks for the manager and, from the agent's own program, for the agent.

use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use sakimori_manager::sealing::keyfile::KeyPlace;
use sakimori_manager::sealing::{Error, files};
use sakimori_runtime::doctor::{Finding, Health, program};

use super::backup::own_config;
use super::{agent_program, block_on};
use crate::api::{Access, Api};
use crate::args::Shared;
use crate::output;
use crate::platform::{Paths, running};

/// Less free disk than this holds the manager up.
const LEAST_DISK: u64 = 1 << 30;

#[derive(Debug, Args)]
pub struct DoctorArgs {}

pub fn run(shared: &Shared, _: &DoctorArgs) -> Result<ExitCode> {
    let paths = Paths::new(&shared.state);
    let mut findings = vec![disk(&shared.state), nft(), platform(&paths), manager(shared)];
    findings.extend(sealing(shared));
    findings.extend(agent(&paths));
    if shared.json {
        output::json(&findings)?;
    } else {
        for finding in &findings {
            let (style, word) = match finding.health {
                Health::Ok => (output::GOOD, "ok"),
                Health::Limited => (output::WARN, "limited"),
                Health::Failing => (output::BAD, "failing"),
            };
            output::line(format!("{style}{word:<8}{} {:<28} {}", output::PLAIN, finding.id, finding.found))?;
            if !finding.remedy.is_empty() {
                output::line(format!("         {:<28} → {}", "", finding.remedy))?;
            }
        }
    }
    let failing = findings.iter().any(|finding| finding.health == Health::Failing);
    Ok(if failing { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn disk(state: &Path) -> Finding {
    let there = state.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("/"));
    match rustix::fs::statvfs(there) {
        Ok(found) => {
            let free = found.f_bavail.saturating_mul(found.f_frsize);
            let text = format!("{} MiB are free below {}", free >> 20, state.display());
            if free >= LEAST_DISK {
                Finding::ok("manager/disk", text)
            } else {
                Finding::problem(
                    "manager/disk",
                    Health::Failing,
                    text,
                    "free some, or name another folder with --state",
                )
            }
        }
        Err(error) => {
            Finding::problem("manager/disk", Health::Limited, format!("cannot ask: {error}"), "run it as root")
        }
    }
}

fn nft() -> Finding {
    if program("nft") {
        Finding::ok("host/nft", "the program nft is here")
    } else {
        let found = "the program nft is missing; blocking works without it, looking at it by hand does not";
        Finding::problem("host/nft", Health::Limited, found, "apt-get install nftables")
    }
}

fn platform(paths: &Paths) -> Finding {
    match running(paths) {
        Some(run) => Finding::ok("platform/supervisor", format!("runs as process {}", run.supervisor.pid)),
        None => Finding::problem(
            "platform/supervisor",
            Health::Limited,
            format!("nothing runs from {}", paths.state.display()),
            "sudo sakimori up, or run manager and agent as services",
        ),
    }
}

fn manager(shared: &Shared) -> Finding {
    let remedy = "sudo sakimori up; its logs are in the folder logs of its state";
    let api = match Api::open(shared) {
        Ok(api) => api,
        Err(error) => {
            let known = Access::load(&shared.state).is_ok_and(|kept| kept.is_some());
            let health = if known { Health::Failing } else { Health::Limited };
            return Finding::problem(
                "manager/api",
                health,
                format!("{error:#}"),
                "run it as root, or name --server and --token",
            );
        }
    };
    let ready = block_on(async {
        let wait = tokio::time::timeout(Duration::from_secs(10), api.status("/readyz"));
        anyhow::Ok(wait.await.ok().flatten())
    });
    match ready.ok().flatten() {
        Some(200) => Finding::ok("manager/api", format!("ready at {}", api.base())),
        Some(status) => {
            Finding::problem("manager/api", Health::Failing, format!("{} answers {status}", api.base()), remedy)
        }
        None => Finding::problem("manager/api", Health::Failing, format!("nobody answers at {}", api.base()), remedy),
    }
}

/// Is the key there under which this machine's manager seals its secrets? Nothing where there is no manager.
fn sealing(shared: &Shared) -> Option<Finding> {
    const ID: &str = "manager/sealing";
    let (path, config) = own_config(shared, None).ok()?;
    if !path.is_file() && !config.state_dir.is_dir() {
        return None;
    }
    let text = |place: &KeyPlace| place.path().display().to_string();
    Some(match KeyPlace::of(&config).and_then(|place| Ok((place.load()?, place))) {
        Ok((Some(ring), place)) => Finding::ok(
            ID,
            format!("secrets are sealed under the key {} in {}; keep a copy elsewhere", ring.newest(), text(&place)),
        ),
        Ok((None, place)) => {
            let found = format!("the sealing key {} is missing", text(&place));
            match config.state_dir.join(files::BUNDLE).exists() {
                true => Finding::problem(
                    ID,
                    Health::Failing,
                    found,
                    "put your copy of it there; secrets do not open without it",
                ),
                false => Finding::problem(
                    ID,
                    Health::Limited,
                    found,
                    "the manager makes it when it starts for the first time",
                ),
            }
        }
        Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::PermissionDenied => {
            Finding::problem(ID, Health::Limited, "the sealing key is root's", "run it as root")
        }
        Err(error) => Finding::problem(ID, Health::Failing, error.to_string(), "sakimori secrets --help"),
    })
}

/// What the agent's own doctor says.
fn agent(paths: &Paths) -> Vec<Finding> {
    let fail = |found: String| vec![Finding::problem("agent/program", Health::Failing, found, "make build")];
    let program = match agent_program() {
        Ok(program) => program,
        Err(error) => return fail(format!("{error:#}")),
    };
    let mut command = Command::new(program);
    if paths.agent_config.is_file() && std::env::var_os("SAKIMORI_AGENT_CONFIG").is_none() {
        command.arg("--config").arg(&paths.agent_config);
    }
    match command.args(["--json", "doctor"]).output() {
        Ok(out) => serde_json::from_slice(&out.stdout)
            .unwrap_or_else(|_| fail(String::from_utf8_lossy(&out.stderr).trim().to_owned())),
        Err(error) => fail(format!("cannot start it: {error}")),
    }
}
