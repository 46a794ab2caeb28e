//! Whose identity the running agent has: an enrolment that is typed while it runs, a token that an image brings, and a
//! disk that was copied.
//!
//! An agent whose identity is bound to another machine never uses it: it protects this host under an id of its own, with
//! a spool of its own, and says so, until it is enrolled anew: by the token file at once, else by a person. With a new
//! identity the agent stops in good order and begins anew, in the same process.

use std::path::PathBuf;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use anyhow::Result;
use sakimori_wire::ipc::Farewell;

use super::{Message, Supervisor};
use crate::config::Config;
use crate::enroll::{self, Enrolled};
use crate::spool;

/// Folder in the state of the spool of a copy, until it is enrolled.
const COPY_SPOOL: &str = "spool.copy";
/// First wait after an enrolment by the token file that came to nothing, and between two looks for one.
const FIRST_WAIT: Duration = Duration::from_secs(5);
/// Longest wait: the manager may be away when a group of hosts starts.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// The identity on disk, and whether it is this machine's.
pub struct Identity {
    /// It, where it is.
    pub enrolled: Option<Enrolled>,
    /// By which fact it is another machine's.
    pub copied: Option<&'static str>,
}

impl Identity {
    /// Reads it.
    ///
    /// # Errors
    /// It is damaged.
    pub fn load(config: &Config) -> Result<Self> {
        let enrolled = Enrolled::load(&config.enrolled_file())?;
        let copied = enrolled.as_ref().and_then(Enrolled::is_copied);
        Ok(Self { enrolled: enrolled.filter(|_| copied.is_none()), copied })
    }

    /// The spool: what the original of a copy has not sent yet is left alone, for it may be this very machine in a
    /// new case.
    pub fn spool_folder(&self, config: &Config) -> PathBuf {
        let state = &config.agent.state;
        if self.copied.is_some() {
            return state.join(COPY_SPOOL);
        }
        // What a copy noted before it had a name of its own was for nobody.
        let _ = std::fs::remove_dir_all(state.join(COPY_SPOOL));
        spool::folder(state)
    }
}

/// Enrolment by the token file, as far as it is wanted.
pub struct ByToken {
    due: Option<Instant>,
    wait: Duration,
    /// What was told last, so that it is told once.
    told: String,
}

impl ByToken {
    /// Wanted where the agent has no identity.
    pub fn new(wanted: bool) -> Self {
        Self { due: wanted.then(Instant::now), wait: FIRST_WAIT, told: String::new() }
    }

    /// When it is tried next.
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Tries it, on a thread of its own: the manager may be slow.
    fn start(&mut self, config: &Config, to: &SyncSender<Message>) {
        let token = match enroll::token_file(config) {
            Ok(Some(token)) => token,
            Ok(None) => {
                self.due = Some(Instant::now() + FIRST_WAIT);
                return;
            }
            Err(error) => {
                self.due = None;
                let _ = to.try_send(Message::EnrolFailed(format!("{error:#}")));
                return;
            }
        };
        self.due = None;
        let (config, to) = (config.clone(), to.clone());
        let thread = std::thread::Builder::new().name("enrol".into()).spawn(move || {
            // Where it works, the loop finds the new identity by itself, as one that was typed.
            if let Err(error) = enroll::enroll(&config, &token, true) {
                let _ = to.send(Message::EnrolFailed(format!("{error:#}")));
            }
        });
        if thread.is_err() {
            self.due = Some(Instant::now() + self.wait);
        }
    }

    /// It came to nothing: true where the reason is a new one.
    fn failed(&mut self, reason: &str) -> bool {
        self.due = Some(Instant::now() + self.wait);
        self.wait = (self.wait * 2).min(LONGEST_WAIT);
        let news = self.told != reason;
        reason.clone_into(&mut self.told);
        news
    }
}

impl Supervisor {
    /// An enrolment by the token file failed; it is tried again.
    pub(super) fn enrol_failed(&mut self, reason: &str) {
        if self.by_token.failed(reason) {
            self.say("enrolment-failed", format!("the token file did not enrol this host: {reason}"), |_| {});
        }
    }

    /// Is there another identity on disk than the one in use? Tries the token file where it is time.
    pub(super) fn look_at_identity(&mut self) -> Result<()> {
        if self.by_token.due().is_some_and(|due| due <= Instant::now()) {
            self.by_token.start(&self.config, &self.to);
        }
        let Ok(Identity { enrolled: Some(enrolled), .. }) = Identity::load(&self.config) else { return Ok(()) };
        if enrolled.agent_id == self.agent {
            return Ok(());
        }
        tracing::info!(agent = enrolled.agent_id, "this host has a new identity; the agent begins anew");
        self.anew = true;
        self.handle(Message::Stop(Farewell::Uninstalled))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_told_once_and_tried_again_ever_more_rarely() {
        let mut by_token = ByToken::new(true);
        assert!(by_token.due().is_some());
        assert!(by_token.failed("no manager"));
        assert!(!by_token.failed("no manager"));
        assert!(by_token.failed("used up"));
        for _ in 0..20 {
            by_token.failed("used up");
        }
        assert_eq!(by_token.wait, LONGEST_WAIT);
        assert_eq!(ByToken::new(false).due(), None);
    }
}
