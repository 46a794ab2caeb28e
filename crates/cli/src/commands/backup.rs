//! `backup` and `restore`: the whole installation as one file, and back.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Args;
use sakimori_manager::backup::{self, Manifest};
use sakimori_manager::config::Config;
use sakimori_manager::sealing::keyfile::KeyPlace;
use sakimori_runtime::SystemClock;
use serde_json::json;

use super::{block_on, manager};
use crate::api::Api;
use crate::args::Shared;
use crate::output::{self, Progress, text};
use crate::platform::Paths;

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    sudo sakimori backup /backups/sakimori-$(date +%F).tar              while the manager works\n  \
    sudo sakimori backup /backups/sakimori.tar --stopped                of a manager that does not run\n  \
    sudo sakimori backup /backups/sakimori.tar --check                  is a backup whole?\n\n\
    The file holds events, control state, content, and the manager's private keys, which are sealed: they open with\n\
    the key file alone (sakimori secrets key says where it is), which is not in it. Keep a copy of that elsewhere and\n\
    apart from the backups. A backup is readable by its owner alone; keep it so. What the configuration names outside\n\
    of state_dir (certificates, secret_file of webhooks) is not in it.")]
pub struct BackupArgs {
    /// Where it goes; nothing is written over
    file: PathBuf,
    /// Read the state folder itself, of a manager that does not run
    #[arg(long)]
    stopped: bool,
    /// The manager's configuration, with --stopped [default: as `sakimori up` wrote it, else /etc/sakimori/manager.toml]
    #[arg(long, value_name = "FILE", requires = "stopped")]
    config: Option<PathBuf>,
    /// Go through a backup that was made before, and write nothing
    #[arg(long, conflicts_with = "stopped")]
    check: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    sudo sakimori restore /backups/sakimori.tar                         to where this machine's manager has its state\n  \
    sudo sakimori restore sakimori.tar --config /etc/sakimori/manager.toml\n  \
    sudo sakimori restore sakimori.tar --key /media/safe/seal.key       on a machine that has not its key\n\n\
    The state folder must be empty or absent; nothing is written over, and a backup that is not whole restores nothing.\n\
    Then start the manager as usual. Agents find it where the former one was; what they sent between the backup and\n\
    now is counted as lost (sakimori events balance), and hosts that joined since then join again.")]
pub struct RestoreArgs {
    /// The backup
    file: PathBuf,
    /// Configuration of the manager that it is restored for [default: as `sakimori up` wrote it, else
    /// /etc/sakimori/manager.toml]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The seal.key of the manager that was backed up, where this machine has another or none
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
}

pub fn run(shared: &Shared, args: &BackupArgs) -> Result<ExitCode> {
    let progress = Progress::begin(shared.json);
    let mut key_file = None;
    let manifest = if args.check {
        progress.say(&format!("reading {}", args.file.display()));
        backup::verify(&args.file)?
    } else {
        let draft = Draft::create(&args.file)?;
        if args.stopped {
            let config = own_config(shared, args.config.as_deref())?.1;
            of_stopped(&config, &draft, &progress)?;
            key_file = Some(KeyPlace::of(&config)?.path().display().to_string());
        } else {
            let api = Api::open(shared)?;
            block_on(of_running(&api, &draft, &progress))?;
            let sealing = block_on(api.get("/api/v1/sealing", &[]));
            key_file = sealing.ok().map(|sealing| text(&sealing, "file"));
        }
        progress.say("reading it back");
        let manifest = backup::verify(&draft.path)?;
        draft.keep(&args.file)?;
        manifest
    };
    progress.end();
    let size = std::fs::metadata(&args.file).map_or(0, |data| data.len());
    if shared.json {
        return done(&shown(&manifest, size, key_file));
    }
    output::line(format!(
        "{}: {} MiB in {} entries, of {}; it is whole",
        args.file.display(),
        size >> 20,
        manifest.files.len(),
        manifest.header.created
    ))?;
    output::line(match (manifest.header.sealed_by.as_str(), key_file) {
        ("", _) => {
            "it was made by an older version, and its keys are plain: keep it as safe as the manager itself".into()
        }
        (id, None) => format!("keep it apart from the seal.key with the key {id}, without which it cannot be restored"),
        (_, Some(file)) => {
            format!("also keep safe, and apart from it: a copy of {file}, without which it cannot be restored")
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

fn done(value: &serde_json::Value) -> Result<ExitCode> {
    output::json(value)?;
    Ok(ExitCode::SUCCESS)
}

fn shown(manifest: &Manifest, size: u64, key_file: Option<String>) -> serde_json::Value {
    json!({
        "sealed_by": manifest.header.sealed_by, "key_file": key_file,
        "created": manifest.header.created, "version": manifest.header.version, "bytes": size,
        "entries": manifest.files.len(), "table_version": manifest.table_version,
        "journal_records": manifest.records,
    })
}

/// The file until it is whole: beside its place, for its owner alone, gone where it does not become whole.
struct Draft {
    path: PathBuf,
    file: std::fs::File,
}

impl Draft {
    fn create(place: &Path) -> Result<Self> {
        if place.exists() {
            bail!("{} is there already; nothing is written over, name another file", place.display());
        }
        let name = place.file_name().with_context(|| format!("{} names no file", place.display()))?;
        let path = place.with_file_name(format!("{}.part", name.to_string_lossy()));
        // What a backup that was cut off left is of no use.
        let _ = std::fs::remove_file(&path);
        let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let file = file.with_context(|| format!("cannot write {}; does its folder exist?", path.display()))?;
        Ok(Self { path, file })
    }

    fn keep(self, place: &Path) -> Result<()> {
        let rename = || {
            self.file.sync_all()?;
            // Not over a file that came meanwhile.
            std::fs::hard_link(&self.path, place)?;
            let folder = place.parent().filter(|folder| !folder.as_os_str().is_empty());
            std::fs::File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
        };
        rename().with_context(|| format!("cannot write {}", place.display()))
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

async fn of_running(api: &Api, draft: &Draft, progress: &Progress) -> Result<()> {
    progress.say("the manager gathers its state");
    let mut answer = api.download("/api/v1/backups").await?;
    let mut out = std::io::BufWriter::new(&draft.file);
    let (mut written, mut told) = (0_u64, 0);
    while let Some(piece) = answer
        .chunk()
        .await
        .context("the backup broke off; the manager's log says why (is its disk or this one full, was it stopped?)")?
    {
        out.write_all(&piece).with_context(|| format!("cannot write {}", draft.path.display()))?;
        written += piece.len() as u64;
        if written - told >= 64 << 20 {
            told = written;
            progress.say(&format!("{} MiB written", written >> 20));
        }
    }
    out.flush().with_context(|| format!("cannot write {}", draft.path.display()))
}

fn of_stopped(config: &Config, draft: &Draft, progress: &Progress) -> Result<()> {
    progress.say(&format!("reading {}", config.state_dir.display()));
    let runtime = runtime()?;
    let source = runtime
        .block_on(backup::of_stopped(config, &SystemClock))
        .context("cannot back up a stopped manager (without --stopped a running one is asked)")?;
    backup::write(source, std::io::BufWriter::new(&draft.file), runtime.handle())?;
    Ok(())
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().context("cannot start tokio")
}

/// The configuration of this machine's manager, and its file.
pub fn own_config(shared: &Shared, named: Option<&Path>) -> Result<(PathBuf, Config)> {
    let own = Paths::new(&shared.state);
    let path = match named {
        Some(path) => path.to_owned(),
        None if own.manager_config.is_file() => own.manager_config.clone(),
        None if Path::new(manager::DEFAULT_PATH).is_file() => manager::DEFAULT_PATH.into(),
        // What `sakimori up` will write.
        None => {
            let file = Some(own.manager_config.clone());
            let config = Config { state_dir: own.state.join("manager"), file, ..Config::default() };
            return Ok((own.manager_config, config));
        }
    };
    Ok((path.clone(), manager::config(&path, false)?))
}

pub fn restore(shared: &Shared, args: &RestoreArgs) -> Result<ExitCode> {
    let (path, config) = own_config(shared, args.config.as_deref())?;
    let progress = Progress::begin(shared.json);
    progress.say(&format!("restoring {} to {}", args.file.display(), config.state_dir.display()));
    let runtime = runtime()?;
    let restored = backup::restore(&args.file, &config, args.key.as_deref(), &SystemClock, runtime.handle())?;
    progress.end();
    if shared.json {
        return done(&json!({
            "state": restored.state, "content": restored.content, "config": restored.config, "key_file": restored.seal_key,
            "backup": restored.manifest.header.created, "journal_records": restored.manifest.records,
        }));
    }
    output::line(format!("{} is as it was at {}", restored.state.display(), restored.manifest.header.created))?;
    if let Some(content) = restored.content {
        output::line(format!("your content is in {}; set content_dir to it, or move it there", content.display()))?;
    }
    if let Some(former) = restored.config {
        output::line(format!("the former configuration is {}; compare it with {}", former.display(), path.display()))?;
    }
    output::line("start the manager now: sudo sakimori up, or sakimori manager --config FILE")?;
    Ok(ExitCode::SUCCESS)
}
