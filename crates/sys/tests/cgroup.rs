//! Budgets as the kernel holds them. The processes that eat and spin are this program started again as a worker.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::disallowed_methods)]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sakimori_sys::cgroup::{Budget, Cgroups, Group, remove_left};
use sakimori_sys::harness;
use sakimori_sys::worker::{Worker, WorkerSpec, connect, spawn};

const UID: u32 = 64_109;
const PATIENCE: Duration = Duration::from_secs(120);

fn main() {
    let role = std::env::args().nth(1).unwrap_or_default();
    match role.as_str() {
        "role-eat" => eat(),
        "role-spin" => spin(),
        "role-wait" => drop(connect().unwrap().recv()),
        _ => {
            let all: &[(&str, fn())] = &[
                ("a_worker_that_eats_memory_is_ended_and_its_neighbours_live", memory),
                ("a_quota_of_processor_time_holds", processor),
                ("the_whole_limits_what_its_parts_allow", whole),
                ("nothing_is_left_of_the_groups", left),
            ];
            harness::run(&role, all, || {
                let missing = Cgroups::look();
                missing.is_empty().then_some(()).ok_or_else(|| format!("the kernel cannot limit {missing:?} here"))
            });
        }
    }
}

/// Takes memory after it was told to, in pieces that it touches, up to 256 MiB.
fn eat() {
    let channel = connect().unwrap();
    channel.recv().unwrap().unwrap();
    let mut all = Vec::new();
    for _ in 0..256 {
        all.push(std::hint::black_box(vec![1_u8; 1 << 20]));
    }
    channel.send(b"it had all", &[]).unwrap();
}

fn spin() {
    let channel = connect().unwrap();
    channel.recv().unwrap().unwrap();
    loop {
        std::hint::black_box(0);
    }
}

fn start(role: &str, group: &Group) -> Worker {
    let spec = WorkerSpec { group: Some(group.clone()), ..WorkerSpec::own("budget", &[role], UID, UID) };
    spawn(&spec).unwrap()
}

fn wait(what: &str, mut condition: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < until, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn memory() {
    let cgroups = Cgroups::open(&Budget::default());
    assert_eq!(cgroups.missing(), &[] as &[String]);
    let small = cgroups.group("logs", &Budget { memory: Some(64 << 20), ..Budget::default() }).unwrap();
    let other = cgroups.group("uplink", &Budget { memory: Some(64 << 20), ..Budget::default() }).unwrap();
    let neighbour = start("role-wait", &other);
    let mut worker = start("role-eat", &small);
    worker.channel.send(b"go", &[]).unwrap();
    assert!(worker.channel.recv().unwrap().is_none(), "64 MiB held 256");
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&worker.wait().unwrap()), Some(9));
    wait("the kill is counted", || small.memory_kills() == 1);
    assert!(small.usage().memory_peak <= 64 << 20, "{:?}", small.usage());
    assert_eq!((other.memory_kills(), small.usage().memory_kills), (0, 1));
    assert!(Path::new(&format!("/proc/{}", neighbour.pid)).exists());
    // With a larger budget the same worker has room.
    let large = cgroups.group("logs", &Budget { memory: Some(512 << 20), ..Budget::default() }).unwrap();
    let mut worker = start("role-eat", &large);
    worker.channel.send(b"go", &[]).unwrap();
    assert_eq!(worker.channel.recv().unwrap().unwrap().0, b"it had all");
    assert!(worker.wait().unwrap().success());
    drop(neighbour);
    cgroups.remove();
}

/// Processor time that a spinning worker gets, as a share of the time that passes, until it had to wait this often.
fn share_of(group: &Group, periods: u64) -> f64 {
    let worker = start("role-spin", group);
    let (began, before) = (Instant::now(), group.usage());
    worker.channel.send(b"go", &[]).unwrap();
    wait("it has to wait", || group.usage().throttled >= before.throttled + periods);
    let used = group.usage().cpu_us - before.cpu_us;
    assert!(group.usage().throttled_us > before.throttled_us);
    f64::from(u32::try_from(used).unwrap()) / began.elapsed().as_secs_f64() / 1e6
}

fn processor() {
    let cgroups = Cgroups::open(&Budget::default());
    let group = cgroups.group("malware", &Budget { cpu: Some(20), ..Budget::default() }).unwrap();
    let share = share_of(&group, 20);
    // A period of 100 ms may begin and end with a slice of its own.
    assert!(share < 0.26, "{share:.3} of a processor at a quota of 0.2");
    cgroups.remove();
}

fn whole() {
    let cgroups = Cgroups::open(&Budget { cpu: Some(15), memory: Some(64 << 20), io: None });
    let group = cgroups.group("logs", &Budget { cpu: Some(100), memory: Some(512 << 20), io: None }).unwrap();
    let mut worker = start("role-eat", &group);
    worker.channel.send(b"go", &[]).unwrap();
    assert!(worker.channel.recv().unwrap().is_none(), "the whole has 64 MiB");
    worker.wait().unwrap();
    let worker = start("role-spin", &group);
    let (began, before) = (Instant::now(), cgroups.usage());
    worker.channel.send(b"go", &[]).unwrap();
    wait("the whole has to wait", || cgroups.usage().throttled >= before.throttled + 10);
    let used = cgroups.usage().cpu_us - before.cpu_us;
    let share = f64::from(u32::try_from(used).unwrap()) / began.elapsed().as_secs_f64() / 1e6;
    assert!(share < 0.22, "{share:.3} of a processor at 0.15 for the whole");
    // What has no limit is not held up by it.
    let free = cgroups.unlimited().unwrap();
    assert_eq!(free.usage().throttled, 0);
    drop(worker);
    cgroups.remove();
}

fn groups() -> Vec<PathBuf> {
    let own = format!("sakimori-agent-{}", std::process::id());
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if entry.file_name().to_string_lossy() == own {
                    found.push(entry.path());
                }
                folders.push(entry.path());
            }
        }
    }
    found
}

fn left() {
    let cgroups = Cgroups::open(&Budget::default());
    let group = cgroups.group("logs", &Budget::default()).unwrap();
    let worker = start("role-wait", &group);
    assert!(!groups().is_empty());
    cgroups.remove();
    // One with a process in it stays, and goes with the next look after the process is gone.
    assert!(!groups().is_empty());
    drop(worker);
    Cgroups::open(&Budget::default()).remove();
    assert_eq!(groups(), Vec::<PathBuf>::new());
    // Groups of an agent that was killed: its number is nobody's.
    let memory = std::fs::read_to_string("/proc/self/cgroup").unwrap();
    let path =
        memory.lines().find_map(|line| line.split_once(":memory:")).map(|(_, path)| path.trim_start_matches('/'));
    if let Some(path) = path.filter(|_| Path::new("/sys/fs/cgroup/memory").is_dir()) {
        let gone = Path::new("/sys/fs/cgroup/memory").join(path).join("sakimori-agent-4194305/agent/logs");
        std::fs::create_dir_all(&gone).unwrap();
        remove_left();
        assert!(!gone.exists());
    }
}
