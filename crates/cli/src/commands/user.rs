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
    /// Show how a user may sign in: codes of a device, recovery codes that are left, passkeys
    Factors {
        /// Name of the user
        name: String,
    },
    /// Remove a user's codes of a device and recovery codes, for who has lost both
    #[command(after_help = "Example:\n  sakimori user reset-totp ann")]
    ResetTotp {
        /// Name of the user
        name: String,
    },
    /// Remove all passkeys of a user
    ResetPasskeys {
        /// Name of the user
        name: String,
    },
    /// Sign a user out everywhere
    SignOut {
        /// Name of the user
        name: String,
    },
    /// On the manager's machine: make a new password for a user who cannot log in any more
    #[command(after_help = "Example:\n  sudo sakimori user reset-password admin")]
    ResetPassword {
        /// Name of the user
        name: String,
        /// Remove the user's codes of a device and passkeys too
        #[arg(long)]
        factors: bool,
        /// The manager's configuration [default: the one that `up` wrote, or /etc/sakimori/manager.toml]
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
}

pub fn run(shared: &Shared, command: UserCommand) -> Result<ExitCode> {
    match command {
        UserCommand::ResetPassword { name, factors, config } => reset(shared, &name, factors, config),
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
            let path = format!("{}/password", path_of(api, &name).await?);
            api.send(Method::PUT, &path, &json!({ "password": password(&name)? })).await?;
            if json {
                output::json(&json!({ "changed": name }))
            } else {
                output::line(format!("the password of {name} is set"))
            }
        }
        UserCommand::Factors { name } => {
            let shown = api.get(&format!("{}/factors", path_of(api, &name).await?), &[]).await?;
            if json { output::json(&shown) } else { output::line(factors_of(&shown)) }
        }
        UserCommand::ResetTotp { name } => {
            let said = format!(
                "{name} is asked for no code any more, and is signed out; a new device is set up in the console"
            );
            remove(api, &name, "totp", said, json).await
        }
        UserCommand::ResetPasskeys { name } => {
            let said = format!("{name} has no passkey any more, and is signed out");
            remove(api, &name, "passkeys", said, json).await
        }
        UserCommand::SignOut { name } => {
            let said = format!("{name} is signed out everywhere");
            remove(api, &name, "sessions", said, json).await
        }
        UserCommand::ResetPassword { .. } => Ok(()),
    }
}

/// The path of the one user of this name.
async fn path_of(api: &Api, name: &str) -> Result<String> {
    let users = api.list("/api/v1/users", &[], 10_000).await?;
    let found: Vec<&Value> = users.iter().filter(|user| text(user, "name") == name).collect();
    let [user] = found.as_slice() else {
        bail!("{} users are called {name}; sakimori user list shows them, --tenant names the tenant", found.len());
    };
    Ok(format!("/api/v1/users/{}", part(&text(user, "id"))))
}

async fn remove(api: &Api, name: &str, what: &str, said: String, json: bool) -> Result<()> {
    api.delete(&format!("{}/{what}", path_of(api, name).await?)).await?;
    if json { output::json(&json!({ "removed": what, "user": name })) } else { output::line(said) }
}

/// How a user may sign in, for people.
fn factors_of(shown: &Value) -> String {
    let provider = text(shown, "provider");
    if !provider.is_empty() {
        return format!("signs in at the provider {provider}, which asks for what it will");
    }
    let is = |name: &str| shown.get(name).and_then(Value::as_bool).unwrap_or_default();
    let mut out = match (is("totp"), is("required")) {
        (true, _) => format!("password and code; {} recovery codes are left", text(shown, "recovery_codes")),
        (false, true) => "password; a second factor is required and has to be set up first".into(),
        (false, false) => "password".into(),
    };
    for passkey in shown.get("passkeys").and_then(Value::as_array).into_iter().flatten() {
        let last = text(passkey, "last_used");
        let last = if last.is_empty() { "never used".into() } else { format!("last used {last}") };
        out.push_str(&format!("\npasskey: {}, made {}, {last}", text(passkey, "name"), text(passkey, "created")));
    }
    out
}

fn reset(shared: &Shared, name: &str, factors: bool, config: Option<PathBuf>) -> Result<ExitCode> {
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
        if factors {
            let reset = sakimori_manager::api::reset_factors(&control, &SystemClock, tenant, name).await;
            reset.with_context(|| format!("cannot reset how {name} signs in"))?;
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_somebody_signs_in_is_said_in_words() {
        let passkey = json!({"name": "blue key", "created": "2026-11-26T00:00:00Z", "last_used": null});
        let said = factors_of(&json!({"totp": true, "recovery_codes": 9, "required": false, "passkeys": [passkey]}));
        assert_eq!(
            said,
            "password and code; 9 recovery codes are left\npasskey: blue key, made 2026-11-26T00:00:00Z, never used"
        );
        let said = factors_of(&json!({"totp": false, "required": true, "passkeys": []}));
        assert!(said.contains("has to be set up first"), "{said}");
        assert!(factors_of(&json!({"provider": "corp"})).contains("provider corp"));
    }
}
