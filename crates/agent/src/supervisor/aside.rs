//! Effects that take longer than the loop may wait: a tree of processes that is ended, a user whose sessions end, a package of
//! triage. Those of one kind of action follow each other in a thread that is there while there is something to do, so that
//! neither the loop nor another kind waits for one that the kernel holds up. What came of each is a message to the loop.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, SyncSender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use sakimori_respond::host::{Job, Report};
use sakimori_wire::ipc::Answer;

use super::{Message, Supervisor};

/// How long who ordered something by hand is kept waiting for what came of it.
const PATIENCE: Duration = Duration::from_secs(60);

/// The threads.
#[derive(Clone)]
pub struct Aside {
    /// What waits, by kind of action; a kind is there while its thread is.
    lanes: Arc<Mutex<BTreeMap<String, VecDeque<Job>>>>,
    state: PathBuf,
    to: SyncSender<Message>,
}

impl Aside {
    /// The state folder is where the mark that stops all answers would be. Nothing is started yet.
    pub fn new(state: &Path, to: SyncSender<Message>) -> Self {
        Self { lanes: Arc::default(), state: state.to_owned(), to }
    }

    /// Has a job carried out after those of its kind. Where no thread can be had it is carried out here.
    fn run(&self, job: Job) -> Option<Report> {
        let lane = job.lane().to_owned();
        let mut lanes = self.lock();
        if let Some(waiting) = lanes.get_mut(&lane) {
            waiting.push_back(job);
            return None;
        }
        let (own, name) = (self.clone(), lane.clone());
        // It waits for the lock, and finds the job then.
        match std::thread::Builder::new().name(name).spawn(move || own.work(&lane)) {
            Ok(_) => {
                lanes.insert(job.lane().to_owned(), VecDeque::from([job]));
                None
            }
            Err(error) => {
                drop(lanes);
                tracing::warn!(%error, action = job.lane(), "no thread can be started; the agent waits for the action");
                Some(job.run(|| self.halted()))
            }
        }
    }

    fn work(&self, lane: &str) {
        while let Some(job) = self.next(lane) {
            let report = job.run(|| self.halted());
            if self.to.send(Message::Acted(report)).is_err() {
                return;
            }
        }
    }

    /// The next of a kind. Without one the kind has no thread any more.
    fn next(&self, lane: &str) -> Option<Job> {
        let mut lanes = self.lock();
        let job = lanes.get_mut(lane).and_then(VecDeque::pop_front);
        if job.is_none() {
            lanes.remove(lane);
        }
        job
    }

    fn halted(&self) -> Option<String> {
        crate::halt::read(&self.state).map(|halted| halted.words())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, VecDeque<Job>>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody at the control socket who waits for what comes of an action.
pub struct Asked {
    id: String,
    reply: Sender<Answer>,
    until: Instant,
}

impl Asked {
    /// From now on.
    pub fn new(id: String, reply: Sender<Answer>) -> Self {
        Self { id, reply, until: Instant::now() + PATIENCE }
    }
}

impl Supervisor {
    /// Has carried out what waits for it.
    pub(super) fn hand_out(&mut self) -> Result<()> {
        loop {
            let jobs = self.actions.take_jobs();
            if jobs.is_empty() {
                return Ok(());
            }
            for job in jobs {
                if let Some(report) = self.aside.run(job) {
                    self.acted(report)?;
                }
            }
        }
    }

    /// One of them is over.
    pub(super) fn acted(&mut self, report: Report) -> Result<()> {
        let told = self.actions.reported(report, self.now())?;
        self.spool_actions(told)
    }

    /// Answers those who asked for what is over by now, or takes too long.
    pub(super) fn answer_asked(&mut self) {
        let now = Instant::now();
        for asked in std::mem::take(&mut self.asked) {
            if self.actions.is_out(&asked.id) && now < asked.until {
                self.asked.push(asked);
                continue;
            }
            let action = self.actions.action(&asked.id).map(|action| (**action).clone());
            let _ = asked.reply.send(Answer::Actions { actions: action.into_iter().collect() });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, channel, sync_channel};

    use sakimori_model::action::{Cause, Target};
    use sakimori_model::policy::{default_layer, merge};
    use sakimori_model::{Action, ActionState, Network, Order, Timestamp};
    use sakimori_respond::guard::Surroundings;
    use sakimori_respond::host::HostActions;
    use sakimori_respond::mandate::Authority;
    use sakimori_respond::ports::{AddressBlocker, Applied, BlockEntry, HostEffect, PortError};

    use super::*;
    use crate::halt::Halted;

    struct NoBlocks;

    impl AddressBlocker for NoBlocks {
        fn block(&mut self, _: &[BlockEntry]) -> Result<(), PortError> {
            Ok(())
        }
        fn unblock(&mut self, _: &[Network]) -> Result<(), PortError> {
            Ok(())
        }
        fn blocked(&mut self) -> Result<Vec<BlockEntry>, PortError> {
            Ok(Vec::new())
        }
    }

    /// Takes until the test lets it go on.
    #[derive(Clone)]
    struct Slow(Arc<Mutex<Receiver<()>>>);

    impl HostEffect for Slow {
        fn aside(&self) -> Option<Box<dyn HostEffect>> {
            Some(Box::new(self.clone()))
        }
        fn apply(&mut self, _: &Action, _: Option<u64>) -> Result<Applied, PortError> {
            let _ = self.0.lock().unwrap().recv();
            Ok(Applied::Done { former: None, remark: None })
        }
        fn undo(&mut self, _: &Action) -> Result<Option<String>, PortError> {
            Ok(None)
        }
    }

    fn order(id: &str, action: &str, target: Target) -> Order {
        Order {
            id: id.into(),
            action: action.into(),
            target,
            expiry: None,
            cause: Cause::default(),
            via: None,
            probe: false,
            inputs: Default::default(),
            signatures: Vec::new(),
        }
    }

    #[test]
    fn one_kind_of_action_waits_for_its_own_and_nobody_else_does() {
        let dir = tempfile::tempdir().unwrap();
        let policy = merge(&[default_layer()]).unwrap().policy;
        let now = Timestamp::from_secs(1_800_000_000);
        let host = HostActions::open(dir.path(), "host", &policy, Surroundings::default(), NoBlocks, now).unwrap().0;
        let (go, waits) = channel();
        let (free, at_once) = channel();
        drop(free);
        let slow = |from| Box::new(Slow(Arc::new(Mutex::new(from))));
        let mut host = host.with_effect("kill_tree", slow(waits)).with_effect("collect_triage", slow(at_once));
        let process = |number: u32| Target::resource("process", &format!("{number}@9"));
        let orders = vec![
            order("a", "kill_tree", process(4_711)),
            order("b", "kill_tree", process(4_712)),
            order("c", "collect_triage", Target::resource("host", "web1")),
        ];
        host.submit_as(orders, Authority::Root, now).unwrap();
        let (to, from) = sync_channel(8);
        let aside = Aside::new(dir.path(), to);
        for job in host.take_jobs() {
            assert!(aside.run(job).is_none());
        }
        let next = |host: &mut HostActions<NoBlocks>| {
            let Message::Acted(report) = from.recv().unwrap() else { panic!("another message") };
            let changes = host.reported(report, now).unwrap();
            let [action] = changes.actions() else { panic!("one action") };
            (action.order.id.clone(), action.state)
        };
        assert_eq!(next(&mut host), ("c".into(), ActionState::Done), "it does not wait for the other kind");
        assert!(host.is_out("a") && host.is_out("b"));
        // All answers are stopped while the second waits for the first.
        let (by, reason) = ("ann".to_owned(), String::new());
        crate::halt::put(dir.path(), Halted { at: now, by, reason, undo: false, manager: false }).unwrap();
        go.send(()).unwrap();
        assert_eq!(next(&mut host), ("a".into(), ActionState::Done));
        assert_eq!(next(&mut host), ("b".into(), ActionState::Refused));
    }
}
