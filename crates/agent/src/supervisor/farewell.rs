//! What the manager is told when the agent ends: whether its host goes down with it.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use sakimori_wire::ipc::Farewell;

/// How long systemd may take to say.
const PATIENCE: Duration = Duration::from_secs(2);

/// Why a signal to end came: systemd ends all units when the host goes down.
pub fn of_signal() -> Farewell {
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
