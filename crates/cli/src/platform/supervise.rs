//! The supervising process: keeps manager and agent running, each started again with back-off, and ends them in
//! order: the agent first, so that the manager still takes what it has.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use reqwest::Method;
use rustix::fs::{FlockOperation, flock};
use sakimori_runtime::Stop;
use sakimori_runtime::telemetry::{self, LogFormat};
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, Command};
use tokio::sync::Mutex;
use tracing::{info, warn};

use super::process::{Known, Run};
use super::{Paths, prepare, running};
use crate::api::{Access, Api};
use crate::commands::{agent_program, block_on};
use crate::output::text;

/// First and longest wait before a program is started again.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// A program that ran so long begins with the first wait again.
const STEADY: Duration = Duration::from_secs(60);
/// How long a program may take to end.
const PATIENCE: Duration = Duration::from_secs(40);
/// A log beyond this becomes `.old` at the next start.
const MOST_LOG: u64 = 64 << 20;

/// Starts the supervising process, detached from this terminal, and waits until it stands.
pub fn begin(paths: &Paths) -> Result<()> {
    let own = std::env::current_exe().context("cannot find this program's own file")?;
    let log = log_file(&paths.logs.join("supervisor.log"))?;
    let mut child = std::process::Command::new(own)
        .arg("--state")
        .arg(&paths.state)
        .args(["up", "--supervise"])
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("cannot start the supervising process")?;
    let until = Instant::now() + Duration::from_secs(20);
    while running(paths).is_none() {
        if let Some(status) = child.try_wait()? {
            bail!("the supervising process ended ({status}); {} says why", paths.logs.join("supervisor.log").display());
        }
        if Instant::now() > until {
            bail!("the supervising process does not stand; see {}", paths.logs.join("supervisor.log").display());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Is the supervising process, until a signal.
pub fn run(paths: &Paths) -> Result<()> {
    // Fails where it leads a session already, started by hand in a fresh one; then it is detached enough.
    let _ = rustix::process::setsid();
    telemetry::init(LogFormat::Text, "info");
    // Asked for now: once the file is replaced by a newer build, the kernel names it as deleted.
    let own = std::env::current_exe().context("cannot find this program's own file")?;
    let lock =
        OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(paths.state.join("run.lock"))?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive)
        .ok()
        .context("another supervising process runs from this folder")?;
    let book = Mutex::new(Run::of_this_process()?);
    block_on(async {
        let (stop, manager_stop) = (Stop::new(), Stop::new());
        // Signals are heard before run.json tells others whom to signal.
        let signals = stop.on_signal();
        let work = async {
            book.lock().await.save(paths)?;
            let agent = async {
                keep(paths, &own, &stop, &book, Part::Agent).await;
                manager_stop.tell();
            };
            tokio::join!(agent, keep(paths, &own, &manager_stop, &book, Part::Manager));
            anyhow::Ok(())
        };
        let (heard, worked) = tokio::join!(signals, async {
            let worked = work.await;
            stop.tell();
            worked
        });
        heard.context("cannot listen for signals")?;
        worked
    })?;
    let _ = std::fs::remove_file(&paths.run);
    info!("all is stopped");
    Ok(())
}

#[derive(Clone, Copy, Debug)]
enum Part {
    Manager,
    Agent,
}

/// Keeps a program running until the stop, then ends it.
async fn keep(paths: &Paths, own: &Path, stop: &Stop, book: &Mutex<Run>, part: Part) {
    let mut back_off = BACK_OFF.0;
    while !stop.told() {
        let began = Instant::now();
        let outcome = tokio::select! {
            outcome = start(paths, own, part) => outcome,
            () = stop.wait() => return,
        };
        match outcome {
            Ok(mut child) => {
                note(paths, book, part, &child).await;
                tokio::select! {
                    ended = child.wait() => warn!(?part, ?ended, "a program ended by itself"),
                    () = stop.wait() => end(part, &mut child).await,
                }
            }
            Err(error) => warn!(?part, "cannot start: {error:#}"),
        }
        if stop.told() {
            break;
        }
        if began.elapsed() > STEADY {
            back_off = BACK_OFF.0;
        }
        tokio::select! {
            () = tokio::time::sleep(back_off) => {}
            () = stop.wait() => {}
        }
        back_off = (back_off * 2).min(BACK_OFF.1);
    }
}

async fn start(paths: &Paths, own: &Path, part: Part) -> Result<Child> {
    let (name, mut command) = match part {
        Part::Manager => {
            let mut command = Command::new(own);
            command.arg("manager").arg("--config").arg(&paths.manager_config);
            ("manager", command)
        }
        Part::Agent => {
            enrol(paths).await?;
            let mut command = Command::new(own.with_file_name("sakimori-agent"));
            command.arg("--config").arg(&paths.agent_config).arg("run");
            ("agent", command)
        }
    };
    let log = log_file(&paths.logs.join(format!("{name}.log")))?;
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    let child = command.spawn().with_context(|| format!("cannot start the {name}"))?;
    info!(name, pid = child.id(), "started");
    Ok(child)
}

/// Writes down which process it is, for a `down` after this process was killed.
async fn note(paths: &Paths, book: &Mutex<Run>, part: Part, child: &Child) {
    let known = child.id().and_then(|pid| Known::of(i32::try_from(pid).ok()?));
    let mut run = book.lock().await;
    match part {
        Part::Manager => run.manager = known,
        Part::Agent => run.agent = known,
    }
    if let Err(error) = run.save(paths) {
        warn!("{error:#}");
    }
}

async fn end(part: Part, child: &mut Child) {
    // Not waited for yet, so the id is still the child's own.
    if let Some(pid) = child.id().and_then(|pid| rustix::process::Pid::from_raw(i32::try_from(pid).ok()?)) {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    }
    if tokio::time::timeout(PATIENCE, child.wait()).await.is_err() {
        warn!(?part, "it did not end in time and is ended the hard way");
        let _ = child.kill().await;
    }
    info!(?part, "stopped");
}

/// Waits for the manager and enrols the agent where it is not.
async fn enrol(paths: &Paths) -> Result<()> {
    if paths.agent_id().is_some() {
        return Ok(());
    }
    let access = Access::load(&paths.state)?.context("cli.toml is missing; run sakimori up again")?;
    let api = Api::new(&access, None)?;
    while api.status("/readyz").await != Some(200) {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let body = json!({ "name": "this machine", "hours": 1 });
    let made =
        api.send(Method::POST, "/api/v1/enrolment-tokens", &body).await.context("cannot get an enrolment token")?;
    // By standard input: arguments are seen by everybody on the machine.
    let mut child = Command::new(agent_program()?)
        .arg("--config")
        .arg(&paths.agent_config)
        .args(["enroll", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("cannot start sakimori-agent")?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(text(&made, "token").as_bytes()).await?;
    }
    let out = child.wait_with_output().await?;
    if !out.status.success() {
        bail!("cannot enrol the agent: {}", String::from_utf8_lossy(&out.stderr).trim());
    }
    info!(agent = paths.agent_id(), "enrolled");
    Ok(())
}

/// Opens a log for appending; one that has grown too large is put aside.
fn log_file(path: &Path) -> Result<File> {
    if let Some(folder) = path.parent() {
        prepare::folder(folder)?;
    }
    if std::fs::metadata(path).is_ok_and(|found| found.len() > MOST_LOG) {
        let _ = std::fs::rename(path, path.with_extension("log.old"));
    }
    let open = OpenOptions::new().create(true).append(true).mode(0o600).open(path);
    open.with_context(|| format!("cannot open {}", path.display()))
}
