//! What a triage package says of a process, of who was signed in, and which programs an autorun names. Pure: bytes in, text out.

use std::collections::BTreeMap;

use sakimori_host::processes::table;
use sakimori_model::Timestamp;
use sakimori_wire::ipc_triage::Text;
use serde::Serialize;

use super::mask;

/// Bytes of one record of utmp and wtmp (utmp(5), on 64-bit Linux).
pub const LOGIN: usize = 384;
/// Most records that are shown of one file.
const MAX_LOGINS: usize = 2_000;
/// Most words of a command line, and most bytes of all.
const MAX_WORDS: usize = 256;
const MAX_COMMAND: usize = 16 << 10;
/// Most sockets that are named of a process.
const MAX_SOCKETS: usize = 1_024;
/// Longest name of a program.
const MAX_PROGRAM: usize = 512;

/// One process, as a line of `processes.jsonl` has it.
#[derive(Debug, Default, Serialize)]
pub struct Process {
    pid: String,
    parent: u32,
    state: String,
    /// In clock ticks since the start of the host.
    start: u64,
    name: String,
    program: Option<String>,
    /// Was the program deleted that it runs?
    deleted: bool,
    folder: String,
    command: Vec<String>,
    /// Names only.
    environment: Vec<String>,
    user: String,
    groups: String,
    /// Inode numbers, as the tables of sockets have them.
    sockets: Vec<u64>,
    /// How many descriptors of each other kind.
    descriptors: BTreeMap<String, u64>,
}

impl Process {
    /// Begins with its number and `stat`.
    pub fn begin(pid: &str, stat: &[u8]) -> Self {
        let Some(row) = table::parse(stat) else { return Self { pid: mask::plain(pid), ..Self::default() } };
        Self {
            pid: row.pid.to_string(),
            parent: row.parent,
            state: char::from(row.state).to_string(),
            start: row.start,
            name: mask::plain(&row.name),
            ..Self::default()
        }
    }

    /// Its number.
    pub fn number(&self) -> &str {
        &self.pid
    }

    /// One more thing of it.
    pub fn add(&mut self, what: Text, bytes: &[u8]) {
        let text = || mask::plain(&String::from_utf8_lossy(bytes));
        match what {
            Text::Program => {
                let path = text();
                self.deleted = path.ends_with(" (deleted)");
                self.program = Some(path).filter(|path| !path.is_empty());
            }
            Text::Folder => self.folder = text(),
            Text::Command => self.command = command(bytes),
            Text::Environment => self.environment = mask::names(bytes),
            Text::Groups => {
                self.groups = String::from_utf8_lossy(bytes).lines().map(mask::plain).collect::<Vec<_>>().join(" ")
            }
            Text::Status => {
                let all = String::from_utf8_lossy(bytes);
                let user = all.lines().find_map(|line| line.strip_prefix("Uid:"));
                self.user = user.and_then(|ids| ids.split_whitespace().nth(1)).unwrap_or_default().to_owned();
            }
            Text::Descriptor => self.descriptor(bytes),
            Text::Plain | Text::Process | Text::Link => {}
        }
    }

    /// What its descriptors are, each ended by a zero byte: `socket:[123]`, `/dev/null`, `anon_inode:[eventfd]`.
    fn descriptor(&mut self, bytes: &[u8]) {
        for one in bytes.split(|byte| *byte == 0).filter(|one| !one.is_empty()) {
            let text = String::from_utf8_lossy(one);
            match text.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']')?.parse().ok()) {
                Some(inode) if self.sockets.len() < MAX_SOCKETS => self.sockets.push(inode),
                Some(_) => {}
                None => {
                    let kind =
                        if text.starts_with('/') { "file" } else { text.split([':', '[']).next().unwrap_or("other") };
                    let kind: String = kind.chars().filter(char::is_ascii_alphanumeric).take(16).collect();
                    if self.descriptors.len() < 16 || self.descriptors.contains_key(&kind) {
                        *self.descriptors.entry(kind).or_default() += 1;
                    }
                }
            }
        }
    }
}

/// The words of a command line, masked.
fn command(bytes: &[u8]) -> Vec<String> {
    let bytes = bytes.get(..MAX_COMMAND).unwrap_or(bytes);
    let words = bytes.split(|byte| *byte == 0).filter(|word| !word.is_empty()).take(MAX_WORDS);
    let words: Vec<String> = words.map(|word| mask::plain(&String::from_utf8_lossy(word))).collect();
    mask::words(words.iter().map(String::as_str))
}

/// The records of a list of logins, a line each.
pub fn logins(bytes: &[u8]) -> String {
    let records = bytes.chunks_exact(LOGIN);
    let skipped = records.len().saturating_sub(MAX_LOGINS);
    let mut out = String::new();
    for record in records.skip(skipped) {
        let text = |from: usize, length: usize| {
            let part = record.get(from..from + length).unwrap_or_default();
            let end = part.iter().position(|byte| *byte == 0).unwrap_or(part.len());
            mask::plain(&String::from_utf8_lossy(part.get(..end).unwrap_or_default()))
        };
        let number = |from: usize| {
            record.get(from..).and_then(|rest| rest.first_chunk::<4>()).map_or(0, |four| i32::from_le_bytes(*four))
        };
        let kind = match number(0) & 0xffff {
            0 => continue,
            2 => "boot",
            6 => "waits",
            7 => "in",
            8 => "out",
            _ => "other",
        };
        let when = Timestamp::from_secs(i64::from(number(340)));
        out +=
            &format!("{when}  {kind:5}  {}  {}  {}  process {}\n", text(44, 32), text(8, 32), text(76, 256), number(4));
    }
    out
}

/// Absolute paths in a text: what an autorun may start.
pub fn programs(text: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(text);
    let mut found = Vec::new();
    for word in text.split(|c: char| c.is_whitespace() || "\"'`;|&<>()=,".contains(c)) {
        let path = word.trim_start_matches(['-', '@', '+', '!', ':']);
        if path.starts_with('/') && path.len() > 1 && path.len() <= MAX_PROGRAM && !path.contains(char::is_control) {
            found.push(path.to_owned());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_told_without_its_secrets() {
        let mut process = Process::begin("4711", b"4711 (mi\nner) S 1 4711 4711 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 99 0");
        process.add(Text::Program, b"/tmp/miner (deleted)");
        process.add(Text::Command, b"/tmp/miner\0--password\0hunter2\0--token=hunter2\0-o\0pool:3333\0");
        process.add(Text::Environment, b"HOME=/root\0KEY=hunter2\0");
        process.add(Text::Status, b"Name:\tx\nUid:\t33\t34\t33\t33\n");
        process.add(Text::Descriptor, b"socket:[123]\0/dev/null\0pipe:[7]\0socket:[x]\0");
        let line = serde_json::to_string(&process).unwrap();
        assert!(!line.contains("hunter2"), "{line}");
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&value["pid"], &value["user"], &value["deleted"]), (&"4711".into(), &"34".into(), &true.into()));
        assert_eq!(
            value["command"],
            serde_json::json!(["/tmp/miner", "--password", "***", "--token=***", "-o", "pool:3333"])
        );
        assert_eq!(
            (&value["environment"], &value["sockets"]),
            (&serde_json::json!(["HOME", "KEY"]), &serde_json::json!([123]))
        );
        assert_eq!(value["descriptors"]["file"], 1);
    }

    #[test]
    fn logins_are_lines() {
        let mut record = [0_u8; LOGIN];
        record[0] = 7;
        record[4] = 9;
        record[8..13].copy_from_slice(b"pts/0");
        record[44..47].copy_from_slice(b"eve");
        record[76..85].copy_from_slice(b"192.0.2.1");
        record[340..344].copy_from_slice(&1_800_000_000_i32.to_le_bytes());
        let text = logins(&[record.to_vec(), vec![0; LOGIN], vec![7; 100]].concat());
        assert_eq!(text.lines().count(), 1);
        assert!(text.contains("in     eve  pts/0  192.0.2.1  process 9"), "{text}");
        assert!(logins(&record.repeat(10 * MAX_LOGINS)).lines().count() <= MAX_LOGINS);
    }

    #[test]
    fn programs_of_autoruns_are_found() {
        let text = b"ExecStart=-/usr/bin/a --x\n*/5 * * * * root \"/tmp/.x/b\" >/dev/null\nplain\n/";
        assert_eq!(programs(text), ["/usr/bin/a", "/tmp/.x/b", "/dev/null"]);
    }
}
