//! `log_inspection`: reads logs, makes events of them, runs the host-scope rules over them. The work is done
//! in the `logs` worker; a module that is off has no such process.

use std::path::Path;

use sakimori_model::policy::{self, Switch};
use sakimori_runtime::doctor::{Finding, Health, program};

use super::Descriptor;
use crate::config::Config;

/// What it is.
pub const DESCRIPTOR: Descriptor = Descriptor {
    id: "log_inspection",
    title: "Log inspection",
    summary: "Reads files and the journal, turns lines into events, and raises alerts from them on this host.",
    config_schema: policy::SCHEMA_VERSION,
    is_on: |policy| policy.modules.log_inspection.state == Switch::On,
    check,
};

fn check(config: &Config) -> Vec<Finding> {
    let Ok(policy) = config.local_policy() else { return Vec::new() };
    let sources = policy.modules.log_inspection.sources;
    let mut findings = Vec::new();
    for input in &sources {
        let id = format!("agent/input/{}", input.name);
        match (&input.file, &input.journal) {
            (Some(file), _) if Path::new(file).is_file() => findings.push(match std::fs::File::open(file) {
                Ok(_) => Finding::ok(&id, format!("{file} is there")),
                Err(error) => Finding::problem(
                    &id,
                    Health::Limited,
                    format!("cannot read {file}: {error}"),
                    "run the agent as root, or make its user a member of the group that may read the log (adm)",
                ),
            }),
            (Some(file), _) => findings.push(Finding::problem(
                &id,
                Health::Limited,
                format!("{file} is not there"),
                "nothing, where this host has no such log; it is read as soon as it appears",
            )),
            (None, Some(_)) if program("journalctl") => {
                findings.push(Finding::ok(&id, "journalctl is there"));
            }
            (None, _) => findings.push(Finding::problem(
                &id,
                Health::Limited,
                "journalctl is not there",
                "nothing, where this host has no systemd journal",
            )),
        }
    }
    findings
}
