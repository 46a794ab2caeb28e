//! Protection of opens and executions against a real kernel: a keeper process, an agent (this process) with a judge
//! that knows one bad word, and actors that try every way to get at a bad file. This file has its own `main`, since
//! keeper and actors are this program started again. All of it happens on a tmpfs in a mount namespace of its own.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::disallowed_methods)]
#![allow(unsafe_code)] // actors map memory and make system calls of their own

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, Permissions};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use sakimori_host::guard::{Judge, Ruling, guard};
use sakimori_host::opens::{Answers, Asked, Count, Opens, Question, Silence};
use sakimori_sys::harness;

/// What the judge takes for malicious.
const BAD: &[u8] = b"bad-word";
/// What it takes a second for.
const SLOW: &[u8] = b"slow-word";

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.get(1).map(String::as_str) {
        Some("role-keeper") => {
            let listener = UnixListener::bind(&arguments[2]).unwrap();
            println!("ready");
            sakimori_host::keeper::run(&listener, Silence::OPEN).unwrap();
        }
        Some("role-stranger") => {
            let mut stream = UnixStream::connect(&arguments[2]).unwrap();
            println!("{}", stream.read(&mut [0]).unwrap());
        }
        Some("role-actor") => actor(&arguments[2], Path::new(&arguments[3])),
        other => tests(other.unwrap_or_default()),
    }
}

fn tests(filter: &str) {
    let all: &[(&str, fn())] = &[
        ("every_way_to_a_bad_file_is_refused", every_way),
        ("what_fanotify_does_not_see_is_known", not_seen),
        ("a_clean_file_is_judged_once_until_it_or_the_rules_change", judged_once),
        ("a_quiet_change_through_a_mapping_is_judged", quiet_change),
        ("what_is_written_is_judged_when_its_writer_closes_it", written),
        ("without_an_agent_the_policy_answers", silence),
        ("an_agent_that_is_silent_is_answered_for", silent_agent),
        ("an_agent_that_comes_back_judges_what_waits", comes_back),
        ("when_the_keeper_is_killed_what_waits_is_let_through", keeper_killed),
        ("nothing_hangs_when_the_agent_and_the_judge_use_the_disk", no_deadlock),
        ("a_policy_that_only_looks_refuses_nothing", only_looks),
        ("when_the_agent_ends_the_keeper_nobody_is_asked", ended),
        ("an_end_counts_also_of_one_who_has_left", last_word),
        ("many_at_once_are_all_answered", many),
        ("a_stranger_is_no_agent", stranger),
    ];
    harness::run(filter, all, prepare);
}

/// A mount namespace of our own, which goes with this process.
fn prepare() -> Result<(), String> {
    if let Some(lacking) = harness::lacks_root() {
        return Err(lacking);
    }
    harness::private_mounts().map_err(|error| format!("a mount namespace of its own: {error}"))?;
    let group = sakimori_sys::fanotify::Group::new().map_err(|error| format!("permission events: {error}"))?;
    let folder = tempfile::tempdir().unwrap();
    let place = File::open(folder.path()).unwrap();
    group
        .mark(std::os::fd::AsFd::as_fd(&place), sakimori_sys::fanotify::Cover::Mount)
        .map_err(|error| format!("permission events: {error}"))
}

/// This program. Its path would be that of another mount namespace, which a chroot cannot reach.
const OWN: &str = "/proc/self/exe";

struct Word {
    judged: Arc<AtomicU64>,
    nested: Option<PathBuf>,
    only_looks: bool,
}

impl Judge for Word {
    type Detection = String;

    fn judge(&mut self, asked: &Asked) -> Ruling<String> {
        self.judged.fetch_add(1, Ordering::SeqCst);
        if let Some(folder) = &self.nested {
            // What no judge should do, and what must not hang all the same.
            assert!(std::fs::read(folder.join("nested")).is_ok());
            std::fs::write(folder.join("scratch"), BAD).unwrap();
        }
        let mut content = vec![0; 1 << 20];
        let Ok(size) = asked.file.read_at(&mut content, 0) else { return Ruling::Unknown { allow: false } };
        let has = |word: &[u8]| content[..size].windows(word.len()).any(|part| part == word);
        if has(SLOW) {
            std::thread::sleep(Duration::from_secs(1));
        }
        if has(BAD) { Ruling::Malicious { detection: "bad".into(), allow: self.only_looks } } else { Ruling::Clean }
    }
}

/// A marked tmpfs, its keeper and, at times, its agent.
struct Lab {
    outside: tempfile::TempDir,
    keeper: Child,
    agent: Option<(JoinHandle<()>, Answers, Arc<AtomicU64>)>,
    refused: Arc<Mutex<Vec<(Question, String)>>>,
    nested: bool,
    only_looks: bool,
}

impl Lab {
    fn new() -> Self {
        let outside = tempfile::tempdir().unwrap();
        let inside = outside.path().join("inside");
        std::fs::create_dir(&inside).unwrap();
        rustix::mount::mount("tmpfs", &inside, "tmpfs", rustix::mount::MountFlags::empty(), None).unwrap();
        let mut keeper = Command::new(OWN)
            .arg("role-keeper")
            .arg(outside.path().join("socket"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = [0; 6];
        keeper.stdout.take().unwrap().read_exact(&mut line).unwrap();
        let mut lab = Self { outside, keeper, agent: None, refused: Arc::default(), nested: false, only_looks: false };
        lab.start(Silence::OPEN);
        lab
    }

    fn inside(&self, name: &str) -> PathBuf {
        self.outside.path().join("inside").join(name)
    }

    fn connect(&self, silence: Silence) -> Opens {
        let mut opens = Opens::connect(&self.outside.path().join("socket")).unwrap();
        opens.silence(silence).unwrap();
        opens.mark(&File::open(self.inside("")).unwrap()).unwrap();
        opens
    }

    /// Starts the agent with two judges.
    fn start(&mut self, silence: Silence) {
        let opens = self.connect(silence);
        let answers = opens.answers();
        let judged = Arc::new(AtomicU64::new(0));
        let nested = self.nested.then(|| self.inside(""));
        let only_looks = self.only_looks;
        let judges = (0..2).map(|_| Word { judged: judged.clone(), nested: nested.clone(), only_looks }).collect();
        let refused = self.refused.clone();
        let thread = std::thread::spawn(move || {
            guard(
                opens,
                judges,
                |one| refused.lock().unwrap().push((one.question, one.detection)),
                Duration::from_secs(1),
                |_, _| {},
            )
            .unwrap();
        });
        self.agent = Some((thread, answers, judged));
    }

    /// Ends the agent, as its death would.
    fn end(&mut self) {
        if let Some((thread, answers, _)) = self.agent.take() {
            answers.close();
            thread.join().unwrap();
        }
    }

    fn judged(&self) -> u64 {
        self.agent.as_ref().unwrap().2.load(Ordering::SeqCst)
    }

    /// Writes a file as the agent, whom nobody asks.
    fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.inside(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    fn wait_for_refused(&self, question: Question) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !self.refused.lock().unwrap().iter().any(|(own, _)| *own == question) {
            assert!(Instant::now() < deadline, "{question:?} was not told");
            std::thread::sleep(Duration::from_millis(5));
        }
        self.refused.lock().unwrap().clear();
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
        if let Some((thread, answers, _)) = self.agent.take() {
            answers.close();
            let _ = thread.join();
        }
        let _ = rustix::mount::unmount(self.inside(""), rustix::mount::UnmountFlags::DETACH);
    }
}

fn begin(what: &str, path: &Path) -> Child {
    let mut command = Command::new(OWN);
    command.args(["role-actor", what]).arg(path).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
}

/// What an actor says: "ok" or the error's name; ends one that hangs.
fn end(mut child: Child) -> String {
    let deadline = Instant::now() + Duration::from_secs(20);
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            child.kill().unwrap();
            child.wait().unwrap();
            return "hangs".into();
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    let mut text = String::new();
    child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    text.trim().to_owned()
}

fn act(what: &str, path: &Path) -> String {
    end(begin(what, path))
}

/// An actor: does one thing and prints what came of it.
fn actor(what: &str, path: &Path) {
    let beside = |name: &str| path.with_file_name(name);
    let result: std::io::Result<()> = match what {
        "open" | "fifo" => OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).map(drop),
        "open to write" => OpenOptions::new().read(true).write(true).open(path).map(drop),
        "read" => std::fs::read(path).map(drop),
        "map" => File::open(path).and_then(|file| map(&file, libc::PROT_READ, libc::MAP_PRIVATE)).map(drop),
        "map to execute" => File::open(path).and_then(|file| map(&file, libc::PROT_EXEC, libc::MAP_PRIVATE)).map(drop),
        "execute" => Command::new(path).status().map(drop),
        "script" => Command::new("/bin/sh").arg(path).status().and_then(|status| match status.code() {
            Some(0) => Ok(()),
            _ => Err(std::io::Error::from_raw_os_error(libc::EPERM)),
        }),
        "rename" => (|| {
            std::fs::write(beside("part"), BAD)?;
            std::fs::rename(beside("part"), beside("renamed"))?;
            File::open(beside("renamed")).map(drop)
        })(),
        "hard link" => std::fs::hard_link(path, beside("second")).and_then(|()| File::open(beside("second")).map(drop)),
        "symbolic link" => {
            std::os::unix::fs::symlink(path, beside("pointer")).and_then(|()| File::open(beside("pointer")).map(drop))
        }
        "proc" => OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_PATH)
            .open(path)
            .and_then(|place| File::open(format!("/proc/self/fd/{}", place.as_raw_fd())).map(drop)),
        "nameless" => (|| {
            let flags = libc::O_TMPFILE;
            let folder = path.parent().unwrap();
            let mut file = OpenOptions::new().write(true).custom_flags(flags).open(folder)?;
            file.write_all(BAD)?;
            let link = format!("/proc/self/fd/{}", file.as_raw_fd());
            let cwd = rustix::fs::CWD;
            rustix::fs::linkat(cwd, link.as_str(), cwd, beside("named"), rustix::fs::AtFlags::SYMLINK_FOLLOW)?;
            File::open(beside("named")).map(drop)
        })(),
        "memory" => (|| {
            let mut file = File::from(rustix::fs::memfd_create("bad", rustix::fs::MemfdFlags::empty())?);
            file.write_all(BAD)?;
            File::open(format!("/proc/self/fd/{}", file.as_raw_fd())).map(drop)
        })(),
        "held" => (|| {
            let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
            file.write_all(BAD)?;
            let mut content = [0; 8];
            file.read_exact_at(&mut content, 0)
        })(),
        "write" => std::fs::write(path, BAD),
        "write quietly" => quietly(path),
        "create many" => (0..400).try_for_each(|n| {
            let path = path.join(format!("{n}"));
            std::fs::write(&path, format!("text {n}"))?;
            std::fs::read(&path).map(drop)
        }),
        _ => panic!("{what}?"),
    };
    match result {
        Ok(()) => println!("ok"),
        Err(error) => {
            println!("{}", if error.raw_os_error() == Some(libc::EPERM) { "EPERM".into() } else { error.to_string() })
        }
    }
}

fn map(file: &File, protection: i32, flags: i32) -> std::io::Result<*mut u8> {
    // SAFETY: a new mapping at a place of the kernel's choice.
    let mapping = unsafe { libc::mmap(std::ptr::null_mut(), 8, protection, flags, file.as_raw_fd(), 0) };
    if mapping == libc::MAP_FAILED { Err(std::io::Error::last_os_error()) } else { Ok(mapping.cast()) }
}

/// Opens, maps, closes, and only then writes through the mapping; holds it until its input ends.
fn quietly(path: &Path) -> std::io::Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let mapping = map(&file, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED)?;
    drop(file);
    // SAFETY: eight bytes of the mapping made above, whose file is longer.
    unsafe { std::ptr::copy_nonoverlapping(BAD.as_ptr(), mapping, BAD.len()) };
    println!("written");
    let _ = std::io::stdin().read(&mut [0]);
    Ok(())
}

fn every_way() {
    let lab = Lab::new();
    let bad = lab.file("bad", BAD);
    let clean = lab.file("clean", b"nothing");
    for way in [
        "open",
        "open to write",
        "read",
        "map",
        "map to execute",
        "rename",
        "hard link",
        "symbolic link",
        "proc",
        "nameless",
    ] {
        assert_eq!(act(way, &bad), "EPERM", "{way}");
    }
    assert_eq!(act("open", &clean), "ok");
    // A program with the word behind its end still runs, were it let.
    let mut program = std::fs::read("/bin/true").unwrap();
    let good = lab.file("true", &program);
    program.extend_from_slice(BAD);
    let bad = lab.file("false", &program);
    for path in [&good, &bad] {
        std::fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
    }
    lab.refused.lock().unwrap().clear();
    assert_eq!(act("execute", &good), "ok");
    assert_eq!(act("execute", &bad), "EPERM");
    lab.wait_for_refused(Question::Execute);
    assert_eq!(act("script", &lab.file("script", b"#!/bin/sh\nexit 0 # bad-word\n")), "EPERM");
    lab.wait_for_refused(Question::Open);
    // A pipe holds nobody up.
    let cwd = rustix::fs::CWD;
    rustix::fs::mknodat(cwd, lab.inside("pipe"), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    assert_eq!(act("fifo", &lab.inside("pipe")), "ok");
}

/// Stated in the guide: what no permission event is raised for.
fn not_seen() {
    let lab = Lab::new();
    assert_eq!(act("memory", &lab.inside("x")), "ok", "a file in memory has no mount");
    // Who has it open already keeps it; everybody else is refused, and its closing is told.
    assert_eq!(act("held", &lab.inside("held")), "ok");
    lab.wait_for_refused(Question::Written);
    assert_eq!(act("open", &lab.inside("held")), "EPERM");
}

fn judged_once() {
    let lab = Lab::new();
    let path = lab.file("clean", b"nothing");
    for _ in 0..20 {
        assert_eq!(act("open", &path), "ok");
    }
    assert_eq!(lab.judged(), 1);
    lab.agent.as_ref().unwrap().1.forget().unwrap();
    assert_eq!(act("open", &path), "ok");
    assert_eq!(lab.judged(), 2, "new rules");
    std::fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
    assert_eq!(act("open", &path), "ok");
    assert_eq!(lab.judged(), 3, "changed");
    // A bad one is asked for every time: nothing is remembered of it.
    let bad = lab.file("bad", BAD);
    let before = lab.judged();
    assert_eq!((act("open", &bad), act("open", &bad)), ("EPERM".into(), "EPERM".into()));
    assert_eq!(lab.judged(), before + 2);
    // Replaced by a file of the same name, size and time.
    let path = lab.file("same", b"8 bytes.");
    let time = std::fs::metadata(&path).unwrap().modified().unwrap();
    assert_eq!(act("open", &path), "ok");
    lab.file("other", BAD);
    File::open(lab.inside("other")).unwrap().set_modified(time).unwrap();
    std::fs::rename(lab.inside("other"), &path).unwrap();
    assert_eq!(act("open", &path), "EPERM");
}

fn quiet_change() {
    let lab = Lab::new();
    let path = lab.file("quiet", b"8 bytes, and some more");
    assert_eq!((act("open", &path), act("open", &path)), ("ok".into(), "ok".into()));
    let mut writer = begin("write quietly", &path);
    let mut line = [0; 8];
    writer.stdout.as_mut().unwrap().read_exact(&mut line).unwrap();
    assert_eq!(act("open", &path), "EPERM", "while it is mapped to write");
    drop(writer.stdin.take());
    writer.wait().unwrap();
    assert_eq!(act("open", &path), "EPERM", "and after");
}

fn written() {
    let lab = Lab::new();
    assert_eq!(act("write", &lab.inside("new")), "ok");
    lab.wait_for_refused(Question::Written);
    assert_eq!(act("open", &lab.inside("new")), "EPERM");
}

fn silence() {
    let mut lab = Lab::new();
    let (bad, known) = (lab.file("bad", BAD), lab.file("known", b"nothing"));
    let unknown = lab.file("unknown", b"nothing");
    assert_eq!(act("open", &known), "ok");
    lab.end();
    assert_eq!(act("open", &bad), "ok", "open");
    lab.start(Silence::CLOSED);
    assert_eq!(act("open", &bad), "EPERM");
    let kept = lab.file("kept", b"nothing");
    lab.agent.as_ref().unwrap().1.keep(&File::open(&kept).unwrap()).unwrap();
    lab.agent.as_ref().unwrap().1.forget().unwrap();
    assert_eq!(act("open", &known), "ok");
    lab.end();
    assert_eq!(act("open", &unknown), "EPERM", "closed");
    assert_eq!(act("open", &known), "ok", "closed, and known to be clean");
    assert_eq!(act("open", &kept), "ok", "closed, and always allowed");
    assert_eq!(act("write", &kept), "EPERM", "closed");
    lab.start(Silence::open_after(700));
    lab.end();
    let began = Instant::now();
    assert_eq!(act("open", &bad), "ok", "open after a while");
    assert!(began.elapsed() >= Duration::from_millis(700), "{:?}", began.elapsed());
}

fn silent_agent() {
    let mut lab = Lab::new();
    let path = lab.file("file", b"nothing");
    lab.end();
    // It is there and says nothing.
    for (allow, expected) in [(true, "ok"), (false, "EPERM")] {
        let opens = lab.connect(Silence { allow, absent_ms: 0, slow_ms: 400 });
        let began = Instant::now();
        assert_eq!(act("open", &path), expected);
        assert!(began.elapsed() >= Duration::from_millis(400), "{:?}", began.elapsed());
        drop(opens);
    }
}

fn comes_back() {
    let mut lab = Lab::new();
    let bad = lab.file("bad", BAD);
    lab.end();
    lab.start(Silence::open_after(15_000));
    lab.end();
    let waiting = begin("open", &bad);
    std::thread::sleep(Duration::from_millis(300));
    lab.start(Silence::open_after(15_000));
    assert_eq!(end(waiting), "EPERM");
}

fn keeper_killed() {
    let mut lab = Lab::new();
    let path = lab.file("slow", SLOW);
    let bad = lab.file("bad", BAD);
    let waiting = begin("open", &path);
    std::thread::sleep(Duration::from_millis(300));
    lab.keeper.kill().unwrap();
    lab.keeper.wait().unwrap();
    assert_eq!(end(waiting), "ok", "the kernel lets through what waits");
    assert_eq!(act("open", &bad), "ok", "nobody asks any more");
}

fn no_deadlock() {
    let mut lab = Lab::new();
    lab.file("nested", b"nothing");
    lab.end();
    lab.nested = true;
    lab.start(Silence::CLOSED);
    let (bad, clean) = (lab.file("bad", BAD), lab.file("clean", b"nothing"));
    for _ in 0..10 {
        assert_eq!((act("open", &bad), act("open", &clean)), ("EPERM".into(), "ok".into()));
    }
}

fn only_looks() {
    let mut lab = Lab::new();
    let bad = lab.file("bad", BAD);
    lab.end();
    lab.only_looks = true;
    lab.start(Silence::OPEN);
    assert_eq!((act("open", &bad), act("open", &bad)), ("ok".into(), "ok".into()));
    lab.wait_for_refused(Question::Open);
    assert!(lab.judged() >= 2, "nothing is remembered of a bad file");
}

fn ended() {
    let mut lab = Lab::new();
    let bad = lab.file("bad", BAD);
    assert_eq!(act("open", &bad), "EPERM");
    lab.agent.as_ref().unwrap().1.end().unwrap();
    assert!(lab.keeper.wait().unwrap().success());
    assert_eq!(act("open", &bad), "ok");
    assert!(sakimori_host::opens::own_files().len() >= 3);
}

fn last_word() {
    let mut lab = Lab::new();
    lab.end();
    // Written while nobody was there: the keeper has something to tell to whoever comes.
    lab.file("meanwhile", b"clean");
    let opens = Opens::connect(&lab.outside.path().join("socket")).unwrap();
    opens.answers().end().unwrap();
    drop(opens);
    let deadline = Instant::now() + Duration::from_secs(30);
    while lab.keeper.try_wait().unwrap().is_none() {
        assert!(Instant::now() < deadline, "the keeper did not hear it");
        std::thread::sleep(Duration::from_millis(5));
    }
    // One that is asked to end, and waited for, has ended.
    let mut lab = Lab::new();
    lab.end();
    lab.file("meanwhile", b"clean");
    Opens::connect(&lab.outside.path().join("socket")).unwrap().end(Duration::from_secs(30)).unwrap();
    assert!(lab.keeper.wait().unwrap().success());
}

fn many() {
    let mut lab = Lab::new();
    let folders: Vec<PathBuf> = (0..8).map(|n| lab.inside(&format!("many-{n}"))).collect();
    folders.iter().for_each(|folder| std::fs::create_dir(folder).unwrap());
    let actors: Vec<Child> = folders.iter().map(|folder| begin("create many", folder)).collect();
    for actor in actors {
        assert_eq!(end(actor), "ok");
    }
    lab.end();
    let mut opens = lab.connect(Silence::OPEN);
    let numbers: BTreeMap<Count, u64> = opens.numbers().unwrap().into_iter().collect();
    assert!(numbers[&Count::Asked] >= 6_400, "{numbers:?}");
    let answered = numbers[&Count::Known] + numbers[&Count::Exempt] + numbers[&Count::Judged] + numbers[&Count::Silent];
    assert_eq!(numbers[&Count::Asked], answered + numbers[&Count::Waiting], "{numbers:?}");
    assert_eq!(numbers[&Count::Silent], 0, "{numbers:?}");
}

fn stranger() {
    let lab = Lab::new();
    let socket = lab.outside.path().join("socket");
    std::fs::set_permissions(lab.outside.path(), Permissions::from_mode(0o777)).unwrap();
    std::fs::set_permissions(&socket, Permissions::from_mode(0o777)).unwrap();
    let bad = lab.file("bad", BAD);
    // Another user connects: the keeper hangs up on it and keeps its agent.
    let mut command = Command::new(OWN);
    command.args(["role-stranger"]).arg(&socket).uid(64_110).gid(64_110);
    let output = command.output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "0", "{output:?}");
    assert_eq!(act("open", &bad), "EPERM");
}
