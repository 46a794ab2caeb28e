//! Rule bundles: verified with the key that was pinned at enrolment, loaded on trial in a throw-away `logs`
//! worker, then put to use while running. Until one has come, the content that the program was built with
//! applies, as number 0.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use sakimori_content::BundleStore;
use sakimori_sys::cgroup::Group;
use sakimori_wire::ipc::{FromLogs, LogsStart, ToLogs};

use super::budgets::Of;
use super::{Message, Supervisor, worker};
use crate::enroll::Enrolled;

/// How long the trial may take. Nothing waits for it and the former rules stay in use, so there is time for a host whose
/// processors are taken: a good bundle that is refused is not offered again before the next connection.
const TRIAL: Duration = Duration::from_secs(300);

/// The content of a bundle, as the worker gets it.
pub type Files = Vec<(String, Vec<u8>)>;

/// The store; absent where this host is not enrolled.
pub struct Bundles {
    store: Option<Arc<BundleStore>>,
    trial: bool,
}

impl Bundles {
    /// Opens the store.
    ///
    /// # Errors
    /// Where its folder or the pinned key cannot be read.
    pub fn open(state: &Path, enrolled: Option<&Enrolled>) -> Result<Self> {
        let Some(enrolled) = enrolled else { return Ok(Self { store: None, trial: false }) };
        let bytes = hex::decode(&enrolled.bundle_key).context("agent.json is damaged; enrol this host again")?;
        let key = sakimori_content::keys::public_from_bytes(&bytes).context("agent.json holds no usable bundle key")?;
        let folder: PathBuf = state.join("bundles");
        Ok(Self { store: Some(Arc::new(BundleStore::open(&folder, key)?)), trial: false })
    }

    /// Number of the one in use, 0 for what was built in.
    pub fn number(&self) -> u64 {
        self.store.as_ref().map_or(0, |store| store.number())
    }

    /// Is one on trial, which may be in use soon?
    pub fn on_trial(&self) -> bool {
        self.trial
    }

    /// Its number and files.
    pub fn current(&self) -> (u64, Files) {
        match self.store.as_ref().and_then(|store| store.current()) {
            Some(bundle) => (bundle.number, files(&bundle.files)),
            None => (0, files(&sakimori_content::builtin())),
        }
    }
}

fn files(files: &sakimori_content::Files) -> Files {
    files.iter().map(|(path, bytes)| (path.clone(), bytes.to_vec())).collect()
}

impl Supervisor {
    /// A bundle came down: tried in a thread of its own, one at a time.
    pub(super) fn take_bundle(&mut self, bytes: Vec<u8>) -> Result<()> {
        let Some(store) = self.bundles.store.clone() else { return Ok(()) };
        if self.bundles.trial {
            // The manager offers it again at the next connection.
            tracing::warn!("a bundle came while another is on trial; it is left out");
            return Ok(());
        }
        self.bundles.trial = true;
        let to = self.to.clone();
        let start = self.logs_start((0, Vec::new()));
        let group = self.budgets.group(Of::Logs);
        std::thread::Builder::new()
            .name("bundle-trial".into())
            .spawn(move || {
                let outcome = store.install(&bytes, |bundle| {
                    try_load(LogsStart { bundle: bundle.number, files: files(&bundle.files), ..start }, group)
                });
                let outcome = outcome.map(|_| ()).map_err(|error| error.to_string());
                let _ = to.send(Message::BundleTried(outcome));
            })
            .context("cannot start a thread")?;
        Ok(())
    }

    /// The trial is over.
    pub(super) fn bundle_tried(&mut self, outcome: Result<(), String>) -> Result<()> {
        self.bundles.trial = false;
        match outcome {
            Err(reason) => self.say("bundle-refused", reason, |_| {}),
            Ok(()) => {
                let (number, files) = self.bundles.current();
                self.say("bundle-applied", format!("rule bundle {number} is in use"), |_| {});
                self.logs.send_rules(&ToLogs::Bundle { number, files });
                self.antimalware.forget_rules();
                self.apply_antimalware();
                self.scan_with_new_rules();
                self.apply_intrusion_prevention();
                self.tell_versions();
                self.report()?;
            }
        }
        Ok(())
    }
}

/// Loads a bundle in a worker that is ended afterwards. Rules that do not load are no reason to refuse it, as
/// long as one does; a crash, silence, or nothing that loads is.
fn try_load(start: LogsStart, group: Option<Group>) -> Result<(), String> {
    let trial =
        worker::spawn(worker::Kind::Logs, group).map_err(|error| format!("cannot start the trial: {error:#}"))?;
    let outcome = trial.ask(&ToLogs::Start(Box::new(start)), TRIAL);
    trial.end();
    match outcome {
        Ok(FromLogs::Ready { rules: 0, errors }) => {
            Err(format!("no rule loads: {}", errors.first().map_or("the bundle has none", String::as_str)))
        }
        Ok(FromLogs::Ready { .. }) => Ok(()),
        Ok(_) => Err("the trial answered something else".into()),
        Err(error) => Err(format!("the engine did not load it: {error:#}")),
    }
}
