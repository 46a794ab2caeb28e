//! What ends the agent, and what the manager is told then: whether its host goes down with it.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use sakimori_runtime::Stop;
use sakimori_wire::ipc::Farewell;

use super::Message;

/// How long systemd may take to say.
const PATIENCE: Duration = Duration::from_secs(2);

/// SIGINT and SIGTERM become a message.
///
/// # Errors
/// No thread can be started.
pub fn on_signal(to: SyncSender<Message>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().context("cannot start tokio")?;
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            if let Err(error) = runtime.block_on(Stop::new().on_signal()) {
                tracing::error!(%error, "cannot listen to signals");
                return;
            }
            let _ = to.send(Message::Stop(of_signal()));
        })
        .context("cannot start a thread")?;
    Ok(())
}

/// Why a signal to end came: systemd ends all units when the host goes down.
fn of_signal() -> Farewell {
    if Path::new("/run/systemd/system").is_dir() && says(&["systemctl", "is-system-running"], "stopping") {
        Farewell::HostStops
    } else {
        Farewell::Stopped
    }
}

/// Does a program say this word, within [`PATIENCE`]?
fn says(command: &[&str], word: &str) -> bool {
    let Some((program, arguments)) = command.split_first() else { return false };
    let mut command = Command::new(program);
    command.args(arguments).env("PATH", "/usr/bin:/bin").stdin(Stdio::null()).stdout(Stdio::piped());
    let Ok(mut child) = command.stderr(Stdio::null()).spawn() else { return false };
    let until = Instant::now() + PATIENCE;
    while matches!(child.try_wait(), Ok(None)) && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(5));
    }
    let _ = child.kill();
    let out = child.wait_with_output();
    out.is_ok_and(|out| String::from_utf8_lossy(&out.stdout).trim() == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_decides_and_silence_does_not_hang() {
        assert!(says(&["echo", "stopping"], "stopping"));
        assert!(!says(&["echo", "running"], "stopping"));
        assert!(!says(&["/nonexistent"], "stopping"));
        let began = Instant::now();
        assert!(!says(&["sleep", "60"], "stopping"));
        assert!(began.elapsed() < Duration::from_secs(30));
    }
}
