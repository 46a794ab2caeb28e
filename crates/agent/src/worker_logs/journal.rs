//! An entry of systemd's journal, as `journalctl -o json` writes it, becomes the line that syslog would have
//! written of it, with its exact time: one log source serves both.
//!
//! The trusted fields (`_PID`, `_HOSTNAME`, `__REALTIME_TIMESTAMP`) are the journal's own; message and identifier
//! are whatever the program said, and may be bytes that are no text (an array of numbers).

use sakimori_model::Timestamp;
use serde_json::{Map, Value};

/// Longest identifier.
const MAX_TAG: usize = 128;

/// One entry.
#[derive(Debug, PartialEq, Eq)]
pub struct Entry {
    /// The line.
    pub line: Vec<u8>,
    /// Where to go on after it.
    pub cursor: String,
}

/// Reads one; `Err` where it is none, and the line is then an event of its own.
pub fn entry(json: &[u8]) -> Result<Entry, ()> {
    let Ok(Value::Object(fields)) = serde_json::from_slice::<Value>(json) else { return Err(()) };
    let cursor = fields.get("__CURSOR").and_then(Value::as_str).ok_or(())?.to_owned();
    let micros =
        fields.get("__REALTIME_TIMESTAMP").and_then(Value::as_str).and_then(|text| text.parse().ok()).ok_or(())?;
    let word = |text: Vec<u8>| -> Vec<u8> {
        text.into_iter()
            .filter(|byte| byte.is_ascii_graphic() && *byte != b'[' && *byte != b':')
            .take(MAX_TAG)
            .collect()
    };
    let first = |names: &[&str]| names.iter().find_map(|name| bytes(&fields, name)).map(word).unwrap_or_default();
    let host = first(&["_HOSTNAME"]);
    let tag = first(&["SYSLOG_IDENTIFIER", "_COMM"]);
    let pid = first(&["SYSLOG_PID", "_PID"]);
    let mut line = Timestamp::from_micros(micros).to_string().into_bytes();
    for (before, part) in [(b" ".as_slice(), &host), (b" ", &tag)] {
        line.extend_from_slice(before);
        line.extend_from_slice(if part.is_empty() { b"-" } else { part });
    }
    if !pid.is_empty() {
        line.push(b'[');
        line.extend_from_slice(&pid);
        line.push(b']');
    }
    line.extend_from_slice(b": ");
    line.extend_from_slice(&bytes(&fields, "MESSAGE").unwrap_or_default());
    Ok(Entry { line, cursor })
}

/// A field, which is text, or an array of bytes where it is none.
fn bytes(fields: &Map<String, Value>, name: &str) -> Option<Vec<u8>> {
    match fields.get(name)? {
        Value::String(text) => Some(text.clone().into_bytes()),
        Value::Array(list) => list.iter().map(|one| one.as_u64().and_then(|byte| u8::try_from(byte).ok())).collect(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_becomes_the_line_of_syslog() {
        let json = br#"{"__CURSOR":"s=1;i=2","__REALTIME_TIMESTAMP":"1700000000123456","_HOSTNAME":"web1",
            "SYSLOG_IDENTIFIER":"sshd","_PID":"77","MESSAGE":"Failed password for root from 203.0.113.7 port 22 ssh2"}"#;
        let entry = entry(json).expect("an entry");
        assert_eq!(entry.cursor, "s=1;i=2");
        assert_eq!(
            String::from_utf8(entry.line).expect("text"),
            "2023-11-14T22:13:20.123456Z web1 sshd[77]: Failed password for root from 203.0.113.7 port 22 ssh2"
        );
    }

    #[test]
    fn bytes_and_hostile_tags_stay_in_their_place() {
        let json =
            br#"{"__CURSOR":"c","__REALTIME_TIMESTAMP":"1","SYSLOG_IDENTIFIER":"a b]: sshd[1","MESSAGE":[104,255]}"#;
        let line = entry(json).expect("an entry").line;
        assert!(line.ends_with(b" - ab]sshd1: h\xff"), "{}", String::from_utf8_lossy(&line));
        assert_eq!(entry(b"{}"), Err(()));
        assert_eq!(entry(b"\xff\xfe"), Err(()));
    }
}
