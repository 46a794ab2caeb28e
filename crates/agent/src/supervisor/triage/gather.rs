//! What a triage package is made of: opened and read by root, and looked into by another worker alone. Bytes go as they are, files
//! as descriptors. Each step has a bound, and what it cut is a note in the package.
//!
//! An enemy may have written names and links: below a folder of a user no link is followed, what is no plain file is not
//! opened ([`super::open`]), and a folder is read up to a number of entries.
//!
//! Some of it may never answer: the memory of a process that lies in a file of a program's (FUSE), a path below such a mount. So it
//! is a process of its own ([`run`]), which says where it is before it begins there; the supervisor ends it when it is silent,
//! and has another one go on behind that place.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::fs::{AtFlags, FileType, StatxFlags, statx};
use sakimori_host::processes::table;
use sakimori_sys::channel::Channel;
use sakimori_wire::ipc::{Answer, Ask};
use sakimori_wire::ipc_triage::{FromGather, GatherAsk, Kind, MAX_TEXT, Place, Text, ToTriage};

use super::open::{self, Links, Served};
use super::places::{AUTORUN_FILES, AUTORUN_FOLDERS, HOME_FILES, HOME_FOLDERS, LOGINS, LOGS, TABLES, WHOLE};

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

/// The steps, in their order.
mod step {
    pub const PROCESSES: u8 = 0;
    pub const TABLES: u8 = 1;
    pub const MODULES: u8 = 2;
    pub const TOOLS: u8 = 3;
    pub const FILES: u8 = 4;
    pub const FOLDERS: u8 = 5;
    pub const HOMES: u8 = 6;
    pub const LOGS: u8 = 7;
    pub const PROGRAMS: u8 = 8;
}

/// The worker: answers the one question of the parent.
///
/// # Errors
/// The parent is gone.
pub fn run(channel: Channel) -> Result<()> {
    let (bytes, _) = channel.recv()?.context("the parent is gone")?;
    let ask: GatherAsk = postcard::from_bytes(&bytes).context("the question is not understood")?;
    let until = Instant::now() + Duration::from_millis(ask.left_ms);
    let sink = ToParent(channel);
    let mut gather = Gather::new(&sink, "/".into(), until);
    gather.after = ask.after;
    match ask.programs {
        Some(programs) => gather.programs(programs.into_iter())?,
        None => gather.host(Path::new(&ask.socket))?,
    }
    sink.tell(&FromGather::Done, None)
}

struct ToParent(Channel);

impl ToParent {
    fn tell(&self, message: &FromGather, file: Option<&File>) -> Result<()> {
        let files: Vec<_> = file.iter().map(|file| file.as_fd()).collect();
        self.0.send(&postcard::to_stdvec(message)?, &files).context("the parent is gone")
    }
}

impl Sink for ToParent {
    fn send(&self, message: &ToTriage, file: Option<&File>) -> Result<()> {
        self.tell(&FromGather::Pass(postcard::to_stdvec(message)?), file)
    }

    fn at(&self, place: Place, what: &str) -> Result<()> {
        self.tell(&FromGather::At(place, what.to_owned()), None)
    }
}

/// Who takes what is gathered.
pub trait Sink {
    /// One message, with the descriptor of a file where it is about one.
    ///
    /// # Errors
    /// Nobody takes it any more.
    fn send(&self, message: &ToTriage, file: Option<&File>) -> Result<()>;

    /// It begins with this, which may hold it up.
    ///
    /// # Errors
    /// As [`Sink::send`].
    fn at(&self, _place: Place, _what: &str) -> Result<()> {
        Ok(())
    }
}

/// Reads a host, or what lies below a folder as if it were one.
pub struct Gather<'a, S> {
    sink: &'a S,
    root: PathBuf,
    until: Instant,
    autoruns: usize,
    told_late: bool,
    /// Goes on behind this.
    after: Option<Place>,
    /// File systems whose files are not opened.
    served: Served,
}

impl<'a, S: Sink> Gather<'a, S> {
    /// Of the host whose root this is, until then.
    pub fn new(sink: &'a S, root: PathBuf, until: Instant) -> Self {
        Self { sink, root, until, autoruns: 0, told_late: false, after: None, served: Served::read() }
    }

    /// Begins with something. False where that was done before, or there is no time for it.
    fn begins(&mut self, place: Place, what: &str) -> Result<bool> {
        if self.after.is_some_and(|after| place <= after) || self.is_late()? {
            return Ok(false);
        }
        self.sink.at(place, what)?;
        Ok(true)
    }

    /// Those of a list that it begins with, by what they are.
    fn each(&mut self, step: u8, list: &[&str], mut act: impl FnMut(&mut Self, &Path) -> Result<()>) -> Result<()> {
        for (number, path) in (0..).zip(list) {
            if self.begins((step, number), path)? {
                act(self, Path::new(path))?;
            }
        }
        Ok(())
    }

    /// All of it; `socket` is where the agent says how its modules do.
    ///
    /// # Errors
    /// The worker takes nothing any more.
    pub fn host(&mut self, socket: &Path) -> Result<()> {
        // First what changes while it is read.
        self.processes()?;
        self.tables()?;
        if self.begins((step::MODULES, 0), "the agent's own modules")? {
            self.modules(socket)?;
        }
        if self.begins((step::TOOLS, 0), "the nftables ruleset")? {
            self.tool("nftables.txt", "/usr/sbin/nft", &["list", "ruleset"])?;
        }
        self.files()
    }

    /// Files and folders, without what only a running host has.
    ///
    /// # Errors
    /// As [`Gather::host`].
    pub fn files(&mut self) -> Result<()> {
        let files: Vec<&str> = [WHOLE, LOGINS, AUTORUN_FILES].concat();
        self.each(step::FILES, &files, |own, path| {
            let is_in = |list: &[&str]| list.iter().any(|one| Path::new(one) == path);
            if is_in(AUTORUN_FILES) {
                return own.autorun(path, true);
            }
            let kind = if is_in(LOGINS) { Kind::Logins } else { Kind::Whole };
            own.file(kind, path, true).map(drop)
        })?;
        self.each(step::FOLDERS, AUTORUN_FOLDERS, |own, path| own.folder(path, true, 0))?;
        for (number, home) in (0..).zip(self.homes()?) {
            if !self.begins((step::HOMES, number), &home.display().to_string())? {
                continue;
            }
            for file in HOME_FILES {
                self.autorun(&home.join(file), false)?;
            }
            for folder in HOME_FOLDERS {
                self.folder(&home.join(folder), false, 1)?;
            }
        }
        self.each(step::LOGS, LOGS, |own, path| own.file(Kind::Log, path, true).map(drop))
    }

    /// Programs that autoruns name, to be hashed.
    ///
    /// # Errors
    /// As [`Gather::host`].
    pub fn programs(&mut self, named: impl Iterator<Item = String>) -> Result<()> {
        for (number, path) in (0..).zip(named).filter(|(_, path)| path.starts_with('/')) {
            if self.begins((step::PROGRAMS, number), &path)? {
                // Only a hash of it is told, so links are followed: `/usr/bin/python3` is one.
                self.file(Kind::Named, Path::new(&path), true)?;
            }
        }
        Ok(())
    }

    fn processes(&mut self) -> Result<()> {
        let rows = table::read();
        if rows.len() > MAX_PROCESSES {
            self.note(format!("there are {} processes; {MAX_PROCESSES} are here", rows.len()))?;
        }
        let mut seen = BTreeSet::new();
        for row in rows.iter().take(MAX_PROCESSES) {
            if !self.begins((step::PROCESSES, row.pid), &format!("process {}", row.pid))? {
                continue;
            }
            self.process(row, &mut seen)?;
        }
        Ok(())
    }

    fn process(&mut self, row: &table::Row, seen: &mut BTreeSet<(u64, u64)>) -> Result<()> {
        let place = PathBuf::from(format!("/proc/{}", row.pid));
        let Some(stat) = bytes(&place.join("stat"), MAX_OF_PROCESS) else { return Ok(()) };
        self.text(Text::Process, &row.pid.to_string(), stat, false)?;
        let mut path = String::new();
        for (name, kind) in [("exe", Text::Program), ("cwd", Text::Folder)] {
            if let Ok(to) = std::fs::read_link(place.join(name)) {
                if kind == Text::Program {
                    path = to.display().to_string();
                }
                self.text(kind, name, to.into_os_string().into_encoded_bytes(), false)?;
            }
        }
        self.text(Text::Descriptor, "fd", descriptors(&place), false)?;
        // Its own memory is the last: who serves that may never answer.
        for (name, kind) in [
            ("status", Text::Status),
            ("cgroup", Text::Groups),
            ("cmdline", Text::Command),
            ("environ", Text::Environment),
        ] {
            if let Some(bytes) = bytes(&place.join(name), MAX_OF_PROCESS) {
                self.text(kind, name, bytes, false)?;
            }
        }
        // By the kernel's own link, so that a program that was deleted is hashed too.
        let program = place.join("exe").display().to_string();
        let Some(found) = table::about(&program).filter(|found| seen.insert((found.device, found.inode))) else {
            return Ok(());
        };
        if table::is_served(row.pid, found.device) {
            return self.note(format!("{path} is not hashed: a program serves the file system that it is on"));
        }
        match File::open(&program) {
            Ok(program) => self.sink.send(&ToTriage::File { kind: Kind::Running, path }, Some(&program)),
            Err(_) => Ok(()),
        }
    }

    fn tables(&mut self) -> Result<()> {
        self.each(step::TABLES, TABLES, |own, path| match bytes(path, MAX_TEXT as u64 + 1) {
            None => Ok(()),
            Some(mut bytes) => {
                let cut = bytes.len() > MAX_TEXT;
                bytes.truncate(MAX_TEXT);
                own.text(Text::Plain, &path.display().to_string(), bytes, cut)
            }
        })
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
        let mut homes: Vec<PathBuf> = Vec::new();
        if let Some(folder) = self.open(Path::new("/home"), true, FileType::Directory)?
            && let Ok(entries) = rustix::fs::Dir::read_from(&folder)
        {
            let names = entries.flatten().map(|entry| OsString::from_vec(entry.file_name().to_bytes().to_vec()));
            let names = names.filter(|name| name != "." && name != "..");
            homes.extend(names.take(MAX_HOMES + 1).map(|name| Path::new("/home").join(name)));
        }
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
        let Some(open) = self.open(folder, trusted, FileType::Directory)? else { return Ok(()) };
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
            let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::STATX_DONT_SYNC;
            let Ok(found) = statx(&open, name.as_os_str(), flags, StatxFlags::BASIC_STATS) else { continue };
            match FileType::from_raw_mode(found.stx_mode.into()) {
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
        let Some(file) = self.open(path, trusted, FileType::RegularFile)? else { return Ok(false) };
        self.sink.send(&ToTriage::File { kind, path: path.display().to_string() }, Some(&file))?;
        Ok(true)
    }

    /// Opens what is of this kind, without following a link where somebody else than root may have made it.
    fn open(&self, path: &Path, trusted: bool, kind: FileType) -> Result<Option<File>> {
        let (place, links) = match trusted {
            true => (self.real(path), Links::Followed),
            false => (self.settled(&self.real(path)), Links::Refused),
        };
        match open::open(&place, links, kind, &self.served) {
            Ok(file) => Ok(Some(file)),
            Err(open::Refusal::Served) => {
                self.note(format!("{} is not read: a program serves the file system that it is on", path.display()))?;
                Ok(None)
            }
            Err(open::Refusal::Other) => Ok(None),
        }
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
