//! The inputs of log inspection: which files are open, which are absent, and what to do when one is rotated,
//! cut, or appears. Files are found by `find`, opened here as root, and handed to the worker.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use sakimori_host::journald::{self, Followed, JournalSpec};
use sakimori_model::Timestamp;
use sakimori_model::policy::LogInput;
use sakimori_sys::cgroup::Group;
use sakimori_wire::batch::Loss;
use sakimori_wire::ipc::{FileIdentity, FilePosition, InputCounters, Position, ToLogs};
use sakimori_wire::status::InputStatus;

use super::find::{self, Opened};
use super::watch;
use super::worker::JOURNAL_UID;
use crate::spool::{Spool, Stream};

/// Most inputs of a host.
pub const MAX_INPUTS: usize = 200;

/// One input.
pub struct Input {
    /// As the policy says.
    pub input: LogInput,
    /// Was it opened in this worker?
    open: bool,
    /// The file at the path that the worker reads.
    newest: Option<FileIdentity>,
    /// All files that this worker got.
    known: BTreeSet<FileIdentity>,
    /// Control group of `journalctl`.
    group: Option<Group>,
    /// The running `journalctl`.
    journal: Option<journald::Follower>,
    problem: Option<String>,
    told_absent: bool,
    counters: InputCounters,
}

/// What a look found, to be said as an event.
pub enum Seen {
    /// A log appeared that was absent.
    Appeared(String),
    /// A log is absent.
    Absent(String, String),
    /// Something could not be found again.
    Lost(String, &'static str),
}

impl Input {
    /// Not opened yet.
    pub fn new(input: LogInput, group: Option<Group>) -> Self {
        Self {
            group,
            counters: InputCounters { name: input.name.clone(), ..InputCounters::default() },
            input,
            open: false,
            newest: None,
            known: BTreeSet::new(),
            journal: None,
            problem: None,
            told_absent: false,
        }
    }

    /// Its file.
    pub fn path(&self) -> Option<PathBuf> {
        self.input.file.as_ref().map(PathBuf::from)
    }

    /// A new worker knows nothing of it.
    pub fn forget(&mut self) {
        self.open = false;
        self.newest = None;
        self.known.clear();
        self.journal = None;
    }

    /// Figures of the worker.
    pub fn count(&mut self, counters: InputCounters) {
        self.counters = counters;
    }

    /// Its state.
    pub fn status(&self, spool: &Spool, live: bool, waiting: bool) -> InputStatus {
        let stream = spool.stream(&self.input.name);
        let present = self.newest.is_some() || self.journal.is_some();
        InputStatus {
            name: self.input.name.clone(),
            source: self.input.source.clone(),
            state: match (present, live, waiting) {
                (false, _, _) => "absent",
                (true, false, _) => "starting",
                (true, true, true) => "waiting",
                (true, true, false) => "reading",
            }
            .into(),
            lines: self.counters.lines,
            events: self.counters.events,
            alerts: self.counters.alerts,
            spooled: stream.next_event,
            lost: stream.lost,
            last: self.counters.last,
        }
    }

    /// Looks whether the file at the path is the one that is read, and opens what is new. The message for the
    /// worker, with its descriptors, where there is one.
    pub fn look(
        &mut self,
        stream: &Stream,
        queue: &OwnedFd,
        now: Timestamp,
        seen: &mut Vec<Seen>,
    ) -> Option<(ToLogs, Vec<OwnedFd>)> {
        let Some(path) = self.path() else { return self.look_at_journal(stream, seen) };
        let current = match find::open_current(&path) {
            Ok(current) => current.map(|(_, identity)| identity),
            Err(error) => {
                self.absent(format!("cannot open {}: {error}", path.display()), seen);
                return None;
            }
        };
        if self.open && (current.is_none() || current == self.newest) {
            return None;
        }
        let files = match stream.position.as_deref().map(postcard::from_bytes::<Position>) {
            Some(Ok(Position::Files(files))) => Some(files),
            _ => None,
        };
        if current.is_none() && files.is_none() {
            self.absent(format!("{} is not there", path.display()), seen);
            return None;
        }
        let message = self.search(&path, files.as_deref(), stream, !self.open, queue, now, seen);
        if current.is_none() {
            self.absent(format!("{} is not there", path.display()), seen);
        }
        message
    }

    /// The worker found a file cut: opens the input anew from where it stood.
    pub fn cut(
        &mut self,
        files: &[FilePosition],
        stream: &Stream,
        queue: &OwnedFd,
        now: Timestamp,
        seen: &mut Vec<Seen>,
    ) -> Option<(ToLogs, Vec<OwnedFd>)> {
        let path = self.path()?;
        self.known.clear();
        self.search(&path, Some(files), stream, true, queue, now, seen)
    }

    #[expect(clippy::too_many_arguments, reason = "one search, seen from its two callers")]
    fn search(
        &mut self,
        path: &Path,
        files: Option<&[FilePosition]>,
        stream: &Stream,
        replace: bool,
        queue: &OwnedFd,
        now: Timestamp,
        seen: &mut Vec<Seen>,
    ) -> Option<(ToLogs, Vec<OwnedFd>)> {
        let search = match find::find(path, files) {
            Ok(search) => search,
            Err(error) => {
                self.absent(format!("cannot look for {}: {error}", path.display()), seen);
                return None;
            }
        };
        let mut losses = Vec::new();
        if replace {
            losses.clone_from(&stream.losses);
            for cause in &search.lost {
                seen.push(Seen::Lost(self.input.name.clone(), cause));
                losses.push(Loss {
                    // How many lines it held is not known any more.
                    count: 0,
                    cause: (*cause).into(),
                    place: format!("log_inspection/{}", self.input.name),
                    from: now,
                    to: now,
                });
            }
        }
        let newest = search.present.then(|| search.files.last().map(|opened| opened.position.file)).flatten();
        // The worker goes on by itself in what it has; what is new to it begins at its start.
        let is_new = |opened: &Opened| {
            let at = opened.position;
            at.offset == 0 && (!self.known.contains(&at.file) || Some(at.file) == newest)
        };
        let fresh: Vec<Opened> = search.files.into_iter().filter(|opened| replace || is_new(opened)).collect();
        let mut positions = Vec::new();
        let mut descriptors: Vec<OwnedFd> = Vec::new();
        for Opened { file, position } in fresh {
            self.watch(queue, &file);
            self.known.insert(position.file);
            positions.push(position);
            descriptors.push(file.into());
        }
        if newest.is_some() {
            if self.told_absent {
                seen.push(Seen::Appeared(self.input.name.clone()));
            }
            self.told_absent = false;
            self.problem = None;
            self.newest = newest;
        }
        self.open = true;
        let message = ToLogs::Open {
            input: self.input.clone(),
            files: positions,
            replace,
            fresh: files.is_none(),
            next_sequence: stream.sequence + 1,
            next_event: stream.next_event,
            losses,
        };
        Some((message, descriptors))
    }

    fn look_at_journal(&mut self, stream: &Stream, seen: &mut Vec<Seen>) -> Option<(ToLogs, Vec<OwnedFd>)> {
        let matches = self.input.journal.clone()?;
        if let Some(follower) = &mut self.journal {
            match follower.ended() {
                Ok(None) => return None,
                Ok(Some((status, words))) => {
                    // The worker reads what is left in the pipe; at the next look all of it is spooled.
                    self.journal = None;
                    self.absent(format!("journalctl ended: {status} {}", words.trim()), seen);
                    return None;
                }
                Err(error) => {
                    self.absent(error.to_string(), seen);
                    return None;
                }
            }
        }
        let cursor = match stream.position.as_deref().map(postcard::from_bytes::<Position>) {
            Some(Ok(Position::Journal { cursor })) => Some(cursor),
            _ => None,
        };
        let fresh = cursor.is_none();
        let spec =
            JournalSpec { matches, cursor, uid: JOURNAL_UID, group: self.group.clone(), ..JournalSpec::default() };
        let mut follower = match journald::follow(&spec) {
            Ok(Followed::Running(follower)) => follower,
            Ok(Followed::Absent(reason)) => {
                self.absent(reason, seen);
                return None;
            }
            Err(error) => {
                self.absent(error.to_string(), seen);
                return None;
            }
        };
        let pipe = follower.take_pipe()?;
        if self.told_absent {
            seen.push(Seen::Appeared(self.input.name.clone()));
            self.told_absent = false;
        }
        self.problem = None;
        self.journal = Some(follower);
        let message = ToLogs::Open {
            input: self.input.clone(),
            files: Vec::new(),
            replace: true,
            fresh,
            next_sequence: stream.sequence + 1,
            next_event: stream.next_event,
            losses: if self.open { Vec::new() } else { stream.losses.clone() },
        };
        self.open = true;
        Some((message, vec![pipe]))
    }

    fn absent(&mut self, reason: String, seen: &mut Vec<Seen>) {
        if !self.told_absent {
            seen.push(Seen::Absent(self.input.name.clone(), reason.clone()));
        }
        self.told_absent = true;
        self.newest = None;
        self.problem = Some(reason);
    }

    fn watch(&self, queue: &OwnedFd, file: &File) {
        if let Err(error) = watch::growth(queue, file) {
            tracing::warn!(input = self.input.name, %error, "a log is not watched, only looked at");
        }
    }
}

/// Inputs by name, of which the policy's order does not matter.
pub type Inputs = BTreeMap<String, Input>;
