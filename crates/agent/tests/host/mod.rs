//! A host under test: the real binary with a state folder, logs and an nftables table of its own.
#![allow(dead_code, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use sakimori_journal::{Journal, Options};
use sakimori_model::{Event, field};
use sakimori_wire::batch::{self, Batch};
use sakimori_wire::status::AgentStatus;

/// How long a condition may take on a slow machine.
pub const PATIENCE: Duration = Duration::from_secs(120);

pub struct Host {
    pub dir: tempfile::TempDir,
    pub table: String,
    /// Network namespace that it runs in, as `ip netns` knows it.
    pub namespace: Option<String>,
    child: Option<Child>,
    /// What the agent sees in the place of another file or folder.
    over: Option<(PathBuf, &'static str)>,
}

impl Host {
    /// A host whose agent reads `auth.log` and `web.log` in its folder, with more configuration. Nothing is probed.
    pub fn new(more: &str) -> Self {
        Self::probed(0, more)
    }

    /// The same, probed every so many hours.
    pub fn probed(hours: u32, more: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let table = format!("skm_t{}_{}", std::process::id(), NUMBER.fetch_add(1, Ordering::SeqCst));
        let dir = tempfile::tempdir().unwrap();
        let text = format!(
            "[agent]\nstate = \"{state}\"\nhost_name = \"web1\"\nenrolment_token = \"{token}\"\n[log]\nlevel = \"debug\"\n[proof]\nevery_hours = {hours}\n[block_address]\ntable = \"{table}\"\n[intrusion_prevention]\ntable = \"{table}_ips\"\n\
             [[policy.modules.log_inspection.sources]]\nname = \"auth\"\nsource = \"linux/auth\"\nfile = \"{auth}\"\n\
             [[policy.modules.log_inspection.sources]]\nname = \"web\"\nsource = \"nginx/access\"\nfile = \"{web}\"\n{more}\n",
            state = dir.path().join("state").display(),
            token = dir.path().join("enrolment.token").display(),
            auth = dir.path().join("auth.log").display(),
            web = dir.path().join("web.log").display(),
        );
        fs::write(dir.path().join("agent.toml"), text).unwrap();
        Self { dir, table, namespace: None, child: None, over: None }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn state(&self) -> PathBuf {
        self.path("state")
    }

    /// From now on its commands see this machine-id, by a mount of their own.
    pub fn on_machine(&mut self, id: &str) {
        let path = self.path(&format!("machine-id-{id}"));
        fs::write(&path, format!("{id}\n")).unwrap();
        self.over = Some((path, "/etc/machine-id"));
    }

    /// From now on its commands see this folder as /etc, by a mount of their own.
    pub fn with_etc(&mut self, folder: PathBuf) {
        self.over = Some((folder, "/etc"));
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let program = env!("CARGO_BIN_EXE_sakimori-agent");
        let mut command = match (&self.namespace, &self.over) {
            (None, None) => Command::new(program),
            (Some(name), _) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", name, program]);
                command
            }
            (None, Some((path, place))) => {
                let mut command = Command::new("unshare");
                let script = format!("mount --bind \"$0\" {place} && exec \"$@\"");
                command.args(["--mount", "sh", "-c", &script]).arg(path).arg(program);
                command
            }
        };
        command.arg("--config").arg(self.path("agent.toml")).args(args);
        command
    }

    /// Starts the agent and waits until it answers.
    pub fn start(&mut self) {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.path("agent.out")).unwrap();
        let child = self.command(&["run"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        self.child = Some(child);
        self.wait("the agent answers", |host| {
            if let Some(status) = host.child.as_mut().unwrap().try_wait().unwrap() {
                panic!("the agent ended: {status}\n{}", host.output());
            }
            host.status().is_some()
        });
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// SIGKILL, with the workers, whose parent is gone.
    pub fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// A stop in good order.
    pub fn stop(&mut self) {
        let out = self.command(&["stop"]).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        self.wait("the agent ended", |host| host.child.as_mut().unwrap().try_wait().unwrap().is_some());
        self.child = None;
    }

    pub fn status(&self) -> Option<AgentStatus> {
        let out = self.command(&["status", "--json"]).output().unwrap();
        serde_json::from_slice(&out.stdout).ok()
    }

    pub fn json(&self, args: &[&str]) -> serde_json::Value {
        let out = self.command(args).arg("--json").output().unwrap();
        serde_json::from_slice(&out.stdout)
            .unwrap_or_else(|error| panic!("{args:?}: {error}: {}", String::from_utf8_lossy(&out.stderr)))
    }

    pub fn append(&self, name: &str, text: impl AsRef<[u8]>) {
        let mut file = fs::OpenOptions::new().create(true).append(true).open(self.path(name)).unwrap();
        file.write_all(text.as_ref()).unwrap();
    }

    pub fn output(&self) -> String {
        fs::read_to_string(self.path("agent.out")).unwrap_or_default()
    }

    pub fn wait(&mut self, what: &str, mut condition: impl FnMut(&mut Self) -> bool) {
        let until = Instant::now() + PATIENCE;
        while !condition(self) {
            assert!(Instant::now() < until, "waited in vain: {what}\n{}", tail(&self.output()));
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// All batches of the spool, read from a copy of its folder.
    pub fn batches(&self) -> Vec<Batch> {
        let copy = tempfile::tempdir().unwrap();
        let from = self.state().join("spool/journal");
        let Ok(entries) = fs::read_dir(&from) else { return Vec::new() };
        let mut names: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        names.sort();
        for path in names.iter().filter(|path| path.extension().is_some_and(|end| end == "seg")) {
            fs::copy(path, copy.path().join(path.file_name().unwrap())).unwrap();
        }
        let Ok((journal, _)) = Journal::open(copy.path(), Options::default()) else { return Vec::new() };
        let mut next = journal.first();
        let mut found = Vec::new();
        while next < journal.next() {
            for (number, bytes) in journal.read(next, 1 << 20).unwrap() {
                next = number + 1;
                if let Ok(batch) = batch::decode(&bytes) {
                    found.push(batch);
                }
            }
        }
        found
    }

    /// Events of a stream that are no alerts, in their order; sequences and counts are checked for gaps.
    pub fn events(&self, stream: &str) -> Vec<Event> {
        let mut sequences: BTreeMap<String, (u64, u64)> = BTreeMap::new();
        let mut found = Vec::new();
        for batch in self.batches() {
            let (sequence, next) = sequences.entry(batch.header.stream.clone()).or_default();
            assert_eq!(batch.header.sequence, *sequence + 1, "a gap in {}", batch.header.stream);
            assert_eq!(batch.header.first_event, *next, "the books of {}", batch.header.stream);
            *sequence += 1;
            *next += batch.events.len() as u64;
            if batch.header.stream == stream {
                found.extend(batch.events);
            }
        }
        found
    }

    /// The lines of a stream as they were read.
    pub fn lines(&self, stream: &str) -> Vec<String> {
        self.events(stream)
            .iter()
            .filter(|event| event.str(field::SAKIMORI_ALERT_ID).is_none())
            .map(|event| event.str(field::EVENT_ORIGINAL).unwrap_or_default().to_owned())
            .collect()
    }

    /// Events of the agent about itself with this action.
    pub fn said(&self, action: &str) -> usize {
        self.events("agent").iter().filter(|event| event.str(field::EVENT_ACTION) == Some(action)).count()
    }

    /// Processes whose parent is the agent, by the name of the worker.
    pub fn worker(&self, name: &str) -> Option<u32> {
        self.workers(name).into_iter().next()
    }

    pub fn workers(&self, name: &str) -> Vec<u32> {
        let parent = self.pid().to_string();
        let of_entry = |entry: fs::DirEntry| {
            let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
            let status = fs::read_to_string(entry.path().join("status")).ok()?;
            let own = status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim() == parent;
            let line = fs::read(entry.path().join("cmdline")).ok()?;
            let args: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
            (own && args.windows(2).any(|pair| pair[0] == b"worker" && pair[1] == name.as_bytes())).then_some(pid)
        };
        fs::read_dir("/proc").unwrap().flatten().filter_map(of_entry).collect()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = self.command(&["uninstall"]).output();
    }
}

fn tail(text: &str) -> &str {
    let from = text.len().saturating_sub(6_000);
    text.get(from..).unwrap_or(text)
}

/// Numbered lines that a log source may or may not understand.
pub fn numbered(from: u32, to: u32) -> String {
    (from..to).map(|number| format!("Jan  2 03:04:05 web1 app[1]: line {number}\n")).collect()
}

/// What `numbered` must have become.
pub fn expected(from: u32, to: u32) -> Vec<String> {
    numbered(from, to).lines().map(str::to_owned).collect()
}

pub fn is_root() -> bool {
    sakimori_sys::harness::root()
}

pub fn exists(path: &Path) -> bool {
    path.exists()
}
