//! Budgets that the kernel holds: a control group for each kind of worker, below one for the whole (cgroups(7), kernel
//! documentation `cgroup-v1` and `cgroup-v2`).
//!
//! ```text
//! <our own group>/sakimori-agent-<pid>/agent/         what all have together
//!                                     /agent/<name>   one worker's, by its name; `supervisor` is ours
//!                                     /keeper         what must answer whatever the others do: no limit
//! ```
//! Version 1 has a hierarchy a controller, version 2 one for all; a host may have both, and each controller is taken where
//! it is. Version 2 wants no processes beside groups with limits, so there we move to `supervisor` first, and where others
//! share our group we go to the root of the hierarchy. What cannot be had is told by [`Cgroups::missing`], and the limits
//! of [`crate::sandbox`] remain.
//!
//! A group is removed when it is empty: at the end of its agent, or by the next one, which knows from the number in
//! its name that its agent is gone.

mod find;
pub mod freezer;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use find::Hierarchy;

/// Groups of ours begin with this; the agent's process id follows.
const PREFIX: &str = "sakimori-agent-";
/// Part of the agent's group that has the budget of the whole.
const WHOLE: &str = "agent";
/// The group of the supervisor itself.
const SUPERVISOR: &str = "supervisor";
/// The group that has no limit.
const KEEPER: &str = "keeper";
/// Period of a processor quota, in microseconds.
const PERIOD: u64 = 100_000;
/// Longest of the kernel's files that is read.
const MAX_FILE: u64 = 16 * 1024;

/// What a group may use. `None`: what its parent has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    /// Memory, in bytes; above it the kernel ends a process of the group.
    pub memory: Option<u64>,
    /// Processor time, in hundredths of one processor; above it the group waits.
    pub cpu: Option<u32>,
    /// Share of the disk's time against others, 1 to 1000; 100 is usual.
    pub io: Option<u16>,
}

/// What a group used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Memory now, in bytes.
    pub memory: u64,
    /// Most memory at one time, in bytes.
    pub memory_peak: u64,
    /// Processes that the kernel ended at the memory limit.
    pub memory_kills: u64,
    /// Processor time, in microseconds.
    pub cpu_us: u64,
    /// Periods in which it had to wait.
    pub throttled: u64,
    /// How long it had to wait, in microseconds.
    pub throttled_us: u64,
}

/// What can be limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Controller {
    Memory,
    Cpu,
    CpuTime,
    Io,
}

/// Names of controllers in version 1 and version 2, whose `cpu` measures too, and for people.
const CONTROLLERS: &[(Controller, &str, &str, &str)] = &[
    (Controller::Memory, "memory", "memory", "memory"),
    (Controller::Cpu, "cpu", "cpu", "processor time"),
    (Controller::CpuTime, "cpuacct", "cpu", "the measure of processor time"),
    (Controller::Io, "blkio", "io", "the disk's time"),
];

/// A directory with what can be limited by it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    unified: bool,
    controllers: Vec<Controller>,
    dir: PathBuf,
}

/// The agent's groups. Dropping it changes nothing; see [`Cgroups::remove`].
#[derive(Debug)]
pub struct Cgroups {
    places: Vec<Place>,
    missing: Vec<String>,
    whole: Budget,
}

/// One group. Cheap to copy.
#[derive(Clone, Debug)]
pub struct Group {
    places: Arc<[Place]>,
}

impl Cgroups {
    /// Makes the agent's groups and moves this process into its own one. Groups of agents that are gone are removed.
    /// What could not be had is in [`Cgroups::missing`]; with nothing at all, groups limit nothing.
    pub fn open(whole: &Budget) -> Self {
        let mut cgroups = Self { places: Vec::new(), missing: Vec::new(), whole: *whole };
        let mut problem = "no hierarchy has it".to_owned();
        for hierarchy in own_hierarchies() {
            sweep(&hierarchy);
            match settle(&hierarchy, &cgroups.places) {
                Ok(place) => cgroups.places.extend(place),
                Err(error) => problem = format!("{}: {error}", hierarchy.own.display()),
            }
        }
        for (controller, _, _, name) in CONTROLLERS {
            if !cgroups.places.iter().any(|place| place.controllers.contains(controller)) {
                cgroups.missing.push(format!("{name} ({problem})"));
            }
        }
        let agent = cgroups.at(WHOLE);
        cgroups.missing.extend(agent.set(whole).err().map(|error| format!("the budget of the whole ({error})")));
        cgroups
    }

    /// What cannot be limited here, and why.
    pub fn missing(&self) -> &[String] {
        &self.missing
    }

    /// Does the kernel hold limits of processor time here?
    pub fn holds_cpu(&self) -> bool {
        self.places.iter().any(|place| place.controllers.contains(&Controller::Cpu))
    }

    /// What could be limited by an agent on this host, without making anything: for `doctor`. The same texts.
    pub fn look() -> Vec<String> {
        let hierarchies = own_hierarchies();
        let lacks = |(controller, name): (&Controller, &str)| {
            let here = hierarchies.iter().find(|one| offered(one).contains(controller));
            match here {
                None => Some(format!("{name} (no hierarchy has it)")),
                Some(one) => rustix::fs::access(&one.own, rustix::fs::Access::WRITE_OK)
                    .err()
                    .map(|error| format!("{name} ({}: {})", one.own.display(), io::Error::from(error))),
            }
        };
        CONTROLLERS.iter().filter_map(|(controller, _, _, name)| lacks((controller, *name))).collect()
    }

    /// The group of this name, with this budget, as far as that of the whole allows it. A budget that is set again replaces
    /// the former one.
    ///
    /// # Errors
    /// A group cannot be made, or the kernel refuses a limit.
    pub fn group(&self, name: &str, budget: &Budget) -> io::Result<Group> {
        let group = self.at(&format!("{WHOLE}/{name}"));
        for place in group.places.iter() {
            make(&place.dir)?;
        }
        // Version 1 refuses a quota above that of the group over it.
        let cpu = budget.cpu.map(|own| own.min(self.whole.cpu.unwrap_or(own)));
        group.set(&Budget { cpu, ..*budget })?;
        Ok(group)
    }

    /// The group without limits, for what must answer while the others are throttled.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn unlimited(&self) -> io::Result<Group> {
        let group = self.at(KEEPER);
        for place in group.places.iter() {
            make(&place.dir)?;
        }
        Ok(group)
    }

    /// What all groups with a limit used together.
    pub fn usage(&self) -> Usage {
        self.at(WHOLE).usage()
    }

    /// Leaves and removes the groups; one in which a process lives stays.
    pub fn remove(self) {
        for place in &self.places {
            if let Some(parent) = place.dir.parent() {
                // Where limits below forbid it (version 2), this process stays and the next agent removes the group.
                let _ = put(parent, std::process::id());
            }
            remove_below(&place.dir);
        }
    }

    fn at(&self, below: &str) -> Group {
        let places = self.places.iter().map(|place| Place { dir: place.dir.join(below), ..place.clone() });
        Group { places: places.collect() }
    }
}

/// Removes groups of agents that are gone.
pub fn remove_left() {
    own_hierarchies().iter().for_each(sweep);
}

impl Group {
    /// Puts a process in, with all its threads; what it starts later is in it too.
    ///
    /// # Errors
    /// The process is gone, or the kernel refuses.
    pub fn add(&self, pid: u32) -> io::Result<()> {
        self.places.iter().try_for_each(|place| put(&place.dir, pid))
    }

    /// What it used.
    pub fn usage(&self) -> Usage {
        let mut usage = Usage::default();
        for place in self.places.iter() {
            place.measure(&mut usage);
        }
        usage
    }

    /// How many of its processes were ended at the limit of memory.
    pub fn memory_kills(&self) -> u64 {
        self.places.iter().find_map(Place::memory_kills).unwrap_or(0)
    }

    fn set(&self, budget: &Budget) -> io::Result<()> {
        for place in self.places.iter() {
            for controller in &place.controllers {
                place.limit(*controller, budget)?;
            }
        }
        Ok(())
    }
}

impl Place {
    fn limit(&self, controller: Controller, budget: &Budget) -> io::Result<()> {
        let quota = budget.cpu.map(|percent| u64::from(percent.max(1)) * PERIOD / 100);
        match (controller, self.unified) {
            (Controller::Memory, true) => self.write("memory.max", &or(budget.memory, "max")),
            (Controller::Memory, false) => self.write("memory.limit_in_bytes", &or(budget.memory, "-1")),
            (Controller::Cpu, true) => self.write("cpu.max", &format!("{} {PERIOD}", or(quota, "max"))),
            (Controller::Cpu, false) => self.write("cpu.cfs_quota_us", &or(quota, "-1")),
            (Controller::CpuTime, _) => Ok(()),
            (Controller::Io, true) => match budget.io {
                // There for some schedulers only.
                Some(weight) if self.dir.join("io.weight").exists() => {
                    self.write("io.weight", &format!("default {weight}"))
                }
                _ => Ok(()),
            },
            (Controller::Io, false) => match (budget.io, ["blkio.bfq.weight", "blkio.weight"]) {
                (Some(weight), names) => match names.iter().find(|name| self.dir.join(name).exists()) {
                    Some(name) => self.write(name, &weight.max(10).to_string()),
                    None => Ok(()),
                },
                _ => Ok(()),
            },
        }
    }

    /// `None` where it has no limit of memory.
    fn memory_kills(&self) -> Option<u64> {
        let file = if self.unified { "memory.events" } else { "memory.oom_control" };
        self.controllers.contains(&Controller::Memory).then(|| self.number(file, "oom_kill"))
    }

    fn measure(&self, usage: &mut Usage) {
        usage.memory_kills += self.memory_kills().unwrap_or(0);
        for controller in &self.controllers {
            match (controller, self.unified) {
                (Controller::Memory, true) => {
                    usage.memory = self.number("memory.current", "");
                    usage.memory_peak = self.number("memory.peak", "");
                }
                (Controller::Memory, false) => {
                    usage.memory = self.number("memory.usage_in_bytes", "");
                    usage.memory_peak = self.number("memory.max_usage_in_bytes", "");
                }
                (Controller::Cpu, true) => {
                    usage.throttled = self.number("cpu.stat", "nr_throttled");
                    usage.throttled_us = self.number("cpu.stat", "throttled_usec");
                }
                (Controller::Cpu, false) => {
                    usage.throttled = self.number("cpu.stat", "nr_throttled");
                    usage.throttled_us = self.number("cpu.stat", "throttled_time") / 1_000;
                }
                (Controller::CpuTime, true) => usage.cpu_us = self.number("cpu.stat", "usage_usec"),
                (Controller::CpuTime, false) => usage.cpu_us = self.number("cpuacct.usage", "") / 1_000,
                (Controller::Io, _) => {}
            }
        }
    }

    fn write(&self, file: &str, text: &str) -> io::Result<()> {
        write(&self.dir.join(file), text)
    }

    /// The number in a file, or behind a word that begins a line of it; 0 where it is not there.
    fn number(&self, file: &str, word: &str) -> u64 {
        let text = read(&self.dir.join(file));
        let found = text.lines().find_map(|line| match word {
            "" => Some(line),
            word => line.strip_prefix(word)?.strip_prefix(' '),
        });
        found.and_then(|text| text.trim().parse().ok()).unwrap_or(0)
    }
}

fn or(value: Option<u64>, none: &str) -> String {
    value.map_or_else(|| none.to_owned(), |value| value.to_string())
}

fn own_hierarchies() -> Vec<Hierarchy> {
    find::hierarchies(&read(Path::new("/proc/self/cgroup")), &read(Path::new("/proc/self/mountinfo")))
}

/// What a hierarchy can limit.
fn offered(hierarchy: &Hierarchy) -> Vec<Controller> {
    let unified = hierarchy.controllers.is_empty();
    let text = if unified { read(&hierarchy.own.join("cgroup.controllers")) } else { hierarchy.controllers.join(" ") };
    let has = |name: &str| text.split_whitespace().any(|word| word == name);
    let offered = CONTROLLERS.iter().filter(|(_, one, two, _)| has(if unified { two } else { one }));
    offered.map(|(controller, ..)| *controller).collect()
}

/// Makes the agent's group in a hierarchy, for the controllers that no other one gives.
fn settle(hierarchy: &Hierarchy, given: &[Place]) -> io::Result<Option<Place>> {
    let mut controllers = offered(hierarchy);
    controllers.retain(|one| !given.iter().any(|place| place.controllers.contains(one)));
    if controllers.is_empty() {
        return Ok(None);
    }
    let unified = hierarchy.controllers.is_empty();
    let name = format!("{PREFIX}{}", std::process::id());
    let mut outcome = Err(io::ErrorKind::NotFound.into());
    // Version 1 allows a group anywhere; version 2 only where no others are.
    let candidates: &[&PathBuf] = if unified { &[&hierarchy.own, &hierarchy.root] } else { &[&hierarchy.own] };
    for parent in candidates {
        let dir = parent.join(&name);
        outcome = enter(parent, &dir, unified.then_some(&controllers));
        if outcome.is_ok() {
            return Ok(Some(Place { unified, controllers, dir }));
        }
        let _ = put(&hierarchy.own, std::process::id());
        remove_below(&dir);
    }
    outcome.map(|()| None)
}

fn enter(parent: &Path, dir: &Path, enable: Option<&Vec<Controller>>) -> io::Result<()> {
    let whole = dir.join(WHOLE);
    let own = whole.join(SUPERVISOR);
    for dir in [dir, &whole, &own] {
        make(dir)?;
    }
    put(&own, std::process::id())?;
    if let Some(controllers) = enable {
        let names = CONTROLLERS.iter().filter(|(one, _, two, _)| controllers.contains(one) && !two.is_empty());
        let text: Vec<String> = names.map(|(_, _, name, _)| format!("+{name}")).collect();
        for dir in [parent, dir, &whole] {
            write(&dir.join("cgroup.subtree_control"), &text.join(" "))?;
        }
    }
    Ok(())
}

/// Removes our groups beside ours whose agent is gone, as far as they are empty.
fn sweep(hierarchy: &Hierarchy) {
    for parent in [&hierarchy.own, &hierarchy.root] {
        for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let pid = name.to_str().and_then(|name| name.strip_prefix(PREFIX)).and_then(|pid| pid.parse::<u32>().ok());
            if pid.is_some_and(|pid| pid != std::process::id() && !Path::new(&format!("/proc/{pid}")).exists()) {
                remove_below(&entry.path());
            }
        }
    }
}

/// Removes a group and those below it; one with a process in it stays, and so do those above it.
fn remove_below(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_below(&entry.path());
        }
    }
    let _ = fs::remove_dir(dir);
}

fn make(dir: &Path) -> io::Result<()> {
    match fs::create_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

fn put(dir: &Path, pid: u32) -> io::Result<()> {
    write(&dir.join("cgroup.procs"), &pid.to_string())
}

/// One call of write: the kernel takes each as a whole.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let failed =
        |error: io::Error| io::Error::new(error.kind(), format!("write {text} to {}: {error}", path.display()));
    let mut file = fs::OpenOptions::new().write(true).open(path).map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)
}

fn read(path: &Path) -> String {
    let mut text = String::new();
    if let Ok(file) = fs::File::open(path) {
        let _ = io::Read::read_to_string(&mut io::Read::take(file, MAX_FILE * 16), &mut text);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with the files that a group of version 2 has: the kernel of this machine may limit nothing by it.
    fn unified() -> (tempfile::TempDir, Group) {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("memory.max", ""),
            ("cpu.max", ""),
            ("io.weight", ""),
            ("cgroup.procs", ""),
            ("memory.current", "4096\n"),
            ("memory.peak", "8192\n"),
            ("memory.events", "low 0\noom 3\noom_kill 2\noom_group_kill 9\n"),
            ("cpu.stat", "usage_usec 77\nuser_usec 70\nnr_periods 5\nnr_throttled 4\nthrottled_usec 33\n"),
        ] {
            fs::write(folder.path().join(name), text).unwrap();
        }
        let controllers = CONTROLLERS.iter().map(|(controller, ..)| *controller).collect();
        let place = Place { unified: true, controllers, dir: folder.path().to_owned() };
        (folder, Group { places: [place].into() })
    }

    #[test]
    fn version_two_is_written_and_read_in_its_own_words() {
        let (folder, group) = unified();
        let text = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        group.set(&Budget { memory: Some(1 << 20), cpu: Some(150), io: Some(50) }).unwrap();
        assert_eq!((text("memory.max"), text("cpu.max")), ("1048576".into(), "150000 100000".into()));
        assert_eq!(text("io.weight"), "default 50");
        group.add(77).unwrap();
        assert_eq!(text("cgroup.procs"), "77");
        let expected =
            Usage { memory: 4_096, memory_peak: 8_192, memory_kills: 2, cpu_us: 77, throttled: 4, throttled_us: 33 };
        assert_eq!((group.usage(), group.memory_kills()), (expected, 2));
    }

    #[test]
    fn no_budget_is_no_limit() {
        let (folder, group) = unified();
        group.set(&Budget::default()).unwrap();
        assert_eq!(fs::read_to_string(folder.path().join("memory.max")).unwrap(), "max");
        assert_eq!(fs::read_to_string(folder.path().join("cpu.max")).unwrap(), "max 100000");
        fs::remove_file(folder.path().join("memory.max")).unwrap();
        let error = group.set(&Budget::default()).unwrap_err();
        assert!(error.to_string().contains("memory.max"), "{error}");
    }
}
