//! Scans by order of the manager, by the real agent: begun, told, killed in the middle, taken back, refused.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod host;
mod manager;

use std::fs::{self, File};
use std::process::Command;

use host::{Host, is_root};
use manager::Manager;
use sakimori_model::action::{Cause, Target};
use sakimori_model::{Order, field};
use sakimori_wire::scans::ScansStatus;

const ON: &str = "[policy.modules.block_address]\nstate = \"off\"\n[policy.modules.antimalware]\nstate = \"on\"\n";

/// The industry's harmless test file. In pieces, so that no scanner takes this source for it.
fn eicar() -> String {
    ["X5O!P%@AP[4\\PZX54(P^)7CC)7}$", "EICAR-STANDARD-ANTIVIRUS-TEST-FILE", "!$H+H*"].concat()
}

fn start(mandate: &str) -> (Manager, Host) {
    let (manager, mut host) = (Manager::start(), Host::new(ON));
    let path = host.path("mandate.toml");
    fs::write(&path, mandate).unwrap();
    let text = fs::read_to_string(host.path("agent.toml")).unwrap();
    let text = text.replacen("[agent]", &format!("[agent]\nmandate = \"{}\"", path.display()), 1);
    fs::write(host.path("agent.toml"), text).unwrap();
    let out = host.command(&["enroll", &manager.token("secret-1")]).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    host.start();
    host.wait("connected", |_| manager.hellos() == 1);
    (manager, host)
}

fn order(id: &str, paths: &[&str], inputs: &[(&str, &str)]) -> Order {
    let mut inputs: std::collections::BTreeMap<String, String> =
        inputs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    if paths.len() > 1 {
        inputs.insert("paths".into(), serde_json::to_string(&paths[1..]).unwrap());
    }
    Order {
        id: id.into(),
        action: "scan_paths".into(),
        target: Target::File(paths[0].into()),
        expiry: None,
        cause: Cause { by: "ann".into(), title: "a look".into(), ..Cause::default() },
        via: None,
        probe: false,
        inputs,
        signatures: Vec::new(),
    }
}

fn scans(host: &Host) -> ScansStatus {
    serde_json::from_value(host.json(&["scan", "status"])).unwrap()
}

/// State and reason of an action, as the host's ledger has it.
fn action(host: &Host, id: &str) -> (String, String) {
    let all = host.json(&["actions", "list", "--all"]);
    let one = all.as_array().unwrap().iter().find(|one| one["order"]["id"] == id).cloned().unwrap_or_default();
    let text = |name: &str| one[name].as_str().unwrap_or_default().to_owned();
    (text("state"), text("reason"))
}

/// Everything about a file that `stat` and `sha256sum` tell, but when it was read.
fn seen(path: &std::path::Path) -> String {
    let stat = Command::new("stat").args(["-c", "%a %u %g %s %h %F %Y %Z %n"]).arg(path).output().unwrap();
    let sum = Command::new("sha256sum").arg(path).output().unwrap();
    String::from_utf8_lossy(&[stat.stdout, sum.stdout].concat()).into_owned()
}

#[test]
fn an_order_scans_its_paths_and_what_is_found_goes_the_usual_way() {
    if !is_root() {
        return;
    }
    let (manager, mut host) = start("");
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(one.path().join("virus.com"), eicar()).unwrap();
    fs::write(two.path().join("clean"), "nothing").unwrap();
    let before = seen(&two.path().join("clean"));
    let paths = [one.path().display().to_string(), two.path().display().to_string()];
    manager.send(manager.order(&order("scan-1", &[&paths[0], &paths[1]], &[("cpu_percent", "50")]), &[]));
    host.wait("it is accepted", |_| manager.replies().iter().any(|reply| reply.id == "scan-1" && reply.accepted));
    host.wait("it is over", |host| action(host, "scan-1").0 == "done");
    let reason = action(&host, "scan-1").1;
    assert!(reason.contains("finished: 2 files") && reason.contains("1 found, 0 not judged"), "{reason}");
    host.wait("the manager hears of all of it", |_| {
        manager.states("scan-1").last().is_some_and(|state| state == "done") && manager.said("scan-finished") == 1
    });
    assert_eq!(manager.states("scan-1"), ["running", "done"]);
    let report =
        manager.events("agent").into_iter().find(|event| event.str(field::EVENT_ACTION) == Some("scan-finished"));
    let report = report.unwrap();
    assert_eq!(report.str(field::SAKIMORI_SCAN_ID), Some("scan-1"), "the scan has the order's id");
    assert_eq!(report.str(field::SAKIMORI_SCAN_BY), Some("ann, by the manager"));
    assert_eq!((report.long(field::SAKIMORI_SCAN_FILES), report.long(field::SAKIMORI_SCAN_FOUND)), (Some(2), Some(1)));
    let alert =
        manager.events("agent").into_iter().find(|event| event.str(field::EVENT_KIND) == Some("alert")).unwrap();
    assert_eq!(alert.str(field::SAKIMORI_SCAN_ID), Some("scan-1"));
    host.wait("it lies in quarantine", |_| !one.path().join("virus.com").exists());
    assert_eq!(seen(&two.path().join("clean")), before, "what was clean is as it was");
    // Over, it has nothing to take back; and the same order again is the same.
    manager.send(manager.undo("scan-1", "ann"));
    host.wait("an answer", |_| manager.replies().iter().any(|reply| reply.undo && !reply.accepted));
    manager.send(manager.order(&order("scan-1", &[&paths[0], &paths[1]], &[("cpu_percent", "50")]), &[]));
    host.wait("an answer", |_| manager.replies().len() == 3);
    assert_eq!((action(&host, "scan-1").0.as_str(), scans(&host).now), ("done", None));
    host.stop();
}

#[test]
fn an_ordered_scan_survives_a_crash_and_is_ended_by_its_undo() {
    if !is_root() {
        return;
    }
    let (manager, mut host) = start("");
    let folder = tempfile::tempdir().unwrap();
    for n in 0..60 {
        File::create(folder.path().join(format!("slow-{n:02}"))).unwrap().set_len(40 << 20).unwrap();
    }
    let path = folder.path().display().to_string();
    let report_only = [("report_only", "true"), ("cpu_percent", "30")];
    manager.send(manager.order(&order("scan-1", &[&path], &report_only), &[]));
    manager.send(manager.order(&order("scan-2", &[&path], &report_only), &[]));
    let under_way = |host: &Host, id: &str, files: u64| {
        scans(host).now.is_some_and(|scan| scan.id == id && scan.counts.files >= files)
    };
    host.wait("files are scanned", |host| under_way(host, "scan-1", 3));
    let file = host.state().join("scans.json");
    host.wait("its position is kept", |_| {
        let kept: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap_or_default()).unwrap_or_default();
        kept["work"]["counts"]["files"].as_u64().is_some_and(|files| files >= 3)
    });
    host.kill();
    host.start();
    host.wait("it goes on", |host| under_way(host, "scan-1", 5));
    let now = scans(&host).now.unwrap();
    assert!(now.continued == 1 && scans(&host).waiting.len() == 1, "neither is begun twice: {:?}", scans(&host));
    assert_eq!((action(&host, "scan-1").0.as_str(), action(&host, "scan-2").0.as_str()), ("running", "running"));
    // The whole file of scans is lost: the ledger still knows what was ordered.
    host.kill();
    fs::remove_file(&file).unwrap();
    host.start();
    host.wait("both are there again", |host| {
        let scans = scans(host);
        scans.now.is_some() && scans.waiting.len() == 1
    });
    // One that waits and one under way are ended by their undo.
    host.wait("connected again", |_| manager.hellos() == 3);
    for id in ["scan-2", "scan-1"] {
        manager.send(manager.undo(id, "ann"));
        host.wait("it is taken back", |host| action(host, id).0 == "undone");
    }
    host.wait("nothing scans any more", |host| {
        let scans = scans(host);
        scans.now.is_none() && scans.waiting.is_empty()
    });
    host.wait("the manager hears", |_| manager.states("scan-1").last().is_some_and(|state| state == "undone"));
    host.stop();
}

#[test]
fn what_mandate_policy_or_shape_forbid_is_refused_with_its_reason() {
    if !is_root() {
        return;
    }
    let (manager, mut host) = start("[alone]\nactions = [\"block_address\"]\n");
    manager.send(manager.order(&order("scan-1", &["/srv"], &[]), &[]));
    host.wait("an answer", |_| manager.replies().len() == 1);
    let reply = manager.replies().pop().unwrap();
    assert!(!reply.accepted && reply.reason.contains("does not name the action scan_paths"), "{reply:?}");
    fs::write(host.path("mandate.toml"), "").unwrap();
    host.wait("the mandate is read", |_| manager.said("mandate-applied") == 1);
    for (id, path, why) in [("scan-2", "srv", "paths"), ("scan-3", "/srv/../etc", "paths")] {
        let before = manager.replies().len();
        manager.send(manager.order(&order(id, &[path], &[]), &[]));
        host.wait("an answer", |_| manager.replies().len() > before);
        let reply = manager.replies().pop().unwrap();
        assert!(!reply.accepted && reply.reason.contains(why), "{reply:?}");
    }
    // A path that is not there is scanned, and said to be unreadable.
    manager.send(manager.order(&order("scan-4", &["/nonexistent/folder"], &[]), &[]));
    host.wait("it is over", |host| action(host, "scan-4").0 == "done");
    assert!(
        action(&host, "scan-4").1.contains("0 files, 0 MiB, 0 found, 1 not judged"),
        "{:?}",
        action(&host, "scan-4")
    );
    host.stop();
}
