//! The simulated clock: who waits by it lets an hour pass in what its work takes, and what comes meanwhile comes.
//!
//! The manager's reconciler of the WAF is the only one that waits by this clock, and the fake of the WAF lets its latency pass
//! by it while the reconciler waits for an answer: so one at a time lets it pass. Before it moves on over the moment at which
//! somebody attacks, that attack is planned as the manager plans it, and whoever was to be woken by it is. What the
//! reconciler's own work takes on this machine is let pass, too.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use sakimori_manager::respond::{Account, plan};
use sakimori_manager::shared::Shared;
use sakimori_model::rule::Scope;
use sakimori_model::{Event, Timestamp, field};
use sakimori_respond::playbook::{Playbook, Setting};
use sakimori_runtime::Clock;
use tokio::sync::{Mutex, Notify};

use super::crowd::{Attack, address};

/// What blocks, as it is shipped.
const PLAYBOOK: &str = include_str!("../../../../content/playbooks/block-in-waf.yml");
const TENANT: &str = "default";

/// The clock, and what comes by it.
pub struct Simulated {
    begin: i64,
    now: AtomicI64,
    end: i64,
    attacks: Vec<Attack>,
    next: AtomicUsize,
    playbook: Playbook,
    manager: OnceLock<Arc<Shared>>,
    started: Notify,
    /// When whoever waited last went on with its work, on this machine; none where its work is not let pass.
    resumed: Mutex<Option<Instant>>,
    /// Work of its own, in microseconds.
    worked: AtomicI64,
    own_time: bool,
    over: AtomicBool,
    ended: Notify,
}

impl Simulated {
    /// Stands at `begin` until a manager is there.
    pub fn new(begin: Timestamp, end: Timestamp, attacks: Vec<Attack>, own_time: bool) -> anyhow::Result<Self> {
        Ok(Self {
            begin: begin.micros(),
            now: AtomicI64::new(begin.micros()),
            end: end.micros(),
            attacks,
            next: AtomicUsize::new(0),
            playbook: Playbook::parse("block-in-waf.yml", PLAYBOOK)?,
            manager: OnceLock::new(),
            started: Notify::new(),
            resumed: Mutex::new(None),
            worked: AtomicI64::new(0),
            own_time,
            over: AtomicBool::new(false),
            ended: Notify::new(),
        })
    }

    /// Begins.
    pub fn start(&self, manager: &Arc<Shared>) {
        let _ = self.manager.set(Arc::clone(manager));
        self.started.notify_waiters();
    }

    /// Waits for the end of the simulated time.
    pub async fn over(&self) {
        while !self.over.load(Ordering::SeqCst) {
            let ended = self.ended.notified();
            if !self.over.load(Ordering::SeqCst) {
                ended.await;
            }
        }
    }

    /// Work of the reconciler's own, on this machine, the wire included.
    pub fn worked(&self) -> Duration {
        Duration::from_micros(self.worked.load(Ordering::SeqCst).unsigned_abs())
    }

    /// Lets this much pass, and before it what was worked since the last time.
    pub async fn pass(&self, wait: Duration) {
        let mut resumed = self.resumed.lock().await;
        let worked = resumed.take().map_or(0, |at| i64::try_from(at.elapsed().as_micros()).unwrap_or(0));
        self.worked.fetch_add(worked, Ordering::SeqCst);
        let now = self.now.load(Ordering::SeqCst);
        let wait = i64::try_from(wait.as_micros()).unwrap_or(i64::MAX / 4);
        let until = now + wait + if self.own_time { worked } else { 0 };
        while let Some(attack) = self.attacks.get(self.next.load(Ordering::SeqCst)).filter(|one| one.at <= until) {
            self.now.fetch_max(attack.at, Ordering::SeqCst);
            let number = self.next.fetch_add(1, Ordering::SeqCst);
            // A task of its own: whoever waits may be woken by it and wait no longer, and it is planned all the same.
            if let Some(work) = self.planned(number, *attack) {
                #[expect(clippy::disallowed_methods, reason = "awaited at once")]
                let done = tokio::spawn(work).await;
                if let Ok(Err(problem)) = done {
                    eprintln!("an attack was not planned: {problem}");
                }
            }
            *resumed = Some(Instant::now());
            // Whoever is woken by it goes on now.
            tokio::task::yield_now().await;
        }
        self.now.fetch_max(until, Ordering::SeqCst);
        *resumed = Some(Instant::now());
    }

    fn planned(&self, number: usize, attack: Attack) -> Option<impl Future<Output = Result<(), String>> + use<>> {
        let manager = Arc::clone(self.manager.get()?);
        let (id, now) = (format!("{number:032x}"), Timestamp::from_micros(attack.at));
        let mut alert = Event::new();
        alert.set(field::TIMESTAMP, now);
        alert.set(field::EVENT_KIND, "alert");
        alert.set(field::EVENT_SEVERITY, 75);
        alert.set(field::RULE_ID, "web-scanner");
        alert.set(field::RULE_NAME, "Web scanner");
        alert.set(field::SOURCE_IP, address(attack.attacker, attack.v6));
        let orders = self.playbook.evaluate(&alert, &id, &Setting { place: "manager", now, scope: Scope::Wide });
        Some(async move {
            if orders.is_empty() {
                return Err("the playbook orders nothing".to_owned());
            }
            let account = Account { position: 0, exempt: false };
            plan(&manager, TENANT, orders, account, now).await.map_err(|problem| problem.to_string())
        })
    }
}

impl Clock for Simulated {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.now.load(Ordering::SeqCst))
    }

    fn passed(&self) -> Duration {
        Duration::from_micros((self.now.load(Ordering::SeqCst) - self.begin).unsigned_abs())
    }

    fn sleep(&self, wait: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async move {
            let started = self.started.notified();
            if self.manager.get().is_none() {
                started.await;
            }
            if self.now.load(Ordering::SeqCst) >= self.end {
                self.over.store(true, Ordering::SeqCst);
                self.ended.notify_waiters();
                return std::future::pending().await;
            }
            self.pass(wait).await;
        })
    }
}
