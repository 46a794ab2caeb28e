//! The corpus as it is played: `tests.jsonl` and `benign-user-agents.txt`, to requests as bytes.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use base64::Engine as _;
use serde_json::{Map, Value};

/// What a category of the corpus is about, by the number that its name begins with.
const CLASSES: &[(&str, &str)] = &[
    ("911", "methods"),
    ("913", "scanners"),
    ("920", "protocol enforcement"),
    ("921", "protocol attacks"),
    ("922", "multipart"),
    ("930", "local files, traversal"),
    ("931", "remote files"),
    ("932", "commands"),
    ("933", "PHP"),
    ("934", "Node, SSRF, templates"),
    ("941", "cross-site scripting"),
    ("942", "SQL injection"),
    ("943", "session fixation"),
    ("944", "Java"),
    ("949", "scores"),
];
/// Of categories from 950 on.
const ANSWERS: &str = "answers";
const AGENTS: &str = "user agents";

/// Rules of the corpus above paranoia level 1, by level. The corpus has no field for it: this is what is known of its
/// rules' numbers, and a few may stand one level off.
const LEVELS: [(u8, &[u64]); 3] = [
    (
        2,
        &[
            920121, 920200, 920201, 920230, 920271, 920320, 920341, 920451, 921151, 921422, 930121, 931130, 931131,
            932131, 932161, 932200, 932205, 932206, 932207, 932210, 932220, 932231, 932236, 932239, 932240, 932271,
            932281, 932300, 932310, 932320, 932371, 933151, 933152, 933153, 934101, 934120, 934140, 934190, 941101,
            941120, 941150, 941181, 941320, 941330, 941340, 941380, 942101, 942120, 942130, 942131, 942150, 942152,
            942180, 942200, 942210, 942260, 942300, 942310, 942321, 942330, 942340, 942361, 942362, 942370, 942380,
            942390, 942400, 942410, 942430, 942440, 942450, 942470, 942480, 942510, 942520, 942521, 942522, 934220,
            944151, 944200, 944210, 944240, 944250, 944260, 950100, 953101, 954101, 956110,
        ],
    ),
    (
        3,
        &[
            920272, 920300, 920490, 920510, 920521, 920660, 921170, 921180, 921210, 921220, 921230, 932190, 932290,
            934210, 932232, 932237, 932238, 932301, 932311, 932321, 932331, 933111, 933131, 933161, 933190, 933211,
            942251, 942420, 942431, 942460, 942490, 942511, 942530, 944300,
        ],
    ),
    (4, &[920202, 920273, 920274, 920275, 920460, 921171, 942421, 942432, 944152]),
];

/// A test as it is played.
pub(super) struct Test {
    pub name: String,
    pub class: &'static str,
    /// Harmless, or an attack of this paranoia level.
    pub level: Option<u8>,
    /// Of the part that rules are tuned on.
    pub tuned: bool,
    pub requests: Vec<Vec<u8>>,
    pub sids: Vec<u32>,
}

/// Every test of the file but those that ask for a status only.
pub(super) fn read(path: &Path) -> Result<Vec<Test>> {
    let text = fs::read_to_string(path)?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let tests = lines.map(|(at, line)| test(line).with_context(|| format!("{}:{}", path.display(), at + 1)));
    // What is neither attack nor harmless asks for a status of the server that the corpus was made for.
    tests.filter_map(Result::transpose).collect()
}

pub(super) fn test(line: &str) -> Result<Option<Test>> {
    let value: Value = serde_json::from_str(line)?;
    let text = |name: &str| value.get(name).and_then(Value::as_str).with_context(|| format!("no {name}"));
    let (name, category) = (text("case")?.to_owned(), text("category")?);
    let number = category.split('-').nth(1).unwrap_or_default();
    let class = CLASSES.iter().find(|(known, _)| *known == number).map_or(ANSWERS, |(_, class)| *class);
    let rule = value.get("rule_id").and_then(Value::as_u64).context("no rule_id")?;
    let level = match text("kind")? {
        "attack" => Some(LEVELS.iter().find(|(_, rules)| rules.contains(&rule)).map_or(1, |(level, _)| *level)),
        "benign" => None,
        _ => return Ok(None),
    };
    let stages = value.get("stages").and_then(Value::as_array).context("no stages")?;
    let requests =
        stages.iter().map(|stage| request(stage.get("input").context("no input")?)).collect::<Result<Vec<_>>>()?;
    let tuned = tuned(&name);
    Ok(Some(Test { name, class, level, tuned, requests, sids: Vec::new() }))
}

/// Whether a test is of the three quarters for tuning: by FNV-1a, which is the same everywhere.
fn tuned(name: &str) -> bool {
    name.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)) % 4 != 3
}

/// The bytes of a request: as encoded, or built from its parts with the headers that any client adds to a body.
fn request(input: &Value) -> Result<Vec<u8>> {
    if let Some(encoded) = input.get("encoded_request").and_then(Value::as_str) {
        let plain: String = encoded.split_whitespace().collect();
        return base64::engine::general_purpose::STANDARD.decode(plain).context("encoded_request");
    }
    let text = |name: &str, default: &'static str| input.get(name).and_then(Value::as_str).unwrap_or(default);
    let data = text("data", "");
    let mut out = format!("{} {} {}\r\n", text("method", "GET"), text("uri", "/"), text("version", "HTTP/1.1"));
    let none = Map::new();
    let headers = input.get("headers").and_then(Value::as_object).unwrap_or(&none);
    for (name, value) in headers {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        out.push_str(&format!("{name}: {value}\r\n"));
    }
    let has = |wanted: &str| headers.keys().any(|name| name.eq_ignore_ascii_case(wanted));
    if input.get("autocomplete_headers").and_then(Value::as_bool).unwrap_or(true) && !data.is_empty() {
        if !has("content-type") {
            out.push_str("Content-Type: application/x-www-form-urlencoded\r\n");
        }
        if !has("content-length") && !has("transfer-encoding") {
            out.push_str(&format!("Content-Length: {}\r\n", data.len()));
        }
    }
    Ok([out.as_bytes(), b"\r\n", data.as_bytes()].concat())
}

/// User agents of browsers and robots, each in a request for the front page.
pub(super) fn agents(path: &Path) -> Result<Vec<Test>> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let text = fs::read_to_string(path)?;
    let tests = text.lines().filter(|line| !line.is_empty()).enumerate().map(|(at, agent)| Test {
        name: format!("user agent {}", at + 1),
        class: AGENTS,
        level: None,
        tuned: tuned(agent),
        requests: vec![
            format!("GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: {agent}\r\nAccept: */*\r\n\r\n").into(),
        ],
        sids: Vec::new(),
    });
    Ok(tests.collect())
}

impl Test {
    /// Whether a rule of ours alerted.
    pub fn hit(&self) -> bool {
        !self.sids.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn requests_get_the_headers_that_clients_add_and_nothing_where_they_are_told_not_to() {
        let plain = request(&json!({"method": "POST", "data": "a=b", "headers": {"X": 7}})).unwrap();
        let text = "POST / HTTP/1.1\r\nX: 7\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 3\r\n\r\na=b";
        assert_eq!(String::from_utf8(plain).unwrap(), text);
        let bare = request(&json!({"data": "a=b", "autocomplete_headers": false})).unwrap();
        assert_eq!(bare, b"GET / HTTP/1.1\r\n\r\na=b");
        assert_eq!(request(&json!({"encoded_request": "R0VU\nIC8="})).unwrap(), b"GET /");
        assert!(test(&super::super::tests::ATTACK.replace("attack", "other")).unwrap().is_none());
    }
}
