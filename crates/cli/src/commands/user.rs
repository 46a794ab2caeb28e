//! `user`: who may log in, and as what. `reset-password` works on the control database itself, so it helps when
//! nobody can log in any more; it needs the manager's machine and root.

use std::io::{BufRead, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Subcommand;
use reqwest::Method;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use sakimori_manager::config::Config;
use sakimori_runtime::SystemClock;
use sakimori_store::control::Control;
use serde_json::{Value, json};

use super::{block_on, manager, with_api};
use crate::api::{Api, part};
use crate::args::Shared;
use crate::output::{self, text};
use crate::platform::Paths;

#[derive(Debug, Subcommand)]
pub enum UserCommand {
    /// List users
    List,
    /// Make a user; the password is asked for, or read from standard input
    #[command(after_help = "Example:\n  sakimori user add ann --role operator")]
    Add {
        /// What is typed at login
        name: String,
        /// viewer, operator or admin
        #[arg(long, default_value = "viewer")]
        role: String,
    },
    /// Set a user's password; it is asked for, or read from standard input
    Passwd {
        /// Name of the user
        name: String,
    },
    /// On the manager's machine: make a new password for a user who cannot log in any more
    #[command(after_help = "Example:\n  sudo sakimori user reset-password admin")]
    ResetPassword {
        /// Name of the user
        name: String,
        /// The manager's configuration [default: the one that `up` wrote, or /etc/sakimori/manager.toml]
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
}

pub fn run(shared: &Shared, command: UserCommand) -> Result<ExitCode> {
    match command {
        UserCommand::ResetPassword { name, config } => reset(shared, &name, config),
        other => with_api(shared, async |api| by_api(&api, other, shared.json).await),
    }
}

async fn by_api(api: &Api, command: UserCommand, json: bool) -> Result<()> {
    match command {
        UserCommand::List => {
            let found = api.list("/api/v1/users", &[], 10_000).await?;
            if json {
                return output::json(&found);
            }
            let names = ["id", "name", "role", "tenant", "disabled", "created"];
            let rows: Vec<Vec<String>> =
                found.iter().map(|user| names.iter().map(|name| text(user, name)).collect()).collect();
            output::table(&names, &rows, "no users")
        }
        UserCommand::Add { name, role } => {
            let body = json!({ "name": name, "role": role, "password": password(&name)? });
            let user = api.send(Method::POST, "/api/v1/users", &body).await?;
            if json { output::json(&user) } else { output::line(format!("{name} may log in as {role}")) }
        }
        UserCommand::Passwd { name } => {
            let users = api.list("/api/v1/users", &[], 10_000).await?;
            let found: Vec<&Value> = users.iter().filter(|user| text(user, "name") == name).collect();
            let [user] = found.as_slice() else {
                bail!(
                    "{} users are called {name}; sakimori user list shows them, --tenant names the tenant",
                    found.len()
                );
            };
            let path = format!("/api/v1/users/{}/password", part(&text(user, "id")));
            api.send(Method::PUT, &path, &json!({ "password": password(&name)? })).await?;
            if json {
                output::json(&json!({ "changed": name }))
            } else {
                output::line(format!("the password of {name} is set"))
            }
        }
        UserCommand::ResetPassword { .. } => Ok(()),
    }
}

fn reset(shared: &Shared, name: &str, config: Option<PathBuf>) -> Result<ExitCode> {
    let own = Paths::new(&shared.state).manager_config;
    let path = config.unwrap_or_else(|| if own.is_file() { own } else { manager::DEFAULT_PATH.into() });
    let config: Config = sakimori_runtime::config::load(Some(&path), true, std::env::vars())?;
    let database = config.state_dir.join("control.db");
    if config.store.url.is_none() && !database.is_file() {
        bail!("{} is not there; run this on the manager's machine, as root, with its --config", database.display());
    }
    let password = block_on(async {
        let control = Control::open(&config.control_url()).await?;
        let tenant = shared.tenant.as_deref();
        let made = sakimori_manager::api::reset_password(&control, &SystemClock, tenant, name, None).await;
        control.close().await;
        made.with_context(|| format!("cannot reset the password of {name}"))
    })?;
    if shared.json {
        output::json(&json!({ "name": name, "password": password }))?;
    } else {
        output::line(format!("user: {name}   password (shown once): {password}"))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A new password: typed twice on a terminal without being shown, else the first line of standard input.
fn password(name: &str) -> Result<String> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        let mut line = String::new();
        stdin.lock().read_line(&mut line).context("cannot read the password")?;
        let line = line.trim_end_matches(['\r', '\n']).to_owned();
        if line.is_empty() {
            bail!("no password on standard input; write one line there");
        }
        return Ok(line);
    }
    let first = typed(&format!("new password of {name}: "))?;
    if typed("once more: ")? != first {
        bail!("the two differ; try again");
    }
    Ok(first)
}

fn typed(prompt: &str) -> Result<String> {
    let stdin = std::io::stdin();
    eprint!("{prompt}");
    std::io::stderr().flush()?;
    let before = tcgetattr(&stdin).context("cannot ask the terminal")?;
    let mut silent = before.clone();
    silent.local_modes.remove(LocalModes::ECHO);
    tcsetattr(&stdin, OptionalActions::Flush, &silent).context("cannot silence the terminal")?;
    let mut line = String::new();
    let read = stdin.lock().read_line(&mut line);
    let _ = tcsetattr(&stdin, OptionalActions::Flush, &before);
    eprintln!();
    read.context("cannot read the password")?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}
