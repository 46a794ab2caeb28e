//! The one supervisor of asynchronous tasks: each has a name, a restart policy and a budget, and its end
//! is never silent.
//!
//! A task is a function that makes its future, so that it can be started again. A panic or an error
//! restarts it after a back-off that doubles up to the policy's limit and is reset by a minute of health.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::JoinSet;
use tracing::{error, info, warn};

use crate::stop::Stop;

/// What happens when a task ends with an error or a panic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// Started again after a back-off between these.
    Backoff {
        /// First wait.
        first: Duration,
        /// Longest wait.
        most: Duration,
    },
    /// Everything stops: the program cannot work without it.
    Never,
}

impl Restart {
    /// 100 ms to 30 s.
    pub const USUAL: Self = Self::Backoff { first: Duration::from_millis(100), most: Duration::from_secs(30) };
}

/// What a long-running thing is.
#[derive(Clone, Copy, Debug)]
pub struct Task {
    /// Shown in logs and metrics.
    pub name: &'static str,
    /// What happens when it fails.
    pub restart: Restart,
}

type Job = Box<dyn Fn(Stop) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>> + Send + Sync>;

/// How often each task was restarted.
pub type Restarts = Arc<Mutex<std::collections::BTreeMap<&'static str, u64>>>;

/// Runs tasks until the stop is told.
#[derive(Debug)]
pub struct Supervisor {
    stop: Stop,
    running: JoinSet<()>,
    restarts: Restarts,
}

impl Supervisor {
    /// A supervisor that stops its tasks with this token.
    pub fn new(stop: Stop) -> Self {
        Self { stop, running: JoinSet::new(), restarts: Restarts::default() }
    }

    /// How often each task was restarted.
    pub fn restarts(&self) -> Restarts {
        Arc::clone(&self.restarts)
    }

    /// Starts a task. The future ends with `Ok` when its work is done or the stop was told.
    pub fn start<F, Fut>(&mut self, task: Task, job: F)
    where
        F: Fn(Stop) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), String>> + Send + 'static,
    {
        let job: Job = Box::new(move |stop| Box::pin(job(stop)));
        let stop = self.stop.clone();
        let restarts = Arc::clone(&self.restarts);
        self.running.spawn(keep(task, job, stop, restarts));
    }

    /// Waits for all tasks to end after the stop was told, at most this long. Says which did not.
    pub async fn finish(mut self, patience: Duration) -> bool {
        self.stop.wait().await;
        let all = async { while self.running.join_next().await.is_some() {} };
        let ended = tokio::time::timeout(patience, all).await.is_ok();
        if !ended {
            warn!(left = self.running.len(), "tasks did not end in time and are dropped");
        }
        ended
    }
}

async fn keep(task: Task, job: Job, stop: Stop, restarts: Restarts) {
    let mut failures: u32 = 0;
    loop {
        let began = tokio::time::Instant::now();
        // In its own tokio task, so that a panic ends this attempt and not the supervisor.
        #[expect(clippy::disallowed_methods, reason = "this is the one place that spawns")]
        let outcome = tokio::spawn(job(stop.clone())).await;
        let reason = match outcome {
            Ok(Ok(())) => return,
            Ok(Err(reason)) => reason,
            Err(panic) if panic.is_panic() => "it panicked".to_owned(),
            Err(_) => return,
        };
        if stop.told() {
            return;
        }
        let Restart::Backoff { first, most } = task.restart else {
            error!(task = task.name, reason, "task failed and cannot be restarted; stopping");
            stop.tell();
            return;
        };
        failures = if began.elapsed() > Duration::from_secs(60) { 1 } else { failures.saturating_add(1) };
        if let Ok(mut counts) = restarts.lock() {
            *counts.entry(task.name).or_default() += 1;
        }
        let wait = first.saturating_mul(1 << (failures - 1).min(16)).min(most);
        warn!(
            task = task.name,
            reason,
            wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
            "task failed; restarting"
        );
        tokio::select! {
            () = tokio::time::sleep(wait) => info!(task = task.name, "task starts again"),
            () = stop.wait() => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    const QUICK: Restart = Restart::Backoff { first: Duration::from_millis(1), most: Duration::from_millis(2) };

    #[tokio::test]
    async fn a_task_that_panics_or_fails_is_started_again() {
        let stop = Stop::new();
        let mut supervisor = Supervisor::new(stop.clone());
        let restarts = supervisor.restarts();
        let tries = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&tries);
        supervisor.start(Task { name: "unsteady", restart: QUICK }, move |stop| {
            let tries = Arc::clone(&counted);
            async move {
                match tries.fetch_add(1, Ordering::SeqCst) {
                    0 => panic!("first"),
                    1 => Err("second".to_owned()),
                    _ => {
                        stop.tell();
                        Ok(())
                    }
                }
            }
        });
        assert!(supervisor.finish(Duration::from_secs(10)).await);
        assert_eq!(tries.load(Ordering::SeqCst), 3);
        assert_eq!(restarts.lock().expect("not poisoned")["unsteady"], 2);
    }

    #[tokio::test]
    async fn a_task_that_everything_needs_stops_everything() {
        let stop = Stop::new();
        let mut supervisor = Supervisor::new(stop.clone());
        supervisor.start(Task { name: "vital", restart: Restart::Never }, |_| async { Err("gone".to_owned()) });
        assert!(supervisor.finish(Duration::from_secs(10)).await);
        assert!(stop.told());
    }
}
