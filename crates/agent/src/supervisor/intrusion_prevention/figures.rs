//! Intrusion prevention in figures: its state, what was judged, what was not seen, and the event of packets that went by
//! policy.

use std::time::{Duration, Instant};

use sakimori_host::keeper::pump_message::{Count, ToPump};
use sakimori_host::queue_packets;
use sakimori_model::field;
use sakimori_model::policy::{Fail, Policy};
use sakimori_wire::ipc_network::NetworkCounters;
use sakimori_wire::status::{ModuleStatus, NetworkStatus, RulesStatus};

use super::IntrusionPrevention;
use crate::modules::intrusion_prevention::DESCRIPTOR;
use crate::supervisor::Supervisor;

/// Between two words about packets that went by policy.
const BETWEEN: Duration = Duration::from_secs(10);

impl IntrusionPrevention {
    /// State, for status.
    pub fn status(&self, policy: &Policy) -> ModuleStatus {
        let (state, detail) = match (&self.problem, (DESCRIPTOR.is_on)(policy)) {
            (_, false) => ("off", String::new()),
            (Some(problem), true) => ("failing", problem.clone()),
            (None, true) if self.lanes.is_empty() => ("failing", "it is starting".into()),
            (None, true) if self.lanes.iter().any(|lane| !lane.judging) => {
                ("failing", "a network worker is being started".into())
            }
            (None, true) => ("on", self.describe()),
        };
        let restarts = self.backoff.restarts() + self.lanes.iter().map(|lane| lane.backoff.restarts()).sum::<u64>();
        let rules = (state == "on").then(|| RulesStatus::new(self.loaded.0, &self.loaded.2));
        ModuleStatus { id: DESCRIPTOR.id.into(), state: state.into(), detail, restarts, rules }
    }

    /// What was judged and what was not seen; `None` while it is off.
    pub fn figures(&self) -> Option<NetworkStatus> {
        self.settings.as_ref()?;
        let all = self.counters();
        let (packets_kept, packets_dropped, packets_shed) = self.packets.figures();
        Some(NetworkStatus {
            packets: all.packets,
            flows: all.flows,
            alerts: all.alerts,
            dropped: all.dropped,
            encrypted_flows: all.encrypted,
            passed_over: all.bulk,
            passed_over_bytes: all.bulk_bytes,
            by_policy: self.pumped(Count::Silent),
            overruns: self.pumped(Count::Overruns),
            packets_kept,
            packets_dropped,
            packets_shed: packets_shed + all.packets_shed,
        })
    }

    fn counters(&self) -> NetworkCounters {
        self.lanes.iter().fold(self.before, |sum, lane| sum.and(lane.counters))
    }

    fn describe(&self) -> String {
        let (rules, preventing, errors) = &self.loaded;
        let all = self.counters();
        let kernel = queue_packets::bypassed(&self.config.intrusion_prevention.table).unwrap_or_default();
        let kept = match self.settings.as_ref().is_some_and(|settings| settings.keep_packets.is_on()) {
            true => {
                let (kept, dropped, shed) = self.packets.figures();
                let shed = shed + all.packets_shed;
                format!("; packets of {kept} alerted flows kept, of {shed} not, {dropped} files went for newer ones")
            }
            false => String::new(),
        };
        let refused = errors
            .first()
            .map_or(String::new(), |first| format!("; {} did not load, the first: {first}", errors.len()));
        format!(
            "{rules} rules, {preventing} of them prevent{refused}; {} packets, {} alerts ({} untold), {} dropped; not \
             seen: {} encrypted flows, {} answers of {} bytes passed over; {} packets by policy, {} overruns; by the \
             kernel alone {} packets of {} bytes let through, {} dropped{kept}",
            all.packets,
            all.alerts,
            all.untold,
            all.dropped + kernel.dropped.packets,
            all.encrypted,
            all.bulk,
            all.bulk_bytes,
            self.pumped(Count::Silent),
            self.pumped(Count::Overruns),
            kernel.accepted.packets,
            kernel.accepted.bytes,
            kernel.dropped.packets,
        )
    }

    /// A figure of all pumps together.
    fn pumped(&self, which: Count) -> u64 {
        self.lanes.iter().filter_map(|lane| lane.pumped.get(&which)).sum()
    }

    pub(super) fn ask_numbers(&self) {
        for lane in &self.lanes {
            let _ = lane.pump.send(&ToPump::Numbers.encode(), &[]);
        }
    }
}

impl Supervisor {
    /// Packets that nobody judged in time went as the policy says, since a worker was dead, slow or overrun: an event,
    /// and while it goes on another one each while.
    pub(super) fn tell_by_policy(&mut self) {
        let module = &mut self.intrusion_prevention;
        let all: u64 = [Count::Silent, Count::Overruns].into_iter().map(|which| module.pumped(which)).sum();
        let (told, at) = module.told;
        // Other pumps begin to count anew.
        module.told.0 = told.min(all);
        if all <= told || at.is_some_and(|at| at.elapsed() < BETWEEN) {
            return;
        }
        module.told = (all, Some(Instant::now()));
        let (silent, overruns) = (module.pumped(Count::Silent), module.pumped(Count::Overruns));
        let went = match self.policy.policy.modules.intrusion_prevention.fail {
            Fail::Open => "let through unseen",
            Fail::Closed => "dropped",
        };
        let text = format!(
            "intrusion_prevention: so far {silent} packets that no worker judged in time were {went}, as the policy says, \
             and {overruns} times the kernel had no room for more"
        );
        self.say("packets-by-policy", text, |event| {
            event.set(field::SAKIMORI_MODULE, DESCRIPTOR.id);
            event.set(field::EVENT_OUTCOME, "failure");
        });
    }
}
