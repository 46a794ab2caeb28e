//! `manager`: the control plane in the foreground.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Args;
use sakimori_manager::Manager;
use sakimori_manager::config::Config;
use sakimori_runtime::{Stop, config, telemetry};

use crate::output;

/// Where the configuration lies when no other place is given.
pub const DEFAULT_PATH: &str = "/etc/sakimori/manager.toml";

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  sakimori manager --config /etc/sakimori/manager.toml\n  \
    SAKIMORI_API__LISTEN='\"127.0.0.1:7700\"' sakimori manager")]
pub struct ManagerArgs {
    /// Configuration file [default: /etc/sakimori/manager.toml, where it exists]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// A manager's configuration, with the place that it came from.
pub fn config(path: &Path, optional: bool) -> Result<Config> {
    let config: Config = config::load(Some(path), optional, std::env::vars())?;
    Ok(Config { file: path.is_file().then(|| path.to_owned()), ..config })
}

/// Runs it until a signal, or until one of its parts fails for good.
pub fn run(args: &ManagerArgs) -> Result<ExitCode> {
    let default = PathBuf::from(DEFAULT_PATH);
    let path = args.config.as_ref().unwrap_or(&default);
    let config = config(path, args.config.is_none())?;
    telemetry::init(config.log.format, &config.log.level);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start tokio")?;
    let by_signal = runtime.block_on(async {
        let running = Manager::start(config).await?;
        tracing::info!(api = %running.api_addr, agents = %running.link_addr, "the manager runs");
        if let Some(password) = &running.first_password {
            output::line(format!("first user: admin   password (shown once): {password}"))?;
        }
        let (signal, stopper) = (Stop::new(), running.stopper());
        let watch = async {
            tokio::select! {
                heard = signal.on_signal() => {
                    stopper.tell();
                    heard.is_ok()
                }
                () = stopper.wait() => false,
            }
        };
        let (by_signal, ()) = tokio::join!(watch, running.finish());
        anyhow::Ok(by_signal)
    })?;
    if !by_signal {
        bail!("a part of the manager failed; the lines above say which");
    }
    Ok(ExitCode::SUCCESS)
}
