//! The journal of systemd, read through `journalctl` (libsystemd is LGPL, and the files are an enemy's to fill).
//!
//! [`follow`] starts `journalctl --output=json --follow` behind the last cursor, as a process with few rights: a user
//! of its own, the group `systemd-journal`, no network, no file to write to, nothing else. Its output is a pipe whose read end is handed to the `logs`
//! worker; each line is one entry as a JSON object with `__CURSOR`, the place to go on from. The supervisor looks at
//! none of it. A host without journald, or without `journalctl`, is a state with a reason and not an error.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;
use std::process::ExitStatus;

use sakimori_sys::cgroup::Group;
use sakimori_sys::worker::{Identity, Tool, WorkerError, WorkerSpec, spawn_tool};

/// The fields that detection reads; the rest of an entry is left off. `__CURSOR` and the times come always.
pub const FIELDS: &[&str] = &[
    "MESSAGE",
    "PRIORITY",
    "SYSLOG_FACILITY",
    "SYSLOG_IDENTIFIER",
    "SYSLOG_PID",
    "_AUDIT_SESSION",
    "_COMM",
    "_EXE",
    "_HOSTNAME",
    "_PID",
    "_SYSTEMD_UNIT",
    "_TRANSPORT",
    "_UID",
];
/// Most matches of one source.
pub const MAX_MATCHES: usize = 64;

const PROGRAMS: &[&str] = &["/usr/bin/journalctl", "/bin/journalctl"];
const GROUP: &str = "systemd-journal";

/// What to read.
#[derive(Clone, Debug, Default)]
pub struct JournalSpec {
    /// Matches as journalctl(1) takes them (`SYSLOG_IDENTIFIER=sshd`, and `+` for "or"); all entries where empty.
    pub matches: Vec<String>,
    /// Cursor of the last entry that was read.
    pub cursor: Option<String>,
    /// Without a cursor: read what is there already too, rather than from now on.
    pub from_start: bool,
    /// Journal namespace; the default one where `None`.
    pub namespace: Option<String>,
    /// User id to run as; see `sys::worker`.
    pub uid: u32,
    /// Control group to live in.
    pub group: Option<Group>,
}

/// What came of it.
#[derive(Debug)]
pub enum Followed {
    /// Entries come.
    Running(Follower),
    /// This host has no journal that can be read, and why.
    Absent(String),
}

/// A running `journalctl`. Dropping it ends it.
#[derive(Debug)]
pub struct Follower {
    tool: Tool,
    pipe: Option<OwnedFd>,
}

/// Why it did not start.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The configuration is wrong.
    #[error("cannot read the journal: {0}")]
    Spec(String),
    /// The system refused.
    #[error("cannot read the journal: {0}")]
    Start(#[from] WorkerError),
}

/// Starts to read.
///
/// # Errors
/// A match, cursor or namespace that cannot be one, or a system that refuses the process.
pub fn follow(spec: &JournalSpec) -> Result<Followed, JournalError> {
    let args = arguments(spec)?;
    let Some(program) = PROGRAMS.iter().map(Path::new).find(|path| path.exists()) else {
        return Ok(Followed::Absent("journalctl is not installed (it comes with systemd)".to_owned()));
    };
    let suffix = spec.namespace.as_ref().map(|name| format!(".{name}")).unwrap_or_default();
    if !Path::new(&format!("/run/systemd/journal{suffix}/socket")).exists() {
        return Ok(Followed::Absent("systemd-journald does not run on this host".to_owned()));
    }
    let groups = std::fs::read_to_string("/etc/group").unwrap_or_default();
    let Some(gid) = group_id(&groups, GROUP) else {
        return Ok(Followed::Absent(format!("this host has no group {GROUP}, by which the journal is read")));
    };
    let worker = WorkerSpec {
        name: "journal".to_owned(),
        program: Some(program.to_owned()),
        args: args.into_iter().map(Into::into).collect(),
        uid: spec.uid,
        gid,
        env: Vec::new(),
        network: false,
        group: spec.group.clone(),
        idle: false,
        opens: false,
    };
    let (tool, pipe) = spawn_tool(&worker)?;
    Ok(Followed::Running(Follower { tool, pipe: Some(pipe) }))
}

fn arguments(spec: &JournalSpec) -> Result<Vec<String>, JournalError> {
    let wrong = |what: &str, text: &str| {
        let text: String = text.chars().filter(|c| !c.is_control()).take(64).collect();
        JournalError::Spec(format!("\"{text}\" is no {what}"))
    };
    let mut args: Vec<String> =
        ["--output=json", "--follow", "--no-pager", "--quiet", "--all"].map(str::to_owned).to_vec();
    args.push(format!("--output-fields={}", FIELDS.join(",")));
    if let Some(name) = &spec.namespace {
        if name.is_empty()
            || name.len() > 64
            || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        {
            return Err(wrong("journal namespace", name));
        }
        args.push(format!("--namespace={name}"));
    }
    match &spec.cursor {
        Some(cursor) if cursor.len() > 512 || !cursor.bytes().all(|b| b.is_ascii_graphic()) => {
            return Err(wrong("journal cursor", cursor));
        }
        // All that came since: the default with --follow is ten lines.
        Some(cursor) => args.extend([format!("--after-cursor={cursor}"), "--lines=all".to_owned()]),
        None if spec.from_start => args.push("--lines=all".to_owned()),
        None => args.push("--lines=0".to_owned()),
    }
    if spec.matches.len() > MAX_MATCHES {
        return Err(JournalError::Spec(format!("there are more than {MAX_MATCHES} matches")));
    }
    args.push("--".to_owned());
    for text in &spec.matches {
        let field = text.split_once('=').map(|(field, _)| field);
        let valid = |field: &str| {
            !field.is_empty() && field.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
        };
        if text != "+" && !field.is_some_and(valid) {
            return Err(wrong("match of the journal (FIELD=value)", text));
        }
        args.push(text.clone());
    }
    Ok(args)
}

fn group_id(groups: &str, name: &str) -> Option<u32> {
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next() != Some(name) {
            return None;
        }
        fields.nth(1)?.parse().ok()
    })
}

impl Follower {
    /// The read end of the pipe, once, for the worker that parses it.
    pub fn take_pipe(&mut self) -> Option<OwnedFd> {
        self.pipe.take()
    }

    /// Who it runs as.
    pub fn identity(&self) -> Identity {
        self.tool.identity
    }

    /// A descriptor that becomes readable at its end, for poll.
    pub fn end(&self) -> BorrowedFd<'_> {
        self.tool.end()
    }

    /// Its status and last words, if it has ended.
    pub fn ended(&mut self) -> io::Result<Option<(ExitStatus, String)>> {
        Ok(self.tool.try_wait()?.map(|status| (status, self.tool.complaint())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_goes_on_behind_it_and_none_starts_now() {
        let spec = JournalSpec { matches: vec!["SYSLOG_IDENTIFIER=sshd".into()], uid: 1, ..JournalSpec::default() };
        let args = arguments(&spec).unwrap();
        assert!(args.contains(&"--lines=0".to_owned()));
        assert_eq!(args[args.len() - 2..], ["--".to_owned(), "SYSLOG_IDENTIFIER=sshd".to_owned()]);
        let args = arguments(&JournalSpec { cursor: Some("s=1;i=2".into()), ..spec }).unwrap();
        assert!(args.contains(&"--after-cursor=s=1;i=2".to_owned()) && args.contains(&"--lines=all".to_owned()));
    }

    #[test]
    fn what_is_no_match_is_refused() {
        for text in ["", "sshd", "--file=/etc/shadow", "=x", "lower=x", "/etc/shadow"] {
            let spec = JournalSpec { matches: vec![text.into()], ..JournalSpec::default() };
            assert!(arguments(&spec).is_err(), "{text}");
        }
        let cursor = JournalSpec { cursor: Some("a b".into()), ..JournalSpec::default() };
        assert!(arguments(&cursor).unwrap_err().to_string().contains("no journal cursor"));
        let name = JournalSpec { namespace: Some("../x".into()), ..JournalSpec::default() };
        assert!(arguments(&name).is_err());
    }

    #[test]
    fn groups() {
        assert_eq!(group_id("root:x:0:\nsystemd-journal:x:101:ann\n", GROUP), Some(101));
        assert_eq!(group_id("systemd-journal2:x:101:\n", GROUP), None);
    }
}
