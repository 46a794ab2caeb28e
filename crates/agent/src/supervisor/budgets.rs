//! Budgets of the agent's processes, held by the kernel (`sys::cgroup`): which group each kind of worker lives in, what it
//! used, and telling when one was ended at its limit. In which order work is shed: docs/configuration.md, "Budgets".

use sakimori_sys::cgroup::{Budget, Cgroups, Group, Usage};
use sakimori_wire::status::BudgetStatus;

use super::Supervisor;
use crate::config;

/// Kinds of workers, in the order in which they are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// Parses logs; `journalctl` is with it.
    Logs,
    /// Judges files.
    Malware,
    /// Scans, by schedule or when asked.
    Scan,
    /// Judges packets.
    Network,
    /// Speaks to the manager.
    Uplink,
}

const ALL: [(Of, &str); 5] = [
    (Of::Logs, "logs"),
    (Of::Malware, "malware"),
    (Of::Scan, "scan"),
    (Of::Network, "network"),
    (Of::Uplink, "uplink"),
];

/// The groups.
pub struct Budgets {
    cgroups: Option<Cgroups>,
    groups: Vec<(Of, Group)>,
    keeper: Option<Group>,
    settings: config::Budget,
    /// Processes that were ended at their limit, as told so far, in the order of [`ALL`].
    told: [u64; ALL.len()],
    /// What does not hold, and why.
    problems: Vec<String>,
}

/// One part of the configuration: most memory in MiB, most processor time in hundredths of a processor.
#[derive(Clone, Copy, Debug)]
struct Share {
    memory_mib: u64,
    cpu_percent: u32,
    io_weight: u16,
}

impl Share {
    /// All together.
    fn whole(budget: &config::Budget) -> Self {
        Self { memory_mib: budget.memory_mib, cpu_percent: budget.cpu_percent, io_weight: budget.io_weight }
    }

    fn of(budget: &config::Budget, which: Of) -> Self {
        let (memory_mib, cpu_percent) = match which {
            Of::Logs => (budget.logs_memory_mib, budget.logs_cpu_percent),
            Of::Malware => (budget.malware_memory_mib, budget.malware_cpu_percent),
            Of::Scan => (budget.scan_memory_mib, budget.scan_cpu_percent),
            Of::Network => (budget.network_memory_mib, budget.network_cpu_percent),
            Of::Uplink => (budget.uplink_memory_mib, budget.uplink_cpu_percent),
        };
        Self { memory_mib, cpu_percent, io_weight: budget.io_weight }
    }

    fn to_budget(self) -> Budget {
        Budget {
            memory: (self.memory_mib > 0).then(|| self.memory_mib.saturating_mul(1 << 20)),
            cpu: (self.cpu_percent > 0).then_some(self.cpu_percent),
            io: (self.io_weight > 0).then_some(self.io_weight),
        }
    }
}

impl Budgets {
    /// Makes the groups. Where that cannot be, the agent goes on with the limits that each worker gives itself.
    pub fn open(settings: &config::Budget) -> Self {
        let cgroups = Cgroups::open(&Share::whole(settings).to_budget());
        let mut problems = cgroups.missing().to_vec();
        let mut groups = Vec::new();
        for (which, name) in ALL {
            match cgroups.group(name, &Share::of(settings, which).to_budget()) {
                Ok(group) => groups.push((which, group)),
                Err(error) => problems.push(format!("the budget of {name} ({error})")),
            }
        }
        let keeper = cgroups.unlimited().map_err(|error| problems.push(format!("the keeper's group ({error})"))).ok();
        if !problems.is_empty() {
            tracing::warn!(missing = problems.join(", "), "the kernel holds a part of the budgets only");
        }
        Self { cgroups: Some(cgroups), groups, keeper, settings: settings.clone(), told: [0; ALL.len()], problems }
    }

    /// The group of a kind of worker.
    pub fn group(&self, which: Of) -> Option<Group> {
        self.groups.iter().find(|(of, _)| *of == which).map(|(_, group)| group.clone())
    }

    /// The group of a scan that may take so much of a processor, and whether the kernel holds that.
    pub fn for_scan(&self, cpu_percent: u32) -> (Option<Group>, bool) {
        let mut share = Share::of(&self.settings, Of::Scan);
        if share.cpu_percent == 0 || share.cpu_percent > cpu_percent {
            share.cpu_percent = cpu_percent;
        }
        let Some(cgroups) = self.cgroups.as_ref().filter(|cgroups| cgroups.holds_cpu()) else {
            return (self.group(Of::Scan), false);
        };
        match cgroups.group("scan", &share.to_budget()) {
            Ok(group) => (Some(group), true),
            Err(error) => {
                tracing::warn!(%error, "the kernel does not hold the limit of a scan");
                (self.group(Of::Scan), false)
            }
        }
    }

    /// The group of the keeper and of pumps, which has no limit.
    pub fn keeper(&self) -> Option<Group> {
        self.keeper.clone()
    }

    /// Figures, the whole last.
    pub fn status(&self) -> Vec<BudgetStatus> {
        let one = |name: &str, share: Share, usage: Usage| BudgetStatus {
            name: name.to_owned(),
            memory_bytes: usage.memory,
            memory_peak_bytes: usage.memory_peak,
            memory_most_bytes: share.memory_mib.saturating_mul(1 << 20),
            memory_kills: usage.memory_kills,
            cpu_us: usage.cpu_us,
            cpu_most_percent: share.cpu_percent,
            throttled: usage.throttled,
            throttled_us: usage.throttled_us,
            problem: self.problems.join(", "),
        };
        let mut all: Vec<BudgetStatus> = Vec::new();
        for (which, name) in ALL {
            if let Some(group) = self.group(which) {
                all.push(one(name, Share::of(&self.settings, which), group.usage()));
            }
        }
        if let Some(cgroups) = &self.cgroups {
            all.push(one("agent", Share::whole(&self.settings), cgroups.usage()));
        }
        all
    }

    /// What was ended at its limit since the last call.
    fn news(&mut self) -> Vec<(Of, String)> {
        let mut news = Vec::new();
        for ((which, name), told) in ALL.into_iter().zip(&mut self.told) {
            let Some((_, group)) = self.groups.iter().find(|(of, _)| *of == which) else { continue };
            let kills = group.memory_kills();
            if kills > *told {
                let share = Share::of(&self.settings, which);
                news.push((
                    which,
                    format!(
                        "{name}: the kernel ended {} of its processes at the memory limit of {} MiB (or of {} MiB for all)",
                        kills - *told,
                        share.memory_mib,
                        self.settings.memory_mib
                    ),
                ));
                *told = kills;
            }
        }
        news
    }

    /// Removes the groups; processes that still live keep theirs.
    pub fn close(&mut self) {
        self.groups.clear();
        if let Some(cgroups) = self.cgroups.take() {
            cgroups.remove();
        }
    }
}

impl Supervisor {
    /// A worker that was ended at its limit becomes an event; that it is started again is its module's affair.
    pub(super) fn look_at_budgets(&mut self) {
        for (which, message) in self.budgets.news() {
            self.say("memory-limit-reached", message, |event| {
                let module = match which {
                    Of::Logs => "log_inspection",
                    Of::Malware | Of::Scan => "antimalware",
                    Of::Network => "intrusion_prevention",
                    Of::Uplink => "uplink",
                };
                event.set(sakimori_model::field::SAKIMORI_MODULE, module);
            });
        }
    }
}
