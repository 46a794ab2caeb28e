//! The tree of commands and what all of them share. Each group's own arguments are in its file under `commands`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::commands::{
    actions, agents, alerts, audit, backup, bouncers, bundle, cloud, config, doctor, events, exceptions, halt, hunt,
    logs, manager, net, notify, operator, playbook, policy, rules, scan, searches, secrets, token, triage, user,
};
use crate::platform;

/// Detects attacks on your hosts, blocks them, tells you, and takes it back when its time is up.
#[derive(Debug, Parser)]
#[command(
    name = "sakimori",
    version,
    propagate_version = true,
    arg_required_else_help = true,
    after_help = "Examples:\n  \
        sudo sakimori up                                   start everything on this machine\n  \
        sudo sakimori alerts                               what was detected\n  \
        sudo sakimori events search 'source.ip:203.0.113.0/24' --from 1h\n  \
        sakimori logs parse /var/log/auth.log              read a log without a manager\n  \
        sakimori hunt --rules content/sigma auth.log       look for attacks in old logs\n  \
        sakimori scan /srv/www                             look for malware in files\n  \
        sakimori completions bash > /etc/bash_completion.d/sakimori"
)]
pub struct Cli {
    #[command(flatten)]
    pub shared: Shared,
    #[command(subcommand)]
    pub command: Command,
}

/// What every command understands.
#[derive(Clone, Debug, Args)]
pub struct Shared {
    /// URL of the manager [default: as `sakimori up` wrote to cli.toml]
    #[arg(long, global = true, value_name = "URL", env = "SAKIMORI_SERVER")]
    pub server: Option<String>,
    /// API token [default: as `sakimori up` wrote to cli.toml]
    #[arg(long, global = true, value_name = "TOKEN", env = "SAKIMORI_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// The tenant that is meant, where the token is one over all tenants
    #[arg(long, global = true, value_name = "ID", env = "SAKIMORI_TENANT")]
    pub tenant: Option<String>,
    /// Folder of the platform that `up` starts [default without root: ~/.local/state/sakimori]
    #[arg(long, global = true, value_name = "DIR", env = "SAKIMORI_STATE", default_value_os_t = platform::default_state())]
    pub state: PathBuf,
    /// Print JSON
    #[arg(long, global = true)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start the whole platform on this machine and prove that the loop works
    Up(platform::UpArgs),
    /// Stop it and leave the host's nftables as it was
    Down,
    /// Run the manager in the foreground
    Manager(manager::ManagerArgs),
    /// The agent of this host: enroll, run, status, uninstall and more
    Agent {
        /// As sakimori-agent understands them
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENTS")]
        arguments: Vec<std::ffi::OsString>,
    },
    /// Say what this machine lacks, and what to do
    Doctor(doctor::DoctorArgs),
    /// Search, watch and count events
    #[command(subcommand)]
    Events(events::EventsCommand),
    /// List, save and delete searches that are looked for again
    Searches {
        #[command(subcommand)]
        command: Option<searches::SearchesCommand>,
    },
    /// Show and close alerts
    Alerts {
        #[command(subcommand)]
        command: Option<alerts::AlertsCommand>,
    },
    /// Show, undo and order actions
    Actions {
        #[command(subcommand)]
        command: Option<actions::ActionsCommand>,
    },
    /// Show what was sent to people and what became of it, and test channels
    Notify {
        #[command(subcommand)]
        command: Option<notify::NotifyCommand>,
    },
    /// Stop all automatic answers, on every host and in the cloud
    Halt(halt::HaltArgs),
    /// Let automatic answers go on
    Resume(halt::ResumeArgs),
    /// Sign, with a key that never lies on the manager, what goes beyond what a host lets the manager do
    #[command(subcommand)]
    Operator(operator::OperatorCommand),
    /// Show who changed what, and verify that nobody altered the record of it
    Audit {
        #[command(subcommand)]
        command: Option<audit::AuditCommand>,
    },
    /// Show for each host and module whether it is proven to work: by harmless probes, within the last day
    Proof,
    /// Check and test rules, log sources and playbooks without a manager, and show rules on trial
    #[command(subcommand)]
    Rules(rules::RulesCommand),
    /// What is done about alerts, step by step: list, check, test, run, approve, undo
    #[command(subcommand)]
    Playbook(playbook::PlaybookCommand),
    /// Show and set policy
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
    /// Alerts that are expected: list, make and remove exceptions
    #[command(subcommand)]
    Exceptions(exceptions::ExceptionsCommand),
    /// Write the whole installation into one file, while it works
    Backup(backup::BackupArgs),
    /// Bring a backup back into an empty place
    Restore(backup::RestoreArgs),
    /// Named secrets, and the key under which everything is sealed
    #[command(subcommand)]
    Secrets(secrets::SecretsCommand),
    /// Users
    #[command(subcommand)]
    User(user::UserCommand),
    /// API tokens
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// Show agents, take one out, and make tokens with which hosts join
    Agents {
        #[command(subcommand)]
        command: Option<agents::AgentsCommand>,
    },
    /// Cloud accounts: what the manager may do in them, and the least policy that playbooks need
    #[command(subcommand)]
    Cloud(cloud::CloudCommand),
    /// Programs that block what is decided here, as CrowdSec's bouncers do
    #[command(subcommand)]
    Bouncers(bouncers::BouncersCommand),
    /// Configuration files
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Rule bundles
    #[command(subcommand)]
    Bundle(bundle::BundleCommand),
    /// Log files, without a manager
    #[command(subcommand)]
    Logs(logs::LogsCommand),
    /// Judge a capture file by rules in the Suricata language, without a manager or root
    #[command(subcommand)]
    Net(net::NetCommand),
    /// Look for attacks in files, without a manager: Sigma over raw logs or events
    Hunt(hunt::HuntArgs),
    /// Look for malware in files, without a manager: YARA rules and lists of hashes
    Scan(scan::ScanArgs),
    /// Check triage packages of hosts, without a manager
    #[command(subcommand)]
    Triage(triage::TriageCommand),
    /// A worker process; started by this program only
    #[command(hide = true)]
    Worker {
        /// Which
        name: scan::WorkerName,
    },
    /// Print shell completions
    Completions {
        /// For which shell
        shell: clap_complete::Shell,
    },
    /// Write man pages into a folder
    Man {
        /// The folder
        dir: PathBuf,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    /// Options that every command understands must not be taken by one for something else: clap finds that only
    /// when the command runs.
    #[test]
    fn no_command_takes_an_option_of_all() {
        fn look(command: &clap::Command, shared: &[String]) {
            for below in command.get_subcommands() {
                for own in below.get_arguments().filter(|own| !own.is_global_set()) {
                    let id = own.get_id().to_string();
                    assert!(!shared.contains(&id), "{} of {}", id, below.get_name());
                }
                look(below, shared);
            }
        }
        Cli::command().debug_assert();
        let command = Cli::command();
        let shared: Vec<String> =
            command.get_arguments().filter(|one| one.is_global_set()).map(|one| one.get_id().to_string()).collect();
        assert!(shared.len() >= 5);
        look(&command, &shared);
    }
}
