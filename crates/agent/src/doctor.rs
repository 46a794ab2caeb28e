//! What this machine lacks for the agent, and what to do. Changes nothing.

use std::process::ExitCode;

use anyhow::Result;
use sakimori_runtime::doctor::{Finding, Health};
use sakimori_sys::cgroup::Cgroups;
use sakimori_wire::ipc::Ask;

use crate::config::Config;
use crate::enroll::Enrolled;
use crate::modules::CATALOG;
use crate::{control, show};

/// Looks, prints, and fails where something does not work.
///
/// # Errors
/// Where nothing can be written.
pub fn run(config: &Config, json: bool) -> Result<ExitCode> {
    let mut findings = vec![root(), enrolment(config), running(config), answers(config), mandate(config), budgets()];
    for module in CATALOG {
        let state =
            config.local_policy().map_or("unknown", |policy| if (module.is_on)(&policy) { "on" } else { "off" });
        let id = format!("agent/module/{}", module.id);
        findings.push(Finding::ok(
            &id,
            format!("{} ({state} by this host's own policy): {}", module.title, module.summary),
        ));
        findings.extend((module.check)(config));
    }
    show::findings(&findings, json)?;
    let failing = findings.iter().any(|finding| finding.health == Health::Failing);
    Ok(if failing { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn root() -> Finding {
    if rustix::process::geteuid().is_root() {
        Finding::ok("agent/root", "running as root")
    } else {
        Finding::problem(
            "agent/root",
            Health::Limited,
            "not running as root: logs are read as far as this user may, and workers share this user and its network",
            "run it with sudo, or as a service",
        )
    }
}

fn enrolment(config: &Config) -> Finding {
    match Enrolled::load(&config.enrolled_file()) {
        Ok(Some(enrolled)) if enrolled.is_copied().is_some() => Finding::problem(
            "agent/enrolment",
            Health::Failing,
            format!(
                "{} is the identity of another machine ({} differs): this disk is a copy, or was put into another machine",
                enrolled.agent_id,
                enrolled.is_copied().unwrap_or_default()
            ),
            "sakimori-agent enroll TOKEN; images get a group's token in the token file (sakimori agents token --uses)",
        ),
        Ok(Some(enrolled)) => {
            Finding::ok("agent/enrolment", format!("{} at {}", enrolled.agent_id, enrolled.manager(config)))
        }
        Ok(None) => Finding::problem(
            "agent/enrolment",
            Health::Limited,
            "not enrolled: it detects and blocks here, and nobody is told",
            "sakimori-agent enroll TOKEN, with a token of the manager",
        ),
        Err(error) => Finding::problem(
            "agent/enrolment",
            Health::Failing,
            format!("{error:#}"),
            "sakimori-agent enroll --again TOKEN",
        ),
    }
}

fn budgets() -> Finding {
    let missing = Cgroups::look();
    if missing.is_empty() {
        return Finding::ok("agent/budgets", "the kernel can hold the budget of each worker (control groups)");
    }
    Finding::problem(
        "agent/budgets",
        Health::Limited,
        format!("the kernel holds no budget of: {}; each worker still limits its own memory", missing.join(", ")),
        "run it as root where cgroup controllers are mounted and may be written; in a systemd unit set Delegate=yes",
    )
}

fn answers(config: &Config) -> Finding {
    match crate::halt::read(&config.agent.state) {
        None => Finding::ok("agent/answers", "automatic answers are not stopped"),
        Some(halted) => {
            Finding::problem("agent/answers", Health::Limited, halted.words(), "sakimori-agent resume lets them go on")
        }
    }
}

fn mandate(config: &Config) -> Finding {
    let loaded = crate::mandate_file::Loaded::read(&config.agent.mandate);
    match loaded.problem {
        None => Finding::ok("agent/mandate", format!("what the manager may do here: {}", loaded.source)),
        Some(problem) => Finding::problem(
            "agent/mandate",
            Health::Failing,
            problem,
            "mend the file, and let it and its folders belong to root alone (chown root, chmod go-w)",
        ),
    }
}

fn running(config: &Config) -> Finding {
    match control::ask(&config.control_socket(), &Ask::Status) {
        Ok(_) => Finding::ok("agent/running", "the agent answers"),
        Err(error) => Finding::problem(
            "agent/running",
            Health::Limited,
            format!("{error:#}"),
            "sakimori-agent run, or systemctl start sakimori-agent",
        ),
    }
}
