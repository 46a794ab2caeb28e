//! The control socket: `sakimori-agent status`, `actions`, `undo`, `block` and `stop` ask the running agent.
//! A unix socket in the state folder, which only root may enter; one JSON line asks, one answers.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, channel};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use sakimori_wire::ipc::{Answer, Ask};

use crate::supervisor::Message;

/// Longest question: the ids of 150,000 actions.
const MAX_ASK: u64 = 32 * 1024 * 1024;
/// Most that ask at a time; the others are turned away.
const MOST_ASKING: usize = 16;
/// How long a client may take to ask.
const ASK_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an answer may take: taking back very many blocks.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);

/// Listens on the socket, in a thread of its own; each question goes to the supervisor's loop.
///
/// # Errors
/// Where the socket cannot be made, or another agent answers on it.
pub fn listen(path: &Path, to: SyncSender<Message>) -> Result<()> {
    if UnixStream::connect(path).is_ok() {
        bail!("another agent answers on {}; stop that one first", path.display());
    }
    let _ = std::fs::remove_file(path);
    let listener = UnixListener::bind(path).with_context(|| format!("cannot listen on {}", path.display()))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    std::thread::Builder::new()
        .name("control".into())
        .spawn(move || {
            let asking = Arc::new(());
            for stream in listener.incoming().flatten() {
                // Only root asks. Beside each other, since who waits for what comes of an action must hold up nobody.
                if Arc::strong_count(&asking) > MOST_ASKING {
                    continue;
                }
                let (to, asks) = (to.clone(), Arc::clone(&asking));
                let begun = std::thread::Builder::new().name("control-ask".into()).spawn(move || {
                    if let Err(error) = serve(&stream, &to) {
                        tracing::debug!(%error, "a question on the control socket came to nothing");
                    }
                    drop(asks);
                });
                if let Err(error) = begun {
                    tracing::warn!(%error, "a question on the control socket cannot be answered");
                }
            }
        })
        .context("cannot start a thread")?;
    Ok(())
}

fn serve(stream: &UnixStream, to: &SyncSender<Message>) -> Result<()> {
    stream.set_read_timeout(Some(ASK_TIMEOUT))?;
    stream.set_write_timeout(Some(ASK_TIMEOUT))?;
    let mut line = String::new();
    BufReader::new(Read::take(stream, MAX_ASK)).read_line(&mut line)?;
    let answer = match serde_json::from_str::<Ask>(&line) {
        Err(error) => Answer::Failed { reason: format!("the question is not understood: {error}") },
        Ok(ask) => {
            let (reply, answer) = channel();
            to.send(Message::Ask { ask, reply }).ok().context("the agent is stopping")?;
            answer
                .recv_timeout(ANSWER_TIMEOUT)
                .unwrap_or_else(|_| Answer::Failed { reason: "the agent did not answer in time".into() })
        }
    };
    let mut text = serde_json::to_vec(&answer)?;
    text.push(b'\n');
    let mut out = stream;
    out.write_all(&text)?;
    Ok(())
}

/// Asks the running agent.
///
/// # Errors
/// Where none runs, or it says no.
pub fn ask(path: &Path, ask: &Ask) -> Result<Answer> {
    ask_within(path, ask, ANSWER_TIMEOUT + ASK_TIMEOUT)
}

/// As [`ask`], for who cannot wait.
///
/// # Errors
/// As [`ask`], or no answer in this time.
pub fn ask_within(path: &Path, ask: &Ask, patience: Duration) -> Result<Answer> {
    let stream = UnixStream::connect(path).with_context(|| {
        format!("no agent answers on {}; is it running (sakimori-agent run), and are you root?", path.display())
    })?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    let mut text = serde_json::to_vec(ask)?;
    text.push(b'\n');
    (&stream).write_all(&text)?;
    let mut line = String::new();
    BufReader::new(&stream).read_line(&mut line).context("the agent did not answer")?;
    match serde_json::from_str(&line).context("the agent's answer is not understood; are both of one version?")? {
        Answer::Failed { reason } => bail!(reason),
        answer => Ok(answer),
    }
}
