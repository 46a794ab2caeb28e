//! The commands that need no manager, run as a user runs them.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn sakimori(arguments: &[&str]) -> Output {
    command(arguments).stdin(Stdio::null()).output().unwrap()
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sakimori"));
    command.args(arguments);
    for name in ["SAKIMORI_SERVER", "SAKIMORI_TOKEN", "SAKIMORI_STATE", "SAKIMORI_TENANT"] {
        command.env_remove(name);
    }
    command
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn write(dir: &Path, name: &str, text: &str) -> String {
    let path = dir.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

fn failures(address: &str, count: u32) -> String {
    (0..count)
        .map(|at| {
            format!(
                "Nov 24 10:00:{at:02} gate sshd[77]: Failed password for root from {address} port {} ssh2\n",
                4_000 + at
            )
        })
        .collect()
}

#[test]
fn a_log_becomes_ecs_documents_and_its_source_is_told_from_its_lines() {
    let dir = tempfile::tempdir().unwrap();
    let file = write(dir.path(), "auth", &failures("198.51.100.9", 2));
    for arguments in [vec!["logs", "parse", &file], vec!["logs", "parse", &file, "--source", "linux/auth"]] {
        let output = sakimori(&arguments);
        assert!(output.status.success(), "{}", err(&output));
        let events: Vec<Value> = out(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(events.len(), 2);
        assert_eq!(events[0]["source"]["ip"], "198.51.100.9");
        assert_eq!(events[0]["user"]["name"], "root");
        assert_eq!(events[1]["event"]["outcome"], "failure");
    }
}

#[test]
fn a_log_that_nobody_knows_is_an_error_with_the_next_step() {
    let dir = tempfile::tempdir().unwrap();
    let file = write(dir.path(), "x", "neither this\nnor that\n");
    let output = sakimori(&["logs", "parse", &file]);
    assert!(!output.status.success());
    assert!(err(&output).contains("--source") && err(&output).contains("linux/auth"), "{}", err(&output));
    let output = sakimori(&["logs", "parse", &file, "--source", "linux/aut"]);
    assert!(err(&output).contains("there is no log source linux/aut"), "{}", err(&output));
}

#[test]
fn a_hunt_finds_the_attacker_in_raw_lines_and_in_events() {
    let dir = tempfile::tempdir().unwrap();
    let text = failures("198.51.100.9", 6) + &failures("198.51.100.10", 2);
    let file = write(dir.path(), "auth", &text);
    let raw = sakimori(&["hunt", "--json", &file]);
    assert!(raw.status.success(), "{}", err(&raw));
    let found = |output: &Output| -> Vec<(String, String)> {
        let one = |line: &str| -> Value { serde_json::from_str(line).unwrap() };
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        out(output).lines().map(one).map(|alert| (text(&alert["rule"]["id"]), text(&alert["source"]["ip"]))).collect()
    };
    assert_eq!(found(&raw), [("ssh-brute-force".to_owned(), "198.51.100.9".to_owned())]);
    let events = sakimori(&["logs", "parse", &file]);
    let mut child = command(&["hunt", "--json", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(&events.stdout).unwrap();
    assert_eq!(found(&child.wait_with_output().unwrap()), found(&raw));
}

const RULE: &str = "title: Root tried\nid: 7a0c0a51-4d0e-4a53-9a3c-0f3e6a6c1b01\nlogsource:\n  product: linux\n  service: auth\n\
    detection:\n  root:\n    user.name: root\n  condition: root\nlevel: low\n";

#[test]
fn a_hunt_uses_the_rules_of_a_folder_and_leaves_out_the_broken_one() {
    let dir = tempfile::tempdir().unwrap();
    let rules = dir.path().join("rules");
    write(&rules, "root.yml", RULE);
    let broken = write(&rules, "broken.yml", &RULE.replace("condition: root", "condition: nobody"));
    let file = write(dir.path(), "auth", &failures("198.51.100.9", 1));
    let output = sakimori(&["hunt", "--rules", rules.to_str().unwrap(), "--json", &file]);
    assert!(output.status.success(), "{}", err(&output));
    assert_eq!(out(&output).lines().count(), 1, "{}", out(&output));
    assert!(out(&output).contains("Root tried"));
    assert!(err(&output).contains(&broken), "{}", err(&output));
}

#[test]
fn a_malformed_rule_is_named_with_file_line_and_reason_and_the_others_still_count() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "good.yml", RULE);
    let bad = write(dir.path(), "bad.yml", "title: Bad\nlogsource:\n  product: [\n");
    let output = sakimori(&["rules", "check", dir.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    let line = out(&output).lines().find(|line| line.starts_with(&format!("{bad}:"))).unwrap().to_owned();
    let number: usize = line[bad.len() + 1..].split(':').next().unwrap().parse().unwrap();
    assert!(number >= 3, "{line}");
    assert!(out(&output).contains("1 rules") && out(&output).contains("1 problems"), "{}", out(&output));
    std::fs::remove_file(&bad).unwrap();
    let output = sakimori(&["rules", "check", "--json", dir.path().to_str().unwrap()]);
    assert!(output.status.success(), "{}", out(&output));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["ok"], &report["rules"]), (&Value::Bool(true), &Value::from(1)));
}

#[test]
fn tests_beside_a_rule_are_run_and_a_rule_without_any_is_a_problem() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().to_str().unwrap();
    write(dir.path(), "root.yml", RULE);
    let output = sakimori(&["rules", "test", folder]);
    assert_eq!(output.status.code(), Some(1));
    assert!(out(&output).contains("root.tests.yaml"), "{}", out(&output));
    let line =
        |user: &str| format!("Nov 24 10:00:00 gate sshd[77]: Failed password for {user} from 198.51.100.9 port 1 ssh2");
    let tests = |positive: &str, negative: &str| {
        format!(
            "source: linux/auth\npositive:\n  - name: root\n    lines:\n      - at: 0\n        line: \"{}\"\nnegative:\n  - name: another\n    lines:\n      - at: 0\n        line: \"{}\"\n",
            line(positive),
            line(negative)
        )
    };
    write(dir.path(), "root.tests.yaml", &tests("root", "aiko"));
    let output = sakimori(&["rules", "test", folder]);
    assert!(output.status.success(), "{}", out(&output));
    write(dir.path(), "root.tests.yaml", &tests("root", "root"));
    let output = sakimori(&["rules", "test", folder]);
    assert_eq!(output.status.code(), Some(1));
    assert!(out(&output).contains("another"), "{}", out(&output));
}

#[test]
fn an_unknown_key_of_a_configuration_is_named_with_file_and_line() {
    let dir = tempfile::tempdir().unwrap();
    let good = write(dir.path(), "good.toml", "[lake]\nflush_seconds = 5\n");
    assert!(sakimori(&["config", "check", &good]).status.success());
    let bad = write(dir.path(), "bad.toml", "[lake]\nflush_seconds = 5\nflush_second = 6\n");
    let output = sakimori(&["config", "check", &bad]);
    assert_eq!(output.status.code(), Some(1));
    assert!(err(&output).contains(&format!("{bad}:3:")) && err(&output).contains("flush_second"), "{}", err(&output));
}

#[test]
fn a_bundle_is_built_verified_and_refused_when_it_was_changed() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let output = sakimori(&["bundle", "build", "--key", &path("key"), "--number", "7", "--out", &path("b"), "--json"]);
    assert!(output.status.success(), "{}", err(&output));
    let built: Value = serde_json::from_slice(&output.stdout).unwrap();
    let key = built["key"].as_str().unwrap();
    assert!(sakimori(&["bundle", "verify", &path("b"), "--key", key]).status.success());
    assert!(!sakimori(&["bundle", "verify", &path("b"), "--key", key, "--newer-than", "7"]).status.success());
    let mut bytes = std::fs::read(path("b")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path("b"), bytes).unwrap();
    let output = sakimori(&["bundle", "verify", &path("b"), "--key", key]);
    assert!(!output.status.success() && err(&output).contains("refused"), "{}", err(&output));
}

#[test]
fn every_command_has_help_and_completions_and_man_pages_are_made() {
    let help = out(&sakimori(&["--help"]));
    for command in
        ["up", "down", "manager", "agent", "doctor", "events", "alerts", "actions", "rules", "policy", "hunt"]
    {
        assert!(help.contains(&format!("\n  {command}")), "{command} is missing in\n{help}");
        let output = sakimori(&["help", command]);
        assert!(output.status.success() && !out(&output).is_empty(), "{command}");
    }
    assert!(help.contains("Examples:"));
    for shell in ["bash", "zsh", "fish"] {
        let output = sakimori(&["completions", shell]);
        assert!(output.status.success() && out(&output).contains("sakimori"), "{shell}");
    }
    let dir = tempfile::tempdir().unwrap();
    assert!(sakimori(&["man", dir.path().to_str().unwrap()]).status.success());
    let page = std::fs::read_to_string(dir.path().join("sakimori-events-search.1")).unwrap();
    assert!(page.contains("sakimori"));
}

#[test]
fn without_a_manager_the_error_names_the_next_step_and_nothing_is_coloured() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().to_str().unwrap();
    let output = sakimori(&["--state", state, "alerts"]);
    assert!(!output.status.success());
    assert!(err(&output).contains("sakimori up"), "{}", err(&output));
    assert!(!err(&output).contains('\u{1b}'));
    let output = sakimori(&["--server", "http://127.0.0.1:9", "--token", "t", "--state", state, "alerts"]);
    assert!(err(&output).contains("no manager answers at http://127.0.0.1:9"), "{}", err(&output));
    let output = sakimori(&["--state", state, "down"]);
    assert!(output.status.success(), "{}", err(&output));
}

#[test]
fn a_forgotten_password_is_reset_where_the_database_lies() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("manager");
    let config = write(dir.path(), "manager.toml", &format!("state_dir = \"{}\"\n", state.display()));
    let arguments = ["user", "reset-password", "admin", "--config", &config, "--json"];
    let output = sakimori(&arguments);
    assert!(!output.status.success() && err(&output).contains("control.db"), "{}", err(&output));
    std::fs::create_dir_all(&state).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let first = runtime.block_on(async {
        let url = format!("sqlite:{}", state.join("control.db").display());
        let control = sakimori_store::control::Control::open(&url).await.unwrap();
        let made = sakimori_manager::api::ensure_first_user(&control, &sakimori_runtime::SystemClock).await.unwrap();
        control.close().await;
        made.unwrap()
    });
    let output = sakimori(&arguments);
    assert!(output.status.success(), "{}", err(&output));
    let made: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(made["password"].as_str().unwrap().len() >= 12 && made["password"] != first.as_str());
}

/// A capture file with one datagram: a question for a name, in an IPv4 packet without a link header.
fn capture() -> Vec<u8> {
    let question = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x04evil\x07example\x00\x00\x01\x00\x01";
    let length = |more: usize| u16::try_from(question.len() + more).unwrap().to_be_bytes();
    let mut packet = [&[0x45, 0][..], &length(28), &[0, 1, 0x40, 0, 64, 17, 0, 0]].concat();
    packet.extend([203, 0, 113, 7, 192, 0, 2, 53, 0x13, 0x88, 0, 53]);
    packet.extend([&length(8)[..], &[0, 0], question].concat());
    let size = u32::try_from(packet.len()).unwrap().to_le_bytes();
    let head = [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65_535, 101].map(u32::to_le_bytes).concat();
    let record = [1_767_323_045_u32, 6].map(u32::to_le_bytes).concat();
    [head, record, size.to_vec(), size.to_vec(), packet].concat()
}

#[test]
fn a_capture_is_written_as_eve_json_to_a_file_or_to_a_pipe() {
    let dir = tempfile::tempdir().unwrap();
    let rules = write(
        dir.path(),
        "a.rules",
        "alert dns any any -> any any (msg:\"Evil\"; dns.query; content:\"evil\"; sid:5; rev:2;)\n",
    );
    let pcap = dir.path().join("a.pcap");
    std::fs::write(&pcap, capture()).unwrap();
    let (pcap, eve) = (pcap.display().to_string(), dir.path().join("eve.json"));
    let records = |text: &str| -> Vec<Value> { text.lines().map(|line| serde_json::from_str(line).unwrap()).collect() };
    let piped = sakimori(&["net", "replay", &pcap, "--rules", &rules, "--eve", "-"]);
    assert!(piped.status.success(), "{}", err(&piped));
    let all = records(&out(&piped));
    let kinds: Vec<&str> = all.iter().map(|one| one["event_type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["alert", "dns", "flow"], "{all:?}");
    assert_eq!(all[0]["timestamp"], "2026-01-02T03:04:05.000006+0000");
    assert_eq!((&all[0]["alert"]["signature_id"], &all[0]["alert"]["rev"]), (&5.into(), &2.into()));
    assert_eq!((&all[1]["dns"]["rrname"], &all[2]["flow"]["alerted"]), (&"evil.example".into(), &true.into()));
    let filed = sakimori(&["net", "replay", &pcap, "--rules", &rules, "--eve", &eve.display().to_string()]);
    assert!(out(&filed).contains("1 packets, 1 alerts"), "{}{}", out(&filed), err(&filed));
    assert_eq!(records(&std::fs::read_to_string(&eve).unwrap()), all);
}

#[test]
fn the_packets_of_an_alerted_flow_become_a_file_that_the_alert_names() {
    let dir = tempfile::tempdir().unwrap();
    let rules = write(
        dir.path(),
        "a.rules",
        "alert dns any any -> any any (msg:\"Evil\"; dns.query; content:\"evil\"; sid:5; rev:2;)\n",
    );
    let (pcap, folder) = (dir.path().join("a.pcap"), dir.path().join("kept"));
    std::fs::write(&pcap, capture()).unwrap();
    let (pcap, kept) = (pcap.display().to_string(), folder.display().to_string());
    let replay = ["net", "replay", &pcap, "--rules", &rules, "--keep-packets", &kept];
    let output = sakimori(&[&replay[..], &["--json"]].concat());
    assert!(output.status.success(), "{}", err(&output));
    let alert: Value = serde_json::from_str(out(&output).trim()).unwrap();
    let name = alert["sakimori"]["network"]["capture"].as_str().unwrap().to_owned();
    assert!(name.starts_with("1767323045000006-replay-") && name.ends_with("-5"), "{name}");
    let file = folder.join(format!("{name}.pcap"));
    assert_eq!(std::fs::read(&file).unwrap(), capture(), "one packet, as it was");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    // It is judged like any other capture. What is there is not written over.
    let again = sakimori(&["net", "replay", &file.display().to_string(), "--rules", &rules]);
    assert!(out(&again).contains("1 packets, 1 alerts"), "{}{}", out(&again), err(&again));
    let twice = sakimori(&replay);
    assert!(!twice.status.success() && err(&twice).contains("File exists"), "{}", err(&twice));
    let other = dir.path().join("other").display().to_string();
    let said = sakimori(&["net", "replay", &pcap, "--rules", &rules, "--keep-packets", &other]);
    assert!(out(&said).contains("packets of 1 flows in"), "{}", out(&said));
}

#[test]
fn a_playbook_that_cannot_be_used_is_refused_by_file_line_and_reason() {
    let dir = tempfile::tempdir().unwrap();
    let good = "id: p\ntitle: { en: P }\ntrigger: { alert: { scope: wide } }\nsteps:\n  \
                - { action: waf_block, target: event.source.ip }\n  - wait: 1m\n";
    let file = write(dir.path(), "good.yml", good);
    let output = sakimori(&["playbook", "check", &file]);
    assert!(output.status.success() && out(&output).contains("good; p (step by step): waf_block"), "{}", err(&output));
    for (name, from, to, line, reason) in [
        ("action", "waf_block", "waf_blok", 5, "known are"),
        ("syntax", "event.source.ip", "'event.source.ip +'", 5, "target: "),
        ("name", "event.source.ip", "evnt.source.ip", 5, "unknown name evnt"),
        ("limit", "steps:", "limits: { most: 3, within: never }\nsteps:", 4, "90s, 30m"),
        ("share", "steps:", "limits: { share: 200, within: 1h }\nsteps:", 4, "1 to 100"),
        ("when", "steps:", "when: 1 / 0 >\nsteps:", 4, "when: "),
        // A document that holds itself, and one that grows without end.
        ("itself", "{ alert: { scope: wide } }", "&a [*a]", 3, ""),
        ("grows", "title: { en: P }", "x: &a [1,1,1,1]\ny: &b [*a,*a,*a,*a]\nz: [*b,*b,*b]\ntitle: { en: P }", 2, "x"),
    ] {
        let text = good.replacen(from, to, 1);
        assert_ne!(text, good, "{name}");
        let file = write(dir.path(), &format!("{name}.yml"), &text);
        let output = sakimori(&["playbook", "check", &file]);
        let said = out(&output) + &err(&output);
        assert!(!output.status.success(), "{name}: {said}");
        assert!(said.contains(&format!("{name}.yml:{line}: ")) && said.contains(reason), "{name}: {said}");
    }
}
