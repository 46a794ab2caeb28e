use serde_json::json;

use super::*;
use crate::testing::now;

const HOST: &str = "\
id: block-on-host
title: { en: Block on the host, ja: ホストで遮断 }
trigger:
  alert:
    rules: [ssh-brute-force]
    severity_at_least: medium
    scope: host
when: has(event.source.ip)
steps:
  - action: block_address
    target: event.source.ip
    when: alert.count > 2
    expiry: 1h
";

const WIDE: &str = "\
id: tell
title: { en: Tell }
trigger: { alert: { scope: wide } }
steps:
  - action: waf_block
    target: event.source.ip
    on_failure: continue
  - action: notify_webhook
    channel: ops
    inputs: { text: look }
";

fn alert(mut extra: serde_json::Value) -> Event {
    let mut json = json!({
        "source": {"ip": "198.51.100.7"},
        "event": {"severity": 75},
        "rule": {"id": "ssh-brute-force", "name": "SSH brute force"},
        "sakimori": {"alert": {"count": 5, "events": ["a:l:1.0", "a:l:1.1"]}},
    });
    for (name, value) in std::mem::take(extra.as_object_mut().unwrap()) {
        json[name] = value;
    }
    Event::from_json(json.as_object().unwrap().clone()).0
}

fn setting(scope: Scope) -> Setting<'static> {
    Setting { place: "agent-1", now: now(0), scope }
}

#[test]
fn a_step_scans_where_the_alert_points() {
    let text = HOST
        .replace(
            "action: block_address",
            "action: scan_paths\n    inputs: { report_only: \"true\", paths: '[\"/tmp\"]' }",
        )
        .replace("target: event.source.ip", "target: event.file.directory")
        .replace("    expiry: 1h\n", "");
    let playbook = Playbook::parse("p.yml", &text).unwrap();
    let found = alert(json!({"file": {"directory": "/srv/www", "hash": {"sha256": "ab"}}}));
    let orders = playbook.evaluate(&found, "alert-1", &setting(Scope::Host));
    let [order] = orders.as_slice() else { panic!("{orders:?}") };
    let scan = crate::actions::scan_paths::scan(order).unwrap();
    assert_eq!((scan.paths, order.expiry), (vec!["/srv/www".to_owned(), "/tmp".to_owned()], None));
    assert!(!order.inputs.contains_key(quarantine_file::SHA256), "a scan is about no single content");
    let wrong = Playbook::parse("p.yml", &text.replace("report_only", "shell")).unwrap_err();
    assert!(wrong.reason.contains("shell"), "{wrong}");
}

#[test]
fn processes_are_named_by_the_event() {
    for (action, target, expected) in [
        ("kill_tree", "event.process.entity_id", "process/4711@99"),
        ("freeze_processes", "event.process.executable", "process//tmp/mi ner"),
        ("freeze_processes", "'sha256:' + event.process.hash.sha256", &format!("process/sha256:{}", "a".repeat(64))),
        ("collect_triage", "event.host.name", "host/web1"),
    ] {
        let text = HOST
            .replace("action: block_address", &format!("action: {action}"))
            .replace("target: event.source.ip", &format!("target: \"{target}\""))
            .replace("    expiry: 1h\n", "");
        let playbook = Playbook::parse("p.yml", &text).unwrap();
        let process = json!({"entity_id": "4711@99", "executable": "/tmp/mi ner", "hash": {"sha256": "a".repeat(64)}});
        let found = alert(json!({"process": process, "host": {"name": "web1"}}));
        let orders = playbook.evaluate(&found, "alert-1", &setting(Scope::Host));
        assert_eq!(orders.len(), 1, "{action}: {:?}", playbook.dry_run(&found, "alert-1", &setting(Scope::Host)));
        assert_eq!(orders.first().map(|order| order.target.to_string()).as_deref(), Some(expected), "{action}");
    }
}

#[test]
fn an_alert_becomes_an_order_with_its_cause() {
    let playbook = Playbook::parse("p.yml", HOST).unwrap();
    let orders = playbook.evaluate(&alert(json!({})), "alert-1", &setting(Scope::Host));
    let [order] = orders.as_slice() else { panic!("{orders:?}") };
    assert_eq!((order.action.as_str(), order.target.to_string().as_str()), ("block_address", "198.51.100.7"));
    assert_eq!(order.expiry, Some(now(3600)));
    assert_eq!(order.cause.by, "playbook:block-on-host");
    assert_eq!(order.cause.events, ["a:l:1.0", "a:l:1.1"]);
    assert!(!order.probe && order.via.is_none());
    let again = playbook.evaluate(&alert(json!({})), "alert-1", &setting(Scope::Host));
    assert_eq!(again.first().map(|order| &order.id), Some(&order.id), "a replay finds the same id");
    let other = playbook.evaluate(&alert(json!({})), "alert-2", &setting(Scope::Host));
    assert_ne!(other.first().map(|order| &order.id), Some(&order.id));
}

#[test]
fn proxy_and_probe_travel_with_the_order() {
    let playbook = Playbook::parse("p.yml", HOST).unwrap();
    let about = json!({"sakimori": {"alert": {"count": 5}, "proxy": {"ip": "203.0.113.80"}, "probe": true}});
    let orders = playbook.evaluate(&alert(about), "alert-1", &setting(Scope::Host));
    assert_eq!(orders.first().and_then(|order| order.via), "203.0.113.80".parse().ok());
    assert!(orders.iter().all(|order| order.probe));
}

#[test]
fn what_does_not_match_gives_nothing_and_the_dry_run_says_why() {
    let playbook = Playbook::parse("p.yml", HOST).unwrap();
    for (extra, scope, why) in [
        (json!({"rule": {"id": "other"}}), Scope::Host, "not among its rules"),
        (json!({"event": {"severity": 10}}), Scope::Host, "below 50"),
        (json!({"source": {}}), Scope::Host, "condition is false"),
        (json!({"sakimori": {"alert": {"count": 1}}}), Scope::Host, "no block_address: its condition is false"),
        (json!({}), Scope::Wide, "runs elsewhere"),
    ] {
        let alert = alert(extra);
        assert_eq!(playbook.evaluate(&alert, "a", &setting(scope)), [], "{why}");
        let lines = playbook.dry_run(&alert, "a", &setting(scope));
        assert!(lines.iter().any(|line| line.contains(why)), "{lines:?} should say {why}");
    }
    let lines = playbook.dry_run(&alert(json!({})), "a", &setting(Scope::Host));
    assert!(lines[0].starts_with("block-on-host: would block_address 198.51.100.7 until"), "{lines:?}");
}

#[test]
fn a_wide_playbook_blocks_in_front_and_tells() {
    let playbook = Playbook::parse("p.yml", WIDE).unwrap();
    let orders = playbook.evaluate(&alert(json!({})), "a", &setting(Scope::Wide));
    let kinds: Vec<_> = orders.iter().map(|order| (order.action.as_str(), order.target.to_string())).collect();
    // The slug of before is understood.
    let wanted = [("waf_block", "198.51.100.7".to_owned()), ("notify", "ops".to_owned())];
    assert_eq!(kinds, wanted);
    assert_eq!(orders[1].inputs.get("text").map(String::as_str), Some("look"));
}

#[test]
fn errors_name_file_line_and_reason() {
    let change = |from: &str, to: &str| {
        assert!(HOST.contains(from));
        HOST.replace(from, to)
    };
    for (text, line, reason) in [
        (change("when: has(event.source.ip)", "when: has(event.source.ip"), 8, "when: "),
        (change("target: event.source.ip", "target: evnt.source.ip"), 11, "unknown name evnt"),
        (change("when: alert.count > 2", "when: \"alert.count >\""), 12, "when: "),
        (change("when: alert.count > 2", "when: |\n      alert.count\n      > > 2"), 14, "when: "),
        (change("expiry: 1h", "expiry: soon"), 13, "90s, 30m"),
        (change("expiry: 1h", "expiry: 400d"), 13, "up to 366d"),
        (change("block_address", "block_adress"), 10, "known are block_address"),
        (change("block_address", "waf_block"), 10, "write scope: wide"),
        (change("scope: host", "scope: galaxy"), 7, "galaxy"),
        (change("expiry: 1h", "expires: 1h"), 13, "expires"),
        (change("    expiry: 1h", "    inputs: { text: x }"), 13, "no input named text"),
        (change("id: block-on-host", "id: block on host"), 1, "slug"),
        ("id: [".to_owned(), 1, ""),
        (WIDE.replace("    channel: ops\n", "    target: event.source.ip\n"), 8, "needs a channel"),
        (WIDE.replace("channel: ops", "channel: ops\n    expiry: 1h"), 10, "does not expire"),
        (format!("{WIDE}{}", "#".repeat(MAX_FILE)), 1, "larger than"),
    ] {
        let error = Playbook::parse("content/playbooks/p.yml", &text).unwrap_err();
        assert!(error.reason.contains(reason), "{error} should say {reason}");
        assert_eq!((error.file.as_str(), error.line), ("content/playbooks/p.yml", line), "{error}");
    }
}

#[test]
fn steps_are_bounded() {
    let steps = "  - { action: waf_block, target: event.source.ip }\n".repeat(MAX_STEPS + 1);
    let text = format!("id: x\ntitle: {{ en: X }}\ntrigger: {{ alert: {{ scope: wide }} }}\nsteps:\n{steps}");
    assert!(Playbook::parse("p.yml", &text).unwrap_err().reason.contains("1 to 32 steps"));
}

#[test]
fn the_playbooks_that_are_shipped_are_good() {
    let folder = "../../content/playbooks";
    // What they speak of: an address that a log names, one that a packet came from, a file.
    let examples = [
        alert(json!({})),
        alert(json!({
            "rule": {"id": "9100201", "ruleset": "suricata"},
            "network": {"direction": "inbound"},
            "client": {"ip": "198.51.100.7"},
        })),
        alert(json!({
            "sakimori": {"module": "antimalware"},
            "file": {"path": "/srv/a.php", "hash": {"sha256": "ab".repeat(32)}},
        })),
        alert(json!({
            "rule": {"id": "finding-malware-stays", "name": "Malware that is still there"},
            "cloud": {"instance": {"id": "i-0a1b2c3d"}, "account": {"id": "123456789012"}, "region": "ap-northeast-1"},
        })),
        alert(json!({"rule": {"id": "finding-malware"}, "host": {"name": "PC-0042"}})),
        alert(json!({
            "rule": {"id": "finding-stolen-key"},
            "user": {"name": "deploy"},
            "sakimori": {"cloud": {"access_key": "AKIAEXAMPLE"}},
        })),
        alert(json!({"rule": {"id": "finding-open-bucket"}, "sakimori": {"cloud": {"bucket": "photos"}}})),
        alert(json!({"rule": {"id": "finding-intrusion"}})),
        alert(json!({"rule": {"id": "web-network-flood"}, "sakimori": {"client_network": "203.0.113.0/24"}})),
    ];
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "yml") {
            let playbook = Playbook::parse(&path.to_string_lossy(), &std::fs::read_to_string(&path).unwrap()).unwrap();
            let orders = |alert: &Event| playbook.evaluate(alert, "a", &setting(playbook.scope)).len();
            let steps = |alert: &Event| {
                let fits =
                    playbook.fits(alert, "a", Scope::Wide).is_ok() || matches!(playbook.trigger, Trigger::Manual);
                let (told, end, reason) = crate::execution::rehearse(&playbook, alert, "a", now(0), (0, 10));
                let acts = told.iter().filter(|one| one.order.is_some()).count();
                fits && acts >= 1 && (end, &reason) == (crate::execution::State::Done, &None)
            };
            let works = |alert: &Event| if playbook.is_plain() { orders(alert) == 1 } else { steps(alert) };
            assert!(examples.iter().any(works), "{}", playbook.id);
            assert!(
                playbook.acts().iter().all(|act| act.action.undo.is_some()
                    || act.action.target == TargetKind::Channel
                    || ["disks_snapshot", "instance_terminate"].contains(&act.action.id)),
                "{}",
                playbook.id
            );
            if playbook.acts().iter().any(|act| act.action.runs == Runs::Account) {
                assert!(!playbook.enabled, "{} is off until it is switched on", playbook.id);
            }
            seen += 1;
        }
    }
    assert!(seen >= 3, "block on the host, block in front, tell");
}

/// A playbook with all kinds of steps.
const LONG: &str = "\
id: long
title: { en: Long }
trigger: { alert: { scope: wide } }
limits: { most: 3, within: 1h }
quiet_hours: { from: \"22:00\", to: \"07:00\", zone: Asia/Tokyo, then: wait }
stop_when: steps.key == \"failed\"
steps:
  - id: key
    action: access_key_deactivate
    target: event.source.ip
    timeout: 5m
    retries: 2
  - parallel:
      - { action: waf_block, target: event.source.ip }
      - { action: notify, channel: ops, inputs: { text: { cel: event.source.ip } } }
  - approval: { ask: ops, within: 30m, text: { en: Go on? } }
  - for_each: event.related.ip
    most: 5
    steps:
      - action: waf_block
        target: item
  - wait: 5m
";

#[test]
fn mistakes_in_nested_steps_have_their_line_too() {
    let playbook = Playbook::parse("p.yml", LONG).unwrap();
    assert!(!playbook.is_plain() && playbook.acts().len() == 4);
    assert!(playbook.evaluate(&alert(json!({})), "a", &setting(Scope::Wide)).is_empty(), "it is driven step by step");
    for (from, to, line, reason) in [
        ("id: key", "id: k y", 8, "slug"),
        ("action: waf_block, target", "action: waf_blok, target", 14, "unknown action waf_blok"),
        ("cel: event.source.ip", "cel: item", 15, "unknown name item"),
        ("target: item", "target: items", 21, "unknown name items"),
        ("wait: 5m", "wait: 9d", 22, "up to 7d"),
        ("within: 30m", "within: soon", 16, "30m"),
        ("ask: ops, within", "ask: a b, within", 16, "names a channel"),
        ("most: 5", "most: 0", 18, "1 to 1000"),
        ("retries: 2", "retries: 99", 12, "at most 10"),
        ("steps.key ==", "step.key ==", 6, "known are event, alert, steps"),
        ("most: 3, within", "within", 4, "most: a number"),
        ("zone: Asia/Tokyo", "zone: Asia/Tokio", 5, "unknown time zone"),
        ("then: wait", "then: ask", 5, "ask: the channel"),
        ("{ alert: { scope: wide } }", "{ alert: { scope: host } }", 9, "write scope: wide"),
        ("{ alert: { scope: wide } }", "{ manual: {}, webhook: { way: x } }", 3, "one trigger"),
        ("{ alert: { scope: wide } }", "{ schedule: { cron: \"61 * * * *\" } }", 3, "minute"),
        ("  - wait: 5m", "  - id: key\n    wait: 5m", 22, "two steps are called key"),
        ("  - wait: 5m", "  - { wait: 5m, retries: 1 }", 22, "belong to an action"),
        ("  - wait: 5m", "  - { wait: 5m, action: waf_block }", 22, "a step is one of"),
    ] {
        assert!(LONG.contains(from), "{from}");
        let error = Playbook::parse("p.yml", &LONG.replacen(from, to, 1)).unwrap_err();
        assert!(error.reason.contains(reason), "{error} should say {reason}");
        assert_eq!(error.line, line, "{error}");
    }
    let deep = "- parallel: [ ".repeat(8);
    let text = format!("id: x\ntitle: {{ en: X }}\ntrigger: {{ manual: {{}} }}\nsteps:\n  {deep}{}", "]".repeat(8));
    assert!(Playbook::parse("p.yml", &text).is_err());
}

#[test]
fn an_alert_of_a_rule_on_trial_leads_to_nothing_anywhere() {
    for (text, scope) in [(HOST, Scope::Host), (WIDE, Scope::Wide)] {
        let playbook = Playbook::parse("p.yml", text).unwrap();
        let mut alert = alert(json!({}));
        assert!(!playbook.evaluate(&alert, "alert-1", &setting(scope)).is_empty());
        alert.set_path(TRIAL, json!(true));
        assert!(playbook.evaluate(&alert, "alert-1", &setting(scope)).is_empty());
        let said = playbook.dry_run(&alert, "alert-1", &setting(scope));
        assert!(said.iter().any(|line| line.ends_with("its rule is on trial")), "{said:?}");
    }
}
