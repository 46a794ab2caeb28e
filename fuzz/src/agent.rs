//! The agent is a program and has no library, so its parsers are taken in by path.

use std::collections::BTreeMap;

#[allow(dead_code, unused_imports)]
#[path = "../../crates/agent/src/config.rs"]
mod config_file;
#[allow(dead_code, unused_imports)]
#[path = "../../crates/agent/src/worker_logs/journal.rs"]
mod journal;
#[allow(dead_code, unused_imports)]
#[path = "../../crates/agent/src/worker_triage/mask.rs"]
mod mask;
#[allow(dead_code, unused_imports)]
#[path = "../../crates/agent/src/worker_triage/report.rs"]
mod report;
#[allow(dead_code, unused_imports)]
#[path = "../../crates/agent/src/worker_logs/tail.rs"]
mod tail;

/// A configuration file, and its policy layer.
pub fn config(bytes: &[u8]) {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), bytes).expect("written");
    match config_file::Config::load(Some(file.path())) {
        Ok(config) => assert!(config.local_policy().is_ok(), "what loads has a policy"),
        Err(error) => assert!(!format!("{error:#}").is_empty()),
    }
}

/// An entry as journalctl writes it: it becomes a line with a head, or is refused.
pub fn journal_entry(bytes: &[u8]) {
    let Ok(entry) = journal::entry(bytes) else { return };
    let head = entry.line.split(|byte| *byte == b' ').next().unwrap_or_default();
    assert!(head.ends_with(b"Z"), "the line begins with its time");
    assert!(entry.line.windows(2).any(|two| two == b": "), "and its head ends where a message begins");
}

/// Lines out of bytes that come in pieces: the same ones however they are cut, no byte lost.
pub fn line_split(bytes: &[u8]) {
    let Some((cut, bytes)) = bytes.split_first() else { return };
    let pieces = |size: usize| {
        let mut splitter = tail::Splitter::default();
        let mut lines = BTreeMap::new();
        let mut offset = 0;
        for piece in bytes.chunks(size.max(1)) {
            let mut left = piece;
            while !left.is_empty() {
                let used = splitter.feed(left, offset, 3, |line| {
                    assert!(line.bytes.len() <= tail::MAX_LINE);
                    lines.insert(line.offset, (line.bytes.to_vec(), line.dropped));
                });
                offset += used as u64;
                left = left.get(used..).unwrap_or_default();
            }
        }
        (lines, splitter.pending(), splitter.finish())
    };
    let whole = pieces(bytes.len());
    assert_eq!(whole, pieces(usize::from(*cut)));
    assert_eq!(whole.0.len(), bytes.iter().filter(|byte| **byte == b'\n').count());
}

/// Texts of a triage package: no text grows by more than its masks, an environment's values are in nothing, lists are bounded.
pub fn triage_text(bytes: &[u8]) {
    let masked = mask::text(bytes);
    assert!(masked.len() <= bytes.len() * 3 + 3 * (bytes.len() + 1), "masks are short");
    for name in mask::names(bytes) {
        assert!(name.len() <= 128 && !name.contains('='), "a name and no more");
    }
    assert!(report::logins(bytes).lines().count() <= bytes.len() / report::LOGIN);
    assert!(report::programs(bytes).iter().all(|path| path.starts_with('/')));
    let mut process = report::Process::begin("1", bytes);
    for what in [
        sakimori_wire::ipc_triage::Text::Program,
        sakimori_wire::ipc_triage::Text::Command,
        sakimori_wire::ipc_triage::Text::Environment,
        sakimori_wire::ipc_triage::Text::Descriptor,
        sakimori_wire::ipc_triage::Text::Groups,
        sakimori_wire::ipc_triage::Text::Status,
    ] {
        process.add(what, bytes);
    }
    assert!(serde_json::to_string(&process).is_ok());
}
