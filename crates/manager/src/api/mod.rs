//! The REST API: `/api/v1`, one file a resource, one table of routes ([`routes`]).
//!
//! ```text
//! connection (listen: TLS, bounds) → frame (id, time limit, headers, errors) → access (who, may they) → handler
//! ```
//!
//! A handler that changes something writes rows, audit entry and outbox row in one transaction ([`App::done`]).
//! There is no CORS: a page of another site can read nothing, and change nothing with a cookie.

pub mod access;
mod authenticate;
pub mod browser;
mod extract;
mod frame;
mod listen;
mod openapi;
mod pace;
pub mod password;
pub mod problem;
mod route;
mod routes;
mod seats;
mod secret;

mod actions;
mod agents;
mod alerts;
mod audit;
mod backups;
mod bouncers;
mod bundles;
mod cloud;
mod console;
mod decisions;
mod enrolment;
mod event;
mod events;
mod exceptions;
mod executions;
mod export;
mod factors;
mod fields;
mod halt;
mod health;
mod histogram;
mod lint;
mod live;
mod log_sources;
mod messages;
mod noisy;
mod now;
mod orders;
mod passkeys;
mod playbooks;
mod policies;
mod policy_changes;
mod proof;
mod rehearsing;
mod rollouts;
mod rule_state;
mod rules;
mod scans;
mod sealing;
mod search;
mod searches;
mod secrets;
mod servers;
mod session;
mod sessions;
mod shed;
mod sign_in;
mod sso;
mod tenants;
mod tokens;
mod trials;
mod users;
mod watch;
mod ways;
mod why;

use std::sync::Arc;

use sakimori_model::Timestamp;
use sakimori_model::ledger::Hash;
use sakimori_store::control::sessions::SEEN_SECONDS;
use sakimori_store::control::{Change, audit::Entry};
use serde::Serialize;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

use self::access::Caller;
use self::password::Hasher;
use self::problem::Problem;
use crate::lint::Linter;
use crate::shared::Shared;
use crate::sign_in::ticket::Tickets;

pub use self::listen::{check_listen, serve};
pub use self::openapi::{document, document_text};
pub use self::password::{ensure_first_user, reset_factors, reset_password};
pub(crate) use self::proof::newest_message;

/// Most live feeds at a time.
const FEEDS: usize = 64;

/// What handlers share.
#[derive(Clone)]
pub(crate) struct App {
    /// The manager.
    pub shared: Arc<Shared>,
    /// Computes password hashes.
    pub hasher: Hasher,
    /// One permit a live feed.
    pub feeds: Arc<Semaphore>,
    /// Who has live feeds.
    pub watchers: watch::Watchers,
    /// One permit an export.
    pub exports: Arc<Semaphore>,
    /// Summaries of the last hours that are fresh.
    pub now: now::Kept,
    /// The bundle in force, taken apart.
    pub content: bundles::Content,
    /// Whether it is ready.
    pub readiness: health::Once<health::Readiness>,
    /// What sign-ins know from their beginning to their end.
    pub tickets: Arc<Tickets>,
    /// Its figures.
    pub figures: health::Once<String>,
    /// How often rules fired.
    pub counts: rules::Counts,
    /// Checks the text of rules.
    pub linter: Linter,
}

/// Id of a request, in logs, errors and audit entries.
#[derive(Clone, Debug)]
pub(crate) struct RequestId(pub String);

/// A change of one thing: its tenant, what was done, its id, and how it looked before and looks after. What is
/// given is what the API shows, so a hash never covers a secret.
pub(crate) struct Done<'a, T> {
    /// Whose the thing is; `*` for the installation.
    pub tenant: &'a str,
    /// `resource:verb`.
    pub action: &'a str,
    /// Its id.
    pub target: &'a str,
    /// None where it is new.
    pub before: Option<&'a T>,
    /// None where it is gone.
    pub after: Option<&'a T>,
}

impl App {
    fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            hasher: Hasher::default(),
            feeds: Arc::new(Semaphore::new(FEEDS)),
            watchers: watch::Watchers::default(),
            exports: Arc::new(Semaphore::new(export::AT_A_TIME)),
            now: now::Kept::default(),
            content: bundles::Content::default(),
            readiness: health::Once::default(),
            tickets: Arc::new(Tickets::new().expect("the kernel gives random bytes")),
            figures: health::Once::default(),
            counts: rules::Counts::default(),
            linter: Linter::default(),
        }
    }

    /// Now, and since when a browser's session must have been used to be open.
    fn now_and_idle(&self) -> (Timestamp, Timestamp) {
        let now = self.shared.clock.now();
        (now, now.plus_secs(-i64::from(self.shared.config.sign_in.idle_minutes) * 60))
    }

    /// How exactly the last request of a session is kept, in seconds: else one would end that is used.
    fn seen_seconds(&self) -> i64 {
        SEEN_SECONDS.min(i64::from(self.shared.config.sign_in.idle_minutes) * 15)
    }

    /// How long a session lasts at the most, in seconds.
    fn session_seconds(&self) -> i64 {
        i64::from(self.shared.config.sign_in.hours) * 3_600
    }

    /// Writes the audit entry of a change and commits both.
    pub async fn done<T: Serialize>(&self, mut change: Change, by: &Caller, done: Done<'_, T>) -> Result<(), Problem> {
        change
            .audit(&Entry {
                tenant: done.tenant,
                time: self.shared.clock.now(),
                actor: &by.actor,
                action: done.action,
                target: done.target,
                before: done.before.map(hash_of),
                after: done.after.map(hash_of),
                address: &by.address,
                request: &by.request,
            })
            .await?;
        change.commit().await?;
        self.shared.outbox_changed.notify_one();
        Ok(())
    }
}

fn hash_of(thing: &impl Serialize) -> Hash {
    Sha256::digest(serde_json::to_vec(thing).unwrap_or_default()).into()
}
