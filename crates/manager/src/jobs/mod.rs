//! Reconcilers: idempotent, without input, run by a timer or a signal. One file each; the catalog is in
//! [`start`].

pub mod deliver;
mod effects;
mod exceptions;
mod executions;
mod findings;
mod flush;
mod notify;
mod outbox;
mod presence;
pub mod proof;
pub mod rollouts;
pub mod upkeep;
mod waf;

use std::sync::Arc;
use std::time::Duration;

use sakimori_journal::Journal;
use sakimori_runtime::{Restart, Supervisor, Task};
use tokio::sync::Notify;

use crate::shared::Shared;

/// Gives all reconcilers to the supervisor.
pub fn start(supervisor: &mut Supervisor, shared: &Arc<Shared>, journal: &Arc<Journal>) {
    let (handles, log) = (Arc::clone(shared), Arc::clone(journal));
    supervisor.start(Task { name: "flush", restart: Restart::USUAL }, move |_| {
        flush::run(Arc::clone(&handles), Arc::clone(&log))
    });
    let handles = Arc::clone(shared);
    supervisor.start(Task { name: "waf", restart: Restart::USUAL }, move |_| waf::run(Arc::clone(&handles)));
    let handles = Arc::clone(shared);
    supervisor
        .start(Task { name: "executions", restart: Restart::USUAL }, move |_| executions::run(Arc::clone(&handles)));
    let handles = Arc::clone(shared);
    supervisor.start(Task { name: "effects", restart: Restart::USUAL }, move |_| effects::run(Arc::clone(&handles)));
    let handles = Arc::clone(shared);
    supervisor.start(Task { name: "notify", restart: Restart::USUAL }, move |_| notify::run(Arc::clone(&handles)));
    let handles = Arc::clone(shared);
    supervisor.start(Task { name: "upkeep", restart: Restart::USUAL }, move |_| upkeep::run(Arc::clone(&handles)));
    let handles = Arc::clone(shared);
    supervisor.start(Task { name: "proof", restart: Restart::USUAL }, move |_| proof::run(Arc::clone(&handles)));
    let handles = Arc::clone(shared);
    supervisor.start(Task { name: "presence", restart: Restart::USUAL }, move |_| presence::run(Arc::clone(&handles)));
    let handles = Arc::clone(shared);
    supervisor.start(Task { name: "rollouts", restart: Restart::USUAL }, move |_| rollouts::run(Arc::clone(&handles)));
    let handles = Arc::clone(shared);
    supervisor
        .start(Task { name: "exceptions", restart: Restart::USUAL }, move |_| exceptions::run(Arc::clone(&handles)));
    let handles = Arc::clone(shared);
    supervisor.start(Task { name: "outbox", restart: Restart::USUAL }, move |_| outbox::run(Arc::clone(&handles)));
}

/// Waits for a signal, this long at the most, or the stop. False when it is to stop.
async fn wake(shared: &Shared, signal: &Notify, longest: Duration) -> bool {
    tokio::select! {
        () = signal.notified() => {}
        () = tokio::time::sleep(longest) => {}
        () = shared.stop.wait() => return false,
    }
    true
}
