//! `freeze_processes`: a tree stands still, and goes on where it was.
//!
//! Where the host has control groups of version 2 that can be written to, each process is put into a group that is frozen
//! already; who forks meanwhile is found by the next look, as when a tree is ended. Elsewhere it is stopped by `SIGSTOP`, which
//! its parent can see and anybody who may send it signals can undo; the record says which.
//!
//! What an undo needs is noted in a file of the action's before anything is done to a process: which it is, the group that it
//! was in, whether we stop it. So a crash at any moment leaves nobody frozen who is not in a note, and [`HostEffect::undo`]
//! works from notes alone. Who is in the notes of two actions stays frozen until both are taken back. Notes of before the host
//! was started anew mean nobody.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use sakimori_model::Action;
use sakimori_model::policy::Policy;
use sakimori_respond::actions::process;
use sakimori_respond::ports::{Applied, HostEffect, PortError};
use sakimori_sys::cgroup::freezer::Freezer;
use sakimori_sys::file::write_atomic;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::choose::Spare;
use super::signal::{self, Sent};
use super::table::{self, Proc, Row};
use super::{Chosen, MAX_ROUNDS, Record, told};

/// Groups of ours begin with this; the name of the notes follows.
const GROUP: &str = "sakimori-frozen-";
/// Most processes of one action. More are refused, since notes are written before each round.
const MAX_PROCESSES: usize = 20_000;
/// Largest file of notes that is read.
const MAX_NOTES: u64 = 16 << 20;
/// How long the kernel may take to say that all stand still.
const SETTLING: Duration = Duration::from_secs(2);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(2);

/// What an undo needs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Notes {
    /// Which start of the host.
    boot: String,
    /// By process number; each with its start.
    processes: BTreeMap<u32, Note>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    start: u64,
    /// The control group that it was in; `None` where it was to be stopped instead.
    place: Option<String>,
    /// Do we stop it, that was not stopped before?
    stopped: bool,
}

/// Freezes processes of this host.
#[derive(Clone, Debug)]
pub struct Freezing {
    folder: PathBuf,
    spare: Spare,
    freezer: Option<Freezer>,
}

impl Freezing {
    /// With its notes in a folder that root alone can enter. It is made when it is first needed.
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), spare: Spare::own(), freezer: Freezer::find().ok() }
    }

    /// With others to spare than this program's own: for a test, whose processes are its own children.
    pub fn sparing(self, spare: Spare) -> Self {
        Self { spare, ..self }
    }

    /// The same by signals only, as on a host without a freezer.
    pub fn by_signals(folder: &Path) -> Self {
        Self { freezer: None, ..Self::new(folder) }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.json"))
    }

    fn load(&self, name: &str) -> Result<Option<Notes>, PortError> {
        let path = self.file(name);
        match fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(disk(&path, &error)),
            Ok(found) if found.len() > MAX_NOTES => {
                return Err(PortError::permanent(format!("{} is no file of notes", path.display())));
            }
            Ok(_) => {}
        }
        let bytes = fs::read(&path).map_err(|error| disk(&path, &error))?;
        let notes = serde_json::from_slice(&bytes);
        notes.map(Some).map_err(|error| PortError::permanent(format!("{} is damaged: {error}", path.display())))
    }

    fn keep(&self, name: &str, notes: &Notes) -> Result<(), PortError> {
        let failed = |error: &io::Error| disk(&self.folder, error);
        match fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(&error)),
            _ => {}
        }
        let bytes = serde_json::to_vec(notes).map_err(|error| PortError::permanent(error.to_string()))?;
        write_atomic(&self.file(name), &bytes, 0o600).map_err(|error| failed(&error))
    }

    fn forget(&self, name: &str) -> Result<(), PortError> {
        match fs::remove_file(self.file(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(disk(&self.folder, &error)),
            _ => Ok(()),
        }
    }

    /// Notes of the other actions, by their names.
    fn others(&self, name: &str) -> Vec<(String, Notes)> {
        let boot = table::boot();
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".json").map(str::to_owned));
        let others = names.filter(|other| other != name && !other.starts_with('.'));
        others
            .filter_map(|other| Some((other.clone(), self.load(&other).ok()??)))
            .filter(|(_, one)| one.boot == boot)
            .collect()
    }

    /// What is to be noted of a process before it is touched.
    fn note(&self, row: &Row, others: &[(String, Notes)]) -> Note {
        let same = |notes: &Notes| notes.processes.get(&row.pid).filter(|note| note.start == row.start).cloned();
        if let Some(note) = others.iter().find_map(|(_, notes)| same(notes)) {
            // Where it was before the first of them.
            return note;
        }
        let place = self.freezer.as_ref().and_then(|freezer| freezer.place(row.pid));
        Note { start: row.start, stopped: place.is_none() && !row.is_stopped(), place }
    }

    /// Makes one stand still, as its note says. Repeating it changes nothing. False where the group would not have it and it is
    /// to be stopped.
    fn hold(&self, group: &str, pid: u32, note: &Note) -> io::Result<bool> {
        match (&self.freezer, &note.place) {
            (Some(freezer), Some(_)) if !is_held(freezer, pid) => take(freezer, group, (pid, note.start)),
            _ if note.stopped => signal::send((pid, note.start), Signal::STOP).map(|_| true),
            _ => Ok(true),
        }
    }

    /// Makes all stand still that are meant, and says whether there were new ones to the end.
    fn freeze(&self, name: &str, chosen: &mut Chosen, action: &Action) -> Result<(Notes, bool), PortError> {
        let group = format!("{GROUP}{name}");
        let others = self.others(name);
        let mut notes = self.load(name)?.filter(|notes| notes.boot == table::boot()).unwrap_or_default();
        notes.boot = table::boot();
        let mut quiet = 0;
        for _ in 0..MAX_ROUNDS {
            let look = chosen.look(action, &self.spare, &Proc);
            if notes.processes.len() + look.fresh.len() > MAX_PROCESSES {
                return Err(PortError::permanent(format!("more than {MAX_PROCESSES} processes; end them instead")));
            }
            for row in &look.fresh {
                let known = notes.processes.get(&row.pid).is_some_and(|note| note.start == row.start);
                if !known {
                    notes.processes.insert(row.pid, self.note(row, &others));
                }
            }
            if !look.fresh.is_empty() {
                self.keep(name, &notes)?;
            }
            if notes.processes.values().any(|note| note.place.is_some())
                && let Some(freezer) = &self.freezer
            {
                freezer.freeze(&group).map_err(|error| PortError::transient(error.to_string()))?;
            }
            for row in &look.fresh {
                let Some(note) = notes.processes.get(&row.pid).cloned() else { continue };
                match self.hold(&group, row.pid, &note) {
                    Ok(true) => {}
                    Ok(false) => {
                        // Another kind of group, which takes no part of a process: by a signal then, which is noted first.
                        let by_signal = Note { place: None, stopped: !row.is_stopped(), ..note };
                        notes.processes.insert(row.pid, by_signal.clone());
                        self.keep(name, &notes)?;
                        if let Err(error) = self.hold(&group, row.pid, &by_signal) {
                            chosen.refuse(row.id(), &error);
                        }
                    }
                    Err(error) => chosen.refuse(row.id(), &error),
                }
            }
            quiet = if look.fresh.is_empty() { quiet + 1 } else { 0 };
            // Once more than needed: a child that was being born when its parent stopped is in the next table.
            if quiet >= 2 || !chosen.has_time() {
                break;
            }
            std::thread::sleep(PAUSE);
        }
        Ok((notes, quiet == 0))
    }

    /// Waits until all of these stand still, for a while; how many do not.
    fn moving(&self, notes: &Notes) -> usize {
        let until = Instant::now() + SETTLING;
        loop {
            let groups: BTreeSet<String> = self.groups();
            let frozen = |group: &String| self.freezer.as_ref().is_some_and(|freezer| freezer.is_frozen(group));
            let all_frozen = groups.iter().all(frozen);
            let moves = |(pid, note): &(&u32, &Note)| {
                let Some(row) = table::one(**pid).filter(|row| row.start == note.start && !row.has_ended()) else {
                    return false;
                };
                match (&self.freezer, &note.place) {
                    (Some(freezer), Some(_)) => !all_frozen || !is_held(freezer, **pid),
                    _ => !row.is_stopped(),
                }
            };
            let count = notes.processes.iter().filter(moves).count();
            if count == 0 || Instant::now() >= until {
                return count;
            }
            std::thread::sleep(PAUSE);
        }
    }

    fn groups(&self) -> BTreeSet<String> {
        let Some(freezer) = &self.freezer else { return BTreeSet::new() };
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".json").map(str::to_owned));
        names.map(|name| format!("{GROUP}{name}")).filter(|group| !freezer.members(group).is_empty()).collect()
    }

    /// Lets all go on that no other action holds. What a person should know.
    fn thaw(&self, name: &str, notes: &Notes) -> Result<Option<String>, PortError> {
        let group = format!("{GROUP}{name}");
        let others = self.others(name);
        let (mut gone, mut kept, mut elsewhere) = (0, 0, 0);
        for (pid, note) in &notes.processes {
            let id = (*pid, note.start);
            if table::one(*pid).is_none_or(|row| row.id() != id) {
                gone += 1;
                continue;
            }
            let holder =
                others.iter().find(|(_, notes)| notes.processes.get(pid).is_some_and(|one| one.start == note.start));
            match (&self.freezer, &note.place) {
                (Some(freezer), Some(place)) if freezer.has(&group, *pid) => match holder {
                    Some((other, _)) => {
                        let other = format!("{GROUP}{other}");
                        let moved = freezer.freeze(&other).and_then(|()| freezer.take(&other, *pid));
                        moved.map_err(|error| PortError::transient(error.to_string()))?;
                        kept += 1;
                    }
                    None => match freezer.put_back(place, *pid) {
                        Ok(now) if now == *place => {}
                        Ok(_) => elsewhere += 1,
                        Err(_) if table::one(*pid).is_none_or(|row| row.id() != id) => gone += 1,
                        Err(error) => return Err(PortError::transient(format!("process {pid}: {error}"))),
                    },
                },
                _ if note.stopped && holder.is_some() => kept += 1,
                _ if note.stopped => match signal::send(id, Signal::CONT) {
                    Ok(Sent::Yes) => {}
                    Ok(Sent::Gone) => gone += 1,
                    Err(error) => return Err(PortError::transient(format!("process {pid}: {error}"))),
                },
                _ => {}
            }
        }
        if let Some(freezer) = &self.freezer {
            // One that was being born when its parent was taken.
            for pid in freezer.members(&group) {
                let _ = freezer.put_back("/", pid);
            }
            freezer.remove(&group).map_err(|error| PortError::transient(format!("{group}: {error}")))?;
        }
        self.forget(name)?;
        let remarks = [
            (gone, "had ended meanwhile"),
            (kept, "stay frozen by another action"),
            (elsewhere, "are in a control group above the one that they were in, which cannot be made again"),
        ];
        let remarks: Vec<String> =
            remarks.iter().filter(|(count, _)| *count > 0).map(|(count, text)| format!("{count} {text}")).collect();
        Ok((!remarks.is_empty()).then(|| remarks.join("; ")))
    }
}

impl HostEffect for Freezing {
    fn set_policy(&mut self, policy: &Policy) {
        self.spare.never.clone_from(&policy.response.never_kill);
    }

    fn aside(&self) -> Option<Box<dyn HostEffect>> {
        Some(Box::new(self.clone()))
    }

    fn apply(&mut self, action: &Action, _: Option<u64>) -> Result<Applied, PortError> {
        let aim = process::aim(&action.order).map_err(PortError::permanent)?;
        let name = name(&action.order.id);
        let mut chosen = match Chosen::begin(aim, action, &Proc) {
            Ok(chosen) => chosen,
            Err(why) => {
                self.undo(action)?;
                return Ok(Applied::NoEffect(why));
            }
        };
        if process::is_dry_run(&action.order) {
            chosen.look(action, &self.spare, &Proc);
            return Ok(told(&chosen, "would freeze"));
        }
        let (notes, forks) = self.freeze(&name, &mut chosen, action)?;
        if chosen.taken.is_empty() {
            self.undo(action)?;
            return Ok(told(&chosen, "froze"));
        }
        // One that ended before it was taken has no group, and was not stopped either.
        let lives =
            |pid: &u32, note: &Note| table::one(*pid).is_some_and(|row| row.start == note.start && !row.has_ended());
        let living: Vec<&Note> =
            notes.processes.iter().filter(|(pid, note)| lives(pid, note)).map(|(_, note)| note).collect();
        let by_signals = living.iter().filter(|note| note.place.is_none()).count();
        let how = match by_signals {
            _ if self.freezer.is_none() => "SIGSTOP".to_owned(),
            0 => "control group".to_owned(),
            all if all == living.len() => "SIGSTOP".to_owned(),
            some => format!("control group, and SIGSTOP for {some}"),
        };
        let moving = self.moving(&notes);
        let record = Record::of(&how, &chosen.taken, &chosen.spared);
        let mut remark = format!("by {how}: {}", chosen.words(&record, "froze"));
        if moving > 0 {
            remark.push_str(&format!("; {moving} wait in the kernel for something and stand still when that is over"));
        }
        if forks {
            remark.push_str("; it forks faster than it is stopped, so that some go on: end it instead (kill_tree)");
        }
        if by_signals > 0 && self.freezer.is_none() {
            remark.push_str("; this host has no freezer of control groups that can be written to");
        }
        Ok(Applied::Done { former: record.json(), remark: Some(remark) })
    }

    fn undo(&mut self, action: &Action) -> Result<Option<String>, PortError> {
        let name = name(&action.order.id);
        let Some(notes) = self.load(&name)? else { return Ok(None) };
        if notes.boot != table::boot() {
            self.forget(&name)?;
            return Ok(Some("the host was started anew meanwhile".to_owned()));
        }
        self.thaw(&name, &notes)
    }
}

/// Puts a process into a frozen group, and no other that was given its number. False where the group would not have it.
fn take(freezer: &Freezer, group: &str, (pid, start): (u32, u64)) -> io::Result<bool> {
    let is_it = || table::one(pid).is_some_and(|row| row.start == start);
    let place = freezer.place(pid);
    if !is_it() {
        return Ok(true);
    }
    let taken = freezer.take(group, pid).is_ok();
    if is_it() {
        return Ok(taken);
    }
    // Groups take numbers: one that was given this number in that moment goes back at once.
    if taken && freezer.has(group, pid) {
        freezer.put_back(place.as_deref().unwrap_or("/"), pid)?;
    }
    Ok(true)
}

/// Is it in a group of ours?
fn is_held(freezer: &Freezer, pid: u32) -> bool {
    freezer.place(pid).is_some_and(|place| place.trim_start_matches('/').starts_with(GROUP))
}

/// The name of an action's notes and group.
fn name(action: &str) -> String {
    hex::encode(Sha256::digest(action).get(..12).unwrap_or_default())
}

fn disk(path: &Path, error: &io::Error) -> PortError {
    PortError::transient(format!("{}: {error}", path.display()))
}
