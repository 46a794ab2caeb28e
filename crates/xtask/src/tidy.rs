//! `xtask tidy`: what the tree promises about its own shape.
//!
//! - Each room uses only the rooms that [`ROOMS`] names, so the direction of dependencies is this one table.
//! - The dependency trees of the programs leave out what [`KEPT_OUT`] names.
//! - An engine is pure: what it uses directly and what its sources name are held against two lists.
//! - `unsafe` is allowed in two rooms; no file is longer than [`LONGEST`] lines; nothing is left to be done later
//!   and no test is switched off, but for the exceptions below, each with its reason.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail, ensure};
use serde_json::Value as Json;

/// Every room, and the rooms that it may use. Everything may use `model`.
const ROOMS: &[(&str, &[&str])] = &[
    ("model", &[]),
    // Foundations and engines know nothing but the model, and not one another.
    ("sys", &[]),
    ("journal", &[]),
    ("wire", &[]),
    ("runtime", &[]),
    ("detect", &[]),
    ("malware", &[]),
    // Hands hostile bytes to workers and knows which engine judges them, for every binary that scans.
    ("scan", &["sys", "malware", "content"]),
    ("network", &[]),
    ("identity", &[]),
    ("content", &["detect", "sys", "journal", "wire", "runtime"]),
    ("respond", &["detect", "sys", "journal", "wire", "runtime"]),
    // Adapters implement the ports of `respond`; they know no rules.
    ("host", &["sys", "journal", "wire", "runtime", "respond"]),
    ("cloud", &["sys", "journal", "wire", "runtime", "respond"]),
    ("store", &["sys", "journal", "wire", "runtime", "respond"]),
    // The agent never links `cloud` or `store`, the manager never `host`.
    (
        "agent",
        &["sys", "journal", "wire", "runtime", "detect", "malware", "network", "content", "respond", "host", "scan"],
    ),
    (
        "manager",
        &["sys", "journal", "wire", "runtime", "detect", "identity", "network", "content", "respond", "cloud", "store"],
    ),
    // The command line runs `sakimori-agent` as a program of its own.
    (
        "cli",
        &[
            "sys", "journal", "wire", "runtime", "detect", "malware", "network", "content", "respond", "cloud",
            "store", "manager", "scan",
        ],
    ),
    ("bench", ALL),
    ("xtask", ALL),
];

/// A row that may use every room.
const ALL: &[&str] = &["*"];

/// Of which package's whole dependency tree (normal and build dependencies) which beginnings of names stay out.
const KEPT_OUT: &[(&str, &[&str])] = &[
    // A protected host runs no query engine and no cloud SDK.
    ("sakimori-agent", &["datafusion", "deltalake", "aws-sdk-", "aya", "sakimori-cloud", "sakimori-store"]),
    // A manager has nothing that changes the host that it runs on.
    ("sakimori-manager", &["sakimori-host", "aya"]),
    ("sakimori-cli", &["sakimori-host", "aya"]),
];

/// Engines: pure, and never using one another.
const ENGINES: &[&str] = &["detect", "malware", "network", "identity"];
/// What an engine must not have as a direct dependency.
const NOT_FOR_ENGINES: &[&str] = &["tokio", "reqwest", "hyper", "hyper-util", "tonic", "axum", "rustix", "libc"];
/// What the sources of an engine must not name: files, threads, sockets, clocks, the environment.
const IMPURE: &[&str] = &[
    "std::fs",
    "std::thread",
    "std::process",
    "std::env",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "UnixStream",
    "SystemTime::now",
    "Instant::now",
    "Utc::now",
    "Local::now",
];

/// Rooms that may hold unsafe code.
const UNSAFE_ROOMS: &[&str] = &["sys", "host"];

/// Most lines of a file.
const LONGEST: usize = 600;
/// Files that are longer, and why.
const LONGER: &[(&str, &str)] = &[];

/// Tests that are switched off, and why.
const SWITCHED_OFF: &[(&str, &str)] = &[
    ("crates/sys/tests/nft.rs", "run as a child without rights by the test that its reason names"),
    ("crates/store/src/control/measure_tests.rs", "a measurement, run by hand"),
    ("crates/store/src/lake/measure_tests.rs", "a measurement, run by hand"),
];

/// Marks of work that is left, in two halves so that this file does not hold them.
const LEFT: &[(&str, &str)] = &[("todo", "!("), ("unimplemented", "!(")];

/// Checks all of it and prints what is wrong.
pub fn run() -> anyhow::Result<()> {
    let failures = check()?;
    for failure in &failures {
        eprintln!("{failure}");
    }
    if failures.is_empty() { Ok(()) } else { bail!("{} things are out of order; see above", failures.len()) }
}

fn check() -> anyhow::Result<Vec<String>> {
    let mut failures = directions(&packages()?);
    for (package, kept_out) in KEPT_OUT {
        failures.extend(strangers(package, &tree(package)?, kept_out));
    }
    for (path, text) in sources()? {
        failures.extend(source(&path, &text));
    }
    Ok(failures)
}

/// A package of the workspace and its direct dependencies of every kind.
struct Package {
    room: String,
    uses: Vec<String>,
}

/// The folder of the tree. Cargo tells it when it runs: clones may share their build cache.
pub fn root() -> PathBuf {
    Path::new(&std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default()).join("../..")
}

fn cargo(arguments: &[&str]) -> anyhow::Result<String> {
    let program = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let line = arguments.join(" ");
    let output = Command::new(program)
        .args(arguments)
        .args(["--locked", "--offline"])
        .current_dir(root())
        .output()
        .with_context(|| format!("cannot run cargo {line}"))?;
    ensure!(output.status.success(), "cargo {line} failed: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).with_context(|| format!("cargo {line} answered something that is no text"))
}

fn packages() -> anyhow::Result<Vec<Package>> {
    let metadata: Json = serde_json::from_str(&cargo(&["metadata", "--no-deps", "--format-version", "1"])?)?;
    let list = |json: &Json, name: &str| json.get(name).and_then(Json::as_array).cloned().unwrap_or_default();
    let name = |json: &Json| json.get("name").and_then(Json::as_str).map(str::to_owned);
    list(&metadata, "packages")
        .iter()
        .map(|package| {
            let full = name(package).context("a package without a name")?;
            let room = full.strip_prefix("sakimori-").with_context(|| format!("{full} is not called sakimori-…"))?;
            Ok(Package { room: room.into(), uses: list(package, "dependencies").iter().filter_map(name).collect() })
        })
        .collect()
}

/// Names of all packages that this one is built from, for this platform, with the features it has alone.
fn tree(package: &str) -> anyhow::Result<Vec<String>> {
    let text = cargo(&["tree", "-p", package, "-e", "normal,build", "--prefix", "none", "--format", "{p}"])?;
    Ok(text.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect())
}

/// Dependencies that go against the table.
fn directions(packages: &[Package]) -> Vec<String> {
    let mut failures = Vec::new();
    for Package { room, uses } in packages {
        let Some((_, allowed)) = ROOMS.iter().find(|(name, _)| name == room) else {
            failures.push(format!("crates/{room} has no row in ROOMS: say there what it may use"));
            continue;
        };
        for used in uses.iter().filter_map(|name| name.strip_prefix("sakimori-")) {
            if used != "model" && *allowed != ALL && !allowed.contains(&used) {
                failures.push(format!("crates/{room} must not use crates/{used}"));
            }
        }
        if ENGINES.contains(&room.as_str()) {
            let foreign = uses.iter().filter(|name| NOT_FOR_ENGINES.contains(&name.as_str()));
            failures.extend(foreign.map(|name| format!("crates/{room} is an engine and must not use {name}")));
        }
    }
    failures
}

fn strangers(package: &str, tree: &[String], kept_out: &[&str]) -> Vec<String> {
    let mut found: Vec<&String> =
        tree.iter().filter(|name| kept_out.iter().any(|beginning| name.starts_with(beginning))).collect();
    found.sort();
    found.dedup();
    found.iter().map(|name| format!("{package} links {name}; `cargo tree -p {package} -i {name}` says why")).collect()
}

/// Rust and SQL files of the tree, as paths from its root, with their text.
fn sources() -> anyhow::Result<Vec<(String, String)>> {
    let root = root();
    let mut folders = vec![root.join("crates"), root.join("fuzz")];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))? {
            let path = entry?.path();
            if path.is_dir() && !path.ends_with("target") {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs" || end == "sql") {
                let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
                found.push((path.strip_prefix(&root).unwrap_or(&path).display().to_string(), text));
            }
        }
    }
    ensure!(found.len() > 100, "only {} sources found under {}", found.len(), root.display());
    Ok(found)
}

/// What is wrong with one source.
fn source(path: &str, text: &str) -> Vec<String> {
    let mut failures = Vec::new();
    let is_listed = |list: &[(&str, &str)]| list.iter().any(|(listed, _)| *listed == path);
    let room = path.strip_prefix("crates/").and_then(|rest| rest.split('/').next()).unwrap_or_default();
    let lines = text.lines().count();
    if lines > LONGEST && !is_listed(LONGER) {
        failures.push(format!("{path}: {lines} lines; is it two things? {LONGEST} are the most"));
    }
    if text.contains(concat!("allow", "(unsafe_code)")) && !UNSAFE_ROOMS.contains(&room) {
        failures.push(format!("{path}: unsafe code belongs in crates/sys or crates/host"));
    }
    if text.lines().any(|line| line.trim_start().starts_with(concat!("#[", "ignore"))) && !is_listed(SWITCHED_OFF) {
        failures.push(format!("{path}: a test is switched off"));
    }
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    for line in code {
        if let Some((word, _)) = LEFT.iter().find(|(word, end)| line.contains(&format!("{word}{end}"))) {
            failures.push(format!("{path}: {word} is left"));
        }
    }
    if ENGINES.contains(&room) && path.contains("/src/") && !path.ends_with("_tests.rs") {
        let own = text.split("#[cfg(test)]").next().unwrap_or(text);
        let named = IMPURE.iter().filter(|name| own.contains(**name));
        failures.extend(named.map(|name| format!("{path}: an engine is pure and must not name {name}")));
    }
    failures
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_is_in_order() {
        let failures = check().unwrap();
        assert!(failures.is_empty(), "{}", failures.join("\n"));
    }

    #[test]
    fn a_dependency_against_the_direction_is_found() {
        let package = |room: &str, uses: &[&str]| Package {
            room: room.into(),
            uses: uses.iter().map(|name| (*name).to_owned()).collect(),
        };
        let found = |room: &str, uses: &[&str]| directions(&[package(room, uses)]).len();
        assert_eq!(found("agent", &["sakimori-model", "sakimori-host", "tokio"]), 0);
        assert_eq!(found("agent", &["sakimori-store", "sakimori-cloud"]), 2);
        assert_eq!(found("manager", &["sakimori-host"]), 1);
        assert_eq!(found("detect", &["sakimori-model", "tokio"]), 1);
        assert_eq!(found("model", &["sakimori-wire"]), 1);
        assert_eq!(found("bench", &["sakimori-host", "sakimori-manager"]), 0);
        assert_eq!(found("newcomer", &[]), 1);
    }

    #[test]
    fn a_stranger_in_a_dependency_tree_is_found_by_the_beginning_of_its_name() {
        let tree = ["aws-sdk-wafv2", "aws-sdk-wafv2", "awsome", "serde"].map(str::to_owned);
        assert_eq!(strangers("sakimori-agent", &tree, &["aws-sdk-"]).len(), 1);
    }

    #[test]
    fn what_a_source_must_not_hold_is_found() {
        let long = "\n".repeat(LONGEST + 1);
        assert_eq!(source("crates/model/src/a.rs", &long).len(), 1);
        let allowed = format!("#![{}{}]", "allow", "(unsafe_code)");
        assert_eq!(source("crates/model/src/a.rs", &allowed).len(), 1);
        assert_eq!(source("crates/sys/src/a.rs", &allowed).len(), 0);
        let off = format!("    #[{}]\n", "ignore");
        assert_eq!(source("crates/model/src/a.rs", &off).len(), 1);
        let left = format!("fn f() {{ {}{}) }}", "todo", "!(");
        assert_eq!(source("crates/model/src/a.rs", &left).len(), 1);
        assert_eq!(source("crates/detect/src/a.rs", "let now = Utc::now();").len(), 1);
        assert_eq!(source("crates/detect/src/a.rs", "#[cfg(test)]\nmod t { use std::fs; }").len(), 0);
    }
}
