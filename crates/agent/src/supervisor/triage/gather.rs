//! What a triage package is made of: opened and read by root, and looked into by the worker alone. Bytes go as they are, files as
//! descriptors. Each step has a bound, and what it cut is a note in the package.
//!
//! An enemy may have written names and links: below a folder of a user no link is followed, what is no plain file is not
//! opened, and a folder is read up to a number of entries.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use anyhow::Result;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, openat2};
use sakimori_host::processes::table;
use sakimori_wire::ipc::{Answer, Ask};
use sakimori_wire::ipc_triage::{Kind, MAX_TEXT, Text, ToTriage};

/// Most entries of one folder that are looked at.
pub const MAX_ENTRIES: usize = 1_000;
/// Most files of autoruns in all.
pub const MAX_AUTORUNS: usize = 5_000;
/// How deep folders of autoruns are read.
const MAX_DEPTH: usize = 3;
/// Most processes, and most descriptors of one.
const MAX_PROCESSES: usize = 5_000;
const MAX_DESCRIPTORS: usize = 1_000;
/// Longest of the kernel's texts about a process.
const MAX_OF_PROCESS: u64 = 128 << 10;
/// Most homes of users.
const MAX_HOMES: usize = 500;
/// How long a program of the system's may take to answer.
const TOOL: Duration = Duration::from_secs(10);

/// Tables of the kernel's, and lists of root's.
const TABLES: &[&str] = &[
    "/proc/version",
    "/proc/cmdline",
    "/proc/uptime",
    "/proc/modules",
    "/proc/sys/kernel/tainted",
    "/proc/1/mountinfo",
    "/proc/net/tcp",
    "/proc/net/tcp6",
    "/proc/net/udp",
    "/proc/net/udp6",
    "/proc/net/raw",
    "/proc/net/raw6",
    "/proc/net/unix",
    "/proc/net/packet",
    "/proc/net/arp",
    "/proc/net/route",
    "/proc/net/ipv6_route",
];
/// Files whose content goes into the package: users, and what is loaded into every program.
const WHOLE: &[&str] = &[
    "/etc/passwd",
    "/etc/group",
    "/etc/hosts",
    "/etc/resolv.conf",
    "/etc/nsswitch.conf",
    "/etc/sudoers",
    "/etc/ssh/sshd_config",
    "/etc/os-release",
];
/// Files that start something, or lie where something is started from.
const AUTORUN_FILES: &[&str] = &[
    "/etc/crontab",
    "/etc/anacrontab",
    "/etc/rc.local",
    "/etc/rc.d/rc.local",
    "/etc/profile",
    "/etc/bash.bashrc",
    "/etc/bashrc",
    "/etc/environment",
    "/etc/ld.so.preload",
    "/etc/ld.so.conf",
    "/etc/inittab",
    "/etc/modules",
];
/// Folders of such files.
const AUTORUN_FOLDERS: &[&str] = &[
    "/etc/systemd/system",
    "/run/systemd/system",
    "/run/systemd/transient",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/etc/systemd/user",
    "/etc/cron.d",
    "/etc/cron.hourly",
    "/etc/cron.daily",
    "/etc/cron.weekly",
    "/etc/cron.monthly",
    "/var/spool/cron",
    "/var/spool/at",
    "/etc/init.d",
    "/etc/profile.d",
    "/etc/ld.so.conf.d",
    "/etc/modules-load.d",
    "/etc/udev/rules.d",
    "/etc/pam.d",
    "/etc/sudoers.d",
    "/etc/update-motd.d",
    "/etc/xdg/autostart",
];
/// The same below each home.
const HOME_FILES: &[&str] = &[
    ".bashrc",
    ".bash_profile",
    ".bash_login",
    ".profile",
    ".zshrc",
    ".zprofile",
    ".ssh/authorized_keys",
    ".ssh/authorized_keys2",
    ".ssh/rc",
    ".ssh/config",
    ".pam_environment",
];
const HOME_FOLDERS: &[&str] = &[".config/systemd/user", ".config/autostart"];
/// Logs, their ends.
const LOGS: &[&str] = &[
    "/var/log/auth.log",
    "/var/log/secure",
    "/var/log/syslog",
    "/var/log/messages",
    "/var/log/kern.log",
    "/var/log/cron",
    "/var/log/cron.log",
    "/var/log/audit/audit.log",
    "/var/log/daemon.log",
    "/var/log/dpkg.log",
    "/var/log/apt/history.log",
    "/var/log/dnf.log",
    "/var/log/yum.log",
];
/// Lists of logins.
const LOGINS: &[&str] = &["/run/utmp", "/var/log/wtmp", "/var/log/btmp"];

/// Who takes what is gathered.
pub trait Sink {
    /// One message, with the descriptor of a file where it is about one.
    ///
    /// # Errors
    /// Nobody takes it any more.
    fn send(&self, message: &ToTriage, file: Option<&File>) -> Result<()>;
}

/// Reads a host, or what lies below a folder as if it were one.
pub struct Gather<'a, S> {
    sink: &'a S,
    root: PathBuf,
    until: Instant,
    autoruns: usize,
    told_late: bool,
}

impl<'a, S: Sink> Gather<'a, S> {
    /// Of the host whose root this is, until then.
    pub fn new(sink: &'a S, root: PathBuf, until: Instant) -> Self {
        // The worker needs the last of the time to pack.
        let until = until.checked_sub(Duration::from_secs(120)).unwrap_or(until);
        Self { sink, root, until, autoruns: 0, told_late: false }
    }

    /// All of it; `socket` is where the agent says how its modules do.
    ///
    /// # Errors
    /// The worker takes nothing any more.
    pub fn host(&mut self, socket: &Path) -> Result<()> {
        // First what changes while it is read.
        self.processes()?;
        self.tables()?;
        self.modules(socket)?;
        self.tool("nftables.txt", "/usr/sbin/nft", &["list", "ruleset"])?;
        self.files()
    }

    /// Files and folders, without what only a running host has.
    ///
    /// # Errors
    /// As [`Gather::host`].
    pub fn files(&mut self) -> Result<()> {
        for path in WHOLE {
            self.file(Kind::Whole, Path::new(path), true)?;
        }
        for path in LOGINS {
            self.file(Kind::Logins, Path::new(path), true)?;
        }
        for path in AUTORUN_FILES {
            self.autorun(Path::new(path), true)?;
        }
        for path in AUTORUN_FOLDERS {
            self.folder(Path::new(path), true, 0)?;
        }
        for home in self.homes()? {
            for file in HOME_FILES {
                self.autorun(&home.join(file), false)?;
            }
            for folder in HOME_FOLDERS {
                self.folder(&home.join(folder), false, 1)?;
            }
        }
        for path in LOGS {
            self.file(Kind::Log, Path::new(path), true)?;
        }
        Ok(())
    }

    /// Programs that autoruns name, to be hashed.
    ///
    /// # Errors
    /// As [`Gather::host`].
    pub fn programs(&mut self, named: impl Iterator<Item = String>) -> Result<()> {
        for path in named.filter(|path| path.starts_with('/')) {
            // Only a hash of it is told, so links are followed: `/usr/bin/python3` is one.
            self.file(Kind::Named, Path::new(&path), true)?;
        }
        Ok(())
    }

    fn processes(&mut self) -> Result<()> {
        let rows = table::read();
        if rows.len() > MAX_PROCESSES {
            self.note(format!("there are {} processes; {MAX_PROCESSES} are here", rows.len()))?;
        }
        let mut seen = std::collections::BTreeSet::new();
        for row in rows.iter().take(MAX_PROCESSES) {
            if self.is_late()? {
                return Ok(());
            }
            let place = PathBuf::from(format!("/proc/{}", row.pid));
            let Some(stat) = bytes(&place.join("stat"), MAX_OF_PROCESS) else { continue };
            self.text(Text::Process, &row.pid.to_string(), stat, false)?;
            for (name, kind) in [
                ("status", Text::Status),
                ("cmdline", Text::Command),
                ("environ", Text::Environment),
                ("cgroup", Text::Groups),
            ] {
                if let Some(bytes) = bytes(&place.join(name), MAX_OF_PROCESS) {
                    self.text(kind, name, bytes, false)?;
                }
            }
            for (name, kind) in [("exe", Text::Program), ("cwd", Text::Folder)] {
                if let Ok(path) = std::fs::read_link(place.join(name)) {
                    self.text(kind, name, path.into_os_string().into_encoded_bytes(), false)?;
                }
            }
            self.text(Text::Descriptor, "fd", descriptors(&place), false)?;
            // By the kernel's own link, so that a program that was deleted is hashed too.
            let Ok(program) = File::open(place.join("exe")) else { continue };
            let found = program.metadata().ok();
            let known = found.map(|found| {
                use std::os::unix::fs::MetadataExt;
                (found.dev(), found.ino())
            });
            if known.is_some_and(|known| seen.insert(known)) {
                let path = std::fs::read_link(place.join("exe")).unwrap_or_default().display().to_string();
                self.sink.send(&ToTriage::File { kind: Kind::Running, path }, Some(&program))?;
            }
        }
        Ok(())
    }

    fn tables(&mut self) -> Result<()> {
        for path in TABLES {
            match bytes(Path::new(path), MAX_TEXT as u64 + 1) {
                None => {}
                Some(mut bytes) => {
                    let cut = bytes.len() > MAX_TEXT;
                    bytes.truncate(MAX_TEXT);
                    self.text(Text::Plain, path, bytes, cut)?;
                }
            }
        }
        Ok(())
    }

    /// What our modules say.
    fn modules(&mut self, socket: &Path) -> Result<()> {
        match crate::control::ask_within(socket, &Ask::Status, TOOL) {
            Ok(Answer::Status(status)) => {
                let bytes = serde_json::to_vec_pretty(&status)?;
                self.text(Text::Plain, "sakimori/status.json", bytes, false)
            }
            Ok(_) => self.note("the agent did not say how its modules do".to_owned()),
            Err(error) => self.note(format!("the agent did not say how its modules do: {error:#}")),
        }
    }

    /// What a program of the system's says.
    fn tool(&mut self, name: &str, program: &str, arguments: &[&str]) -> Result<()> {
        match answer_of(program, arguments) {
            Ok(mut bytes) => {
                let cut = bytes.len() > MAX_TEXT;
                bytes.truncate(MAX_TEXT);
                self.text(Text::Plain, name, bytes, cut)
            }
            Err(why) => self.note(format!("{name} is not here: {program}: {why}")),
        }
    }

    fn homes(&mut self) -> Result<Vec<PathBuf>> {
        let entries = std::fs::read_dir(self.real(Path::new("/home"))).into_iter().flatten().flatten();
        let mut homes: Vec<PathBuf> =
            entries.take(MAX_HOMES + 1).map(|entry| Path::new("/home").join(entry.file_name())).collect();
        if homes.len() > MAX_HOMES {
            self.note(format!("there are more than {MAX_HOMES} homes; the others are not read"))?;
            homes.truncate(MAX_HOMES);
        }
        homes.sort();
        homes.insert(0, PathBuf::from("/root"));
        Ok(homes)
    }

    /// A folder of autoruns. Below one of a user's (not `trusted`) no link is followed.
    fn folder(&mut self, folder: &Path, trusted: bool, depth: usize) -> Result<()> {
        let Some(open) = self.open(folder, trusted, OFlags::DIRECTORY) else { return Ok(()) };
        let Ok(entries) = rustix::fs::Dir::read_from(&open) else { return Ok(()) };
        let mut names = Vec::new();
        for entry in entries.flatten() {
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            if names.len() >= MAX_ENTRIES {
                self.note(format!(
                    "{} has more than {MAX_ENTRIES} entries; the others are not read",
                    folder.display()
                ))?;
                break;
            }
            names.push(OsString::from_vec(name.to_vec()));
        }
        names.sort();
        for name in names {
            if self.is_late()? {
                return Ok(());
            }
            let path = folder.join(&name);
            let Ok(found) = rustix::fs::statat(&open, name.as_os_str(), AtFlags::SYMLINK_NOFOLLOW) else { continue };
            match FileType::from_raw_mode(found.st_mode) {
                FileType::Directory if depth < MAX_DEPTH => self.folder(&path, false, depth + 1)?,
                FileType::Symlink => {
                    if let Ok(to) = rustix::fs::readlinkat(&open, name.as_os_str(), Vec::new()) {
                        self.text(Text::Link, &path.display().to_string(), to.into_bytes(), false)?;
                    }
                }
                FileType::RegularFile => self.autorun(&path, false)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn autorun(&mut self, path: &Path, trusted: bool) -> Result<()> {
        if self.autoruns >= MAX_AUTORUNS {
            return Ok(());
        }
        if self.file(Kind::Autorun, path, trusted)? {
            self.autoruns += 1;
            if self.autoruns == MAX_AUTORUNS {
                self.note(format!("there are more than {MAX_AUTORUNS} files of autoruns; the others are not read"))?;
            }
        }
        Ok(())
    }

    /// Hands a plain file on; whether it is one.
    fn file(&mut self, kind: Kind, path: &Path, trusted: bool) -> Result<bool> {
        if self.is_late()? {
            return Ok(false);
        }
        let Some(file) = self.open(path, trusted, OFlags::empty()) else { return Ok(false) };
        if !file.metadata().is_ok_and(|found| found.is_file()) {
            return Ok(false);
        }
        self.sink.send(&ToTriage::File { kind, path: path.display().to_string() }, Some(&file))?;
        Ok(true)
    }

    /// Opens without waiting for anything, and without following a link where somebody else than root may have made it.
    fn open(&self, path: &Path, trusted: bool, more: OFlags) -> Option<File> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY | more;
        let (place, resolve) = match trusted {
            true => (self.real(path), ResolveFlags::NO_MAGICLINKS),
            false => (self.settled(&self.real(path)), ResolveFlags::NO_SYMLINKS),
        };
        openat2(CWD, &place, flags, Mode::empty(), resolve).ok().map(File::from)
    }

    /// The path, with the links resolved in the part of it that root alone can change: `/var/spool` may be a link to another
    /// disk, `/home` too.
    fn settled(&self, real: &Path) -> PathBuf {
        let known = AUTORUN_FOLDERS.iter().chain(&["/home", "/root"]).map(|folder| self.real(Path::new(folder)));
        let of_root = known.filter(|folder| real.starts_with(folder)).max_by_key(|folder| folder.as_os_str().len());
        let resolved = of_root
            .and_then(|folder| Some(std::fs::canonicalize(&folder).ok()?.join(real.strip_prefix(&folder).ok()?)));
        resolved.unwrap_or_else(|| real.to_owned())
    }

    fn real(&self, path: &Path) -> PathBuf {
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    fn is_late(&mut self) -> Result<bool> {
        let late = Instant::now() >= self.until;
        if late && !std::mem::replace(&mut self.told_late, true) {
            self.note("there was no time for more".to_owned())?;
        }
        Ok(late)
    }

    fn text(&self, kind: Text, path: &str, bytes: Vec<u8>, cut: bool) -> Result<()> {
        self.sink.send(&ToTriage::Text { kind, path: path.to_owned(), bytes, cut }, None)
    }

    fn note(&self, text: String) -> Result<()> {
        self.sink.send(&ToTriage::Note(text), None)
    }
}

/// What the descriptors of a process are, each ended by a zero byte.
fn descriptors(process: &Path) -> Vec<u8> {
    let entries = std::fs::read_dir(process.join("fd")).into_iter().flatten().flatten().take(MAX_DESCRIPTORS);
    let mut all = Vec::new();
    for link in entries.filter_map(|entry| std::fs::read_link(entry.path()).ok()) {
        all.extend_from_slice(link.as_os_str().as_encoded_bytes());
        all.push(0);
    }
    all
}

fn bytes(path: &Path, most: u64) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(most).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// What a program writes, bounded in time and length; it is not looked into here.
fn answer_of(program: &str, arguments: &[&str]) -> Result<Vec<u8>, String> {
    let mut command = Command::new(program);
    command.args(arguments).env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(|error| error.to_string())?;
    let (to, from) = channel();
    let output = child.stdout.take();
    let reading = std::thread::Builder::new().name("triage-tool".into()).spawn(move || {
        let mut bytes = Vec::new();
        if let Some(output) = output {
            let _ = output.take(MAX_TEXT as u64 + 1).read_to_end(&mut bytes);
        }
        let _ = to.send(bytes);
    });
    let answer = from.recv_timeout(TOOL);
    let _ = child.kill();
    let _ = child.wait();
    drop(reading);
    answer.map_err(|_| format!("no answer in {} seconds", TOOL.as_secs()))
}

#[cfg(test)]
#[path = "gather_tests.rs"]
mod tests;
