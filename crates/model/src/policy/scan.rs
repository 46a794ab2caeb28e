//! Scans of the policy: what, when, and how much of the host they may take. What is wrong is named by its place, with what
//! to write there.

use std::collections::BTreeSet;

use serde::{Deserialize, Deserializer, Serialize};

use crate::schedule::Schedule;

/// Most scans of a policy.
const MAX_SCANS: usize = 50;
/// Most paths of one, and most patterns and extensions of each list.
const MAX_LISTED: usize = 500;
/// Longest path or pattern, in bytes.
const MAX_PATH: usize = 1_000;
/// Longest name and extension, in bytes.
const MAX_NAME: usize = 64;
/// Longest time by which a start is put off, in minutes: a day.
const MAX_JITTER: u32 = 24 * 60;

/// A scan that the policy names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Raw")]
pub struct Scan {
    /// Its name, unique on the host.
    pub name: String,
    /// When, in the host's time zone; by hand only where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Schedule>,
    /// Files and folders.
    pub paths: Vec<String>,
    /// What is left out.
    pub exclude: Left,
    /// Most processor time, in hundredths of one processor.
    pub cpu_percent: u32,
    /// What happens to what is found.
    pub action: Found,
    /// File systems of other hosts that lie below the paths too? One whose own path is named is scanned in any case.
    pub network: bool,
    /// What happens where the time passed while this host or its agent did not run.
    pub if_missed: Missed,
    /// A start is put off by up to so many minutes, each host by another time, so that hosts that share a disk do not begin
    /// at once.
    pub jitter_minutes: u32,
}

/// What a scan leaves out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Left {
    /// Patterns of paths and names: `/var/lib/docker`, `*.iso`.
    pub paths: Vec<String>,
    /// Ends of names, without the dot.
    pub extensions: Vec<String>,
}

/// What happens to what a scan finds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Found {
    /// What the playbooks ask for, quarantine among it.
    #[default]
    Quarantine,
    /// It is told, and stays where it is.
    Report,
}

/// What happens where the time of a scan passed while nobody was there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Missed {
    /// It runs once, as soon as it can.
    #[default]
    Run,
    /// It runs at its next time.
    Skip,
}

/// As it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    name: String,
    #[serde(default)]
    schedule: Option<String>,
    #[serde(default)]
    paths: Vec<String>,
    #[serde(default)]
    exclude: Left,
    #[serde(default = "quarter")]
    cpu_percent: u32,
    #[serde(default)]
    action: Found,
    #[serde(default)]
    network: bool,
    #[serde(default)]
    if_missed: Missed,
    #[serde(default = "half_an_hour")]
    jitter_minutes: u32,
}

fn quarter() -> u32 {
    25
}

fn half_an_hour() -> u32 {
    30
}

impl TryFrom<Raw> for Scan {
    type Error = String;

    fn try_from(raw: Raw) -> Result<Self, String> {
        name(&raw.name).map_err(|wrong| format!("modules.antimalware.scans: name: {wrong}"))?;
        let at = |field: &str, wrong: String| format!("modules.antimalware.scans.{}.{field}: {wrong}", raw.name);
        let schedule = match &raw.schedule {
            None => None,
            Some(text) => {
                Some(text.parse().map_err(|wrong: crate::schedule::NotASchedule| at("schedule", wrong.to_string()))?)
            }
        };
        if raw.paths.is_empty() {
            return Err(at("paths", "write at least one, [\"/\"] for all of this host".into()));
        }
        places(&raw.paths).map_err(|wrong| at("paths", wrong))?;
        patterns(&raw.exclude.paths).map_err(|wrong| at("exclude.paths", wrong))?;
        extensions(&raw.exclude.extensions).map_err(|wrong| at("exclude.extensions", wrong))?;
        if !(1..=100).contains(&raw.cpu_percent) {
            return Err(at("cpu_percent", format!("write 1 to 100, found {}", raw.cpu_percent)));
        }
        if raw.jitter_minutes > MAX_JITTER {
            return Err(at("jitter_minutes", format!("write 0 to {MAX_JITTER}, found {}", raw.jitter_minutes)));
        }
        let Raw { name, paths, exclude, cpu_percent, action, network, if_missed, jitter_minutes, .. } = raw;
        Ok(Self { name, schedule, paths, exclude, cpu_percent, action, network, if_missed, jitter_minutes })
    }
}

/// A list of scans, whose names differ.
pub(super) fn list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Scan>, D::Error> {
    let scans = Vec::<Scan>::deserialize(deserializer)?;
    let wrong = |text: String| Err(serde::de::Error::custom(format!("modules.antimalware.scans: {text}")));
    if scans.len() > MAX_SCANS {
        return wrong(format!("write at most {MAX_SCANS}, found {}", scans.len()));
    }
    let mut names = BTreeSet::new();
    match scans.iter().find(|scan| !names.insert(scan.name.as_str())) {
        Some(twice) => wrong(format!("two are named {}; give one another name", twice.name)),
        None => Ok(scans),
    }
}

fn name(text: &str) -> Result<(), String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    match (1..=MAX_NAME).contains(&text.len()) && text.bytes().all(fits) {
        true => Ok(()),
        false => Err(format!("write 1 to {MAX_NAME} letters, digits, - and _, found {:?}", short(text))),
    }
}

/// Whole paths.
pub(super) fn places(list: &[String]) -> Result<(), String> {
    count(list)?;
    let wrong = |path: &&String| {
        !path.starts_with('/')
            || path.len() > MAX_PATH
            || path.contains('\0')
            || path.split('/').any(|part| part == "." || part == "..")
    };
    match list.iter().find(wrong) {
        Some(path) => Err(format!("write whole paths, like /srv/www, without . and .., found {:?}", short(path))),
        None => Ok(()),
    }
}

/// Patterns as `sakimori_scan::exclude` reads them.
pub(super) fn patterns(list: &[String]) -> Result<(), String> {
    count(list)?;
    let wrong = |pattern: &&String| {
        let trimmed = pattern.trim_end_matches('/');
        let relative = trimmed.contains('/') && !trimmed.starts_with('/') && !trimmed.starts_with("**/");
        (trimmed.is_empty() && *pattern != "/") || pattern.len() > MAX_PATH || relative
    };
    match list.iter().find(wrong) {
        Some(pattern) => {
            let text = "write names (*.iso) or paths that begin with / or **/ (/var/lib/docker, **/cache)";
            Err(format!("{text}, found {:?}", short(pattern)))
        }
        None => Ok(()),
    }
}

/// Ends of names.
pub(super) fn extensions(list: &[String]) -> Result<(), String> {
    count(list)?;
    let wrong = |text: &&String| {
        text.is_empty() || text.len() > MAX_NAME || text.starts_with('.') || text.contains(['/', '*', '\0'])
    };
    match list.iter().find(wrong) {
        Some(text) => Err(format!("write ends of names without the dot, like iso or tar.gz, found {:?}", short(text))),
        None => Ok(()),
    }
}

fn count(list: &[String]) -> Result<(), String> {
    match list.len() {
        0..=MAX_LISTED => Ok(()),
        more => Err(format!("write at most {MAX_LISTED}, found {more}")),
    }
}

fn short(text: &str) -> String {
    text.chars().take(60).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Layer, default_layer, merge};
    use serde_json::{Value, json};

    fn antimalware(section: Value) -> Result<crate::policy::Antimalware, String> {
        let Value::Object(tree) = json!({ "modules": { "antimalware": section } }) else { panic!("an object") };
        let merged = merge(&[default_layer(), Layer { name: "host".into(), tree }]);
        merged.map(|effective| effective.policy.modules.antimalware).map_err(|error| error.to_string())
    }

    #[test]
    fn a_scan_needs_a_name_and_paths_and_has_gentle_defaults() {
        let scan = |scan: Value| antimalware(json!({ "scans": [scan] })).map(|policy| policy.scans[0].clone());
        let found = scan(json!({"name": "nightly", "schedule": "30 2 * * *", "paths": ["/"]})).expect("valid");
        assert_eq!((found.cpu_percent, found.action, found.jitter_minutes), (25, Found::Quarantine, 30));
        assert_eq!((found.network, found.if_missed, found.exclude), (false, Missed::Run, Left::default()));
        assert_eq!(scan(json!({"name": "by-hand", "paths": ["/srv"]})).expect("valid").schedule, None);
        assert_eq!(antimalware(json!({})).expect("valid").scans, Vec::new(), "off by default");
    }

    #[test]
    fn what_is_wrong_is_named_by_its_place_with_what_to_write() {
        let good = json!({"name": "n", "schedule": "0 3 * * *", "paths": ["/srv"]});
        for (field, value, said) in [
            ("name", json!("a b"), "scans: name: write 1 to 64"),
            ("schedule", json!("0 25 * * *"), "scans.n.schedule: the hour: it is 0 to 23"),
            ("paths", json!([]), "scans.n.paths: write at least one"),
            ("paths", json!(["srv"]), "scans.n.paths: write whole paths"),
            ("paths", json!(["/srv/../etc"]), "scans.n.paths: write whole paths"),
            ("exclude", json!({"paths": ["a/b"]}), "scans.n.exclude.paths: write names"),
            ("exclude", json!({"extensions": [".iso"]}), "scans.n.exclude.extensions: write ends"),
            ("exclude", json!({"processes": ["/x"]}), "unknown field `processes`"),
            ("cpu_percent", json!(0), "scans.n.cpu_percent: write 1 to 100, found 0"),
            ("cpu_percent", json!(101), "found 101"),
            ("jitter_minutes", json!(1_441), "scans.n.jitter_minutes: write 0 to 1440"),
            ("action", json!("delete"), "expected `quarantine` or `report`"),
            ("when", json!("now"), "unknown field `when`"),
        ] {
            let mut scan = good.clone();
            scan[field] = value;
            let error = antimalware(json!({ "scans": [scan] })).expect_err(field);
            assert!(error.contains(said) && error.contains("layer host"), "{field}: {error}");
        }
        let error = antimalware(json!({ "scans": [good, good] })).expect_err("twice");
        assert!(error.contains("two are named n"), "{error}");
        let many: Vec<Value> = (0..51).map(|n| json!({"name": format!("n{n}"), "paths": ["/"]})).collect();
        assert!(antimalware(json!({ "scans": many })).expect_err("many").contains("at most 50, found 51"));
    }

    #[test]
    fn what_real_time_protection_leaves_alone_is_checked_too() {
        let exclude = |value: Value| antimalware(json!({ "exclude": value })).map(|policy| policy.exclude);
        let found = exclude(json!({"processes": ["/usr/sbin/backup"], "extensions": ["iso"]})).expect("valid");
        assert_eq!((found.processes, found.paths), (vec!["/usr/sbin/backup".to_owned()], Vec::<String>::new()));
        for (value, said) in [
            (json!({"processes": ["backup"]}), "exclude.processes: write whole paths"),
            (json!({"paths": [""]}), "exclude.paths: write names"),
            (json!({"extensions": ["a/b"]}), "exclude.extensions: write ends"),
        ] {
            let error = exclude(value).expect_err(said);
            assert!(error.contains(said), "{error}");
        }
    }
}
