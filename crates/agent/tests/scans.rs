//! Scans by the real agent: by schedule, by hand, paused, ended, with the agent killed and rules renewed in the middle.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod host;
mod manager;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use host::{Host, is_root};
use manager::Manager;
use sakimori_model::{Event, field};
use sakimori_sys::harness::needs;
use sakimori_wire::agent as proto;
use sakimori_wire::agent::down::Message as Down;
use sakimori_wire::scans::{ScanStatus, ScansStatus};

/// The industry's harmless test file. In pieces, so that no scanner takes this source for it.
fn eicar() -> String {
    ["X5O!P%@AP[4\\PZX54(P^)7CC)7}$", "EICAR-STANDARD-ANTIVIRUS-TEST-FILE", "!$H+H*"].concat()
}

/// Protection is on and marks no file system: what happens is the scans' doing.
const ON: &str = "[policy.modules.block_address]\nstate = \"off\"\n[policy.modules.antimalware]\nstate = \"on\"\n";

struct Site {
    host: Host,
    folder: tempfile::TempDir,
}

impl Site {
    fn new(more: &str) -> Self {
        Self { host: Host::new(&format!("{ON}{more}")), folder: tempfile::tempdir().unwrap() }
    }

    /// A site with a scan of its folder in the policy.
    fn with_scan(more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let scan = format!("[[policy.modules.antimalware.scans]]\nname = \"own\"\njitter_minutes = 0\n{more}\n");
        let paths = format!("paths = [\"{}\"]\n", folder.path().display());
        Self { host: Host::new(&format!("{ON}{scan}{paths}")), folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self) -> String {
        self.folder.path().display().to_string()
    }

    /// Files that take a while and no disk: holes.
    fn slow(&self, count: usize) {
        for n in 0..count {
            File::create(self.path(&format!("slow-{n:02}"))).unwrap().set_len(40 << 20).unwrap();
        }
    }

    fn scans(&self) -> ScansStatus {
        serde_json::from_value(self.host.json(&["scan", "status"])).unwrap()
    }

    fn scan(&self, args: &[&str]) -> (bool, String) {
        let mut all = vec!["scan"];
        all.extend(args);
        let out = self.host.command(&all).output().unwrap();
        let said = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        (out.status.success(), said)
    }

    fn ok(&self, args: &[&str]) -> String {
        let (done, said) = self.scan(args);
        assert!(done, "{args:?}: {said}");
        said
    }

    fn wait(&mut self, what: &str, mut condition: impl FnMut(&ScansStatus) -> bool) -> ScansStatus {
        let mut seen = ScansStatus::default();
        let folder = self.folder.path().to_owned();
        self.host.wait(what, |host| {
            assert!(folder.exists());
            seen = serde_json::from_value(host.json(&["scan", "status"])).unwrap();
            condition(&seen)
        });
        seen
    }

    /// Waits until the scan under way was done with so many files.
    fn under_way(&mut self, files: u64) -> ScanStatus {
        let seen = self.wait("files are scanned", |scans| {
            assert!(scans.last.is_none(), "it is over already: {scans:?}");
            scans.now.as_ref().is_some_and(|scan| scan.counts.files >= files)
        });
        seen.now.unwrap()
    }

    /// Waits until a scan is over, and gives what came of it.
    fn over(&mut self) -> ScanStatus {
        // A scan may take longer than a condition is waited for, as long as it moves.
        let mut moved = (Instant::now(), String::new());
        loop {
            let scans = self.scans();
            if let (Some(last), None) = (&scans.last, &scans.now) {
                return last.clone();
            }
            let now = format!("{:?}", scans.now);
            if now != moved.1 {
                moved = (Instant::now(), now);
            }
            assert!(moved.0.elapsed() < host::PATIENCE * 2, "it stands still: {scans:?}\n{}", self.host.output());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn quarantined(&self) -> Vec<String> {
        let items = self.host.json(&["quarantine", "list"]);
        items.as_array().unwrap().iter().map(|item| item["path"].as_str().unwrap().to_owned()).collect()
    }

    fn alerts(&self) -> Vec<Event> {
        let is_alert = |event: &Event| event.str(field::EVENT_KIND) == Some("alert");
        self.host.events("agent").into_iter().filter(is_alert).collect()
    }
}

#[test]
fn a_scan_by_schedule_finds_quarantines_and_reports_what_it_left_out() {
    if !is_root() {
        return;
    }
    let exclude = "exclude = { paths = [\"*/left\"], extensions = [\"iso\"] }";
    let mut site = Site::with_scan(&format!("schedule = \"* * * * *\"\n{}", exclude.replace("*/left", "left")));
    fs::create_dir_all(site.path("left/deeper")).unwrap();
    for name in ["virus.com", "left/deeper/virus.com", "virus.ISO"] {
        fs::write(site.path(name), eicar()).unwrap();
    }
    fs::write(site.path("clean"), "nothing").unwrap();
    std::os::unix::fs::symlink(site.path("left/deeper/virus.com"), site.path("link")).unwrap();
    site.host.start();
    let next = site.wait("it is planned", |scans| !scans.next.is_empty() || scans.now.is_some());
    assert!(next.next.iter().all(|turn| turn.name == "own"));
    let until = Instant::now() + Duration::from_secs(240);
    while site.scans().last.is_none() {
        assert!(Instant::now() < until, "no scan in four minutes\n{}", site.host.output());
        std::thread::sleep(Duration::from_millis(200));
    }
    let last = site.scans().last.unwrap();
    assert_eq!((last.state.as_str(), last.by.as_str(), last.bundles.as_slice()), ("finished", "schedule", &[0][..]));
    let counts = last.counts;
    assert_eq!((counts.files, counts.found, counts.excluded, counts.unreadable), (2, 1, 2, 0), "{counts:?}");
    let virus = site.path("virus.com").display().to_string();
    site.host.wait("it lies in quarantine", |host| !host.json(&["quarantine", "list"]).as_array().unwrap().is_empty());
    assert_eq!(site.quarantined(), std::slice::from_ref(&virus));
    assert!(!Path::new(&virus).exists() && site.path("virus.ISO").exists() && site.path("left/deeper").exists());

    let alerts = site.alerts();
    assert_eq!(alerts.len(), 1, "one file, one alert");
    assert_eq!(alerts[0].str(field::SAKIMORI_SCAN_NAME), Some("own"));
    assert_eq!(alerts[0].str(field::SAKIMORI_SCAN_ID), Some(last.id.as_str()));
    assert_eq!((alerts[0].str(field::FILE_PATH), alerts[0].long(field::PROCESS_PID)), (Some(virus.as_str()), None));
    let events = site.host.events("agent");
    let report = events.iter().find(|event| event.str(field::EVENT_ACTION) == Some("scan-finished")).unwrap();
    let figure = |field| report.long(field).unwrap();
    assert_eq!((figure(field::SAKIMORI_SCAN_FILES), figure(field::SAKIMORI_SCAN_FOUND)), (2, 1));
    assert_eq!((figure(field::SAKIMORI_SCAN_EXCLUDED), figure(field::SAKIMORI_DETECT_BUNDLE)), (2, 0));
    assert!(figure(field::EVENT_DURATION) > 0 && report.str(field::EVENT_OUTCOME) == Some("success"));
    let actions = site.host.events("actions");
    assert!(actions.iter().any(|event| event.str(field::SAKIMORI_ACTION_STATE) == Some("done")));
}

#[test]
fn what_was_missed_while_nobody_was_there_is_made_up_for_once() {
    if !is_root() {
        return;
    }
    let mut site = Site::with_scan("schedule = \"0 3 1 1 *\"");
    fs::write(site.path("clean"), "nothing").unwrap();
    fs::create_dir_all(site.host.state()).unwrap();
    fs::set_permissions(site.host.state(), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let kept = r#"{"turns": {"own": {"schedule": "0 3 1 1 *", "done": "2020-01-01T00:00:00Z"}}}"#;
    fs::write(site.host.state().join("scans.json"), kept).unwrap();
    site.host.start();
    assert_eq!(site.over().state, "finished");
    site.host.wait("it is told", |host| host.said("scan-missed") == 1 && host.said("scan-finished") == 1);
    site.host.stop();
    site.host.start();
    site.wait("the next turn is a new year's", |scans| scans.next.len() == 1);
    assert_eq!((site.host.said("scan-started"), site.scans().now), (1, None), "once");
}

#[test]
fn a_scan_is_paused_goes_on_and_ends_and_another_waits_for_it() {
    if !is_root() {
        return;
    }
    let mut site = Site::new("");
    site.slow(40);
    site.host.start();
    let folder = site.text();
    assert!(site.scan(&["pause"]).1.contains("no scan is under way"));
    assert!(site.scan(&["start", "/nonexistent/folder"]).1.contains("cannot find"));
    assert!(site.scan(&["start", "--name", "nightly"]).1.contains("names no scan"));
    assert!(site.scan(&["start", &folder, "--cpu", "0"]).1.contains("1..=100"));
    let began = site.ok(&["start", &folder, "--cpu", "40"]);
    assert!(began.contains("begins"), "{began}");
    site.under_way(2);
    let waits = site.ok(&["start", &folder, "--report-only"]);
    assert!(waits.contains("waits for the scan manual"), "{waits}");
    site.ok(&["pause"]);
    let paused = site.wait("it is paused", |scans| scans.now.as_ref().is_some_and(|scan| scan.state == "paused"));
    let done = paused.now.unwrap();
    assert!(done.counts.files < 40 && done.path.contains("/slow-"), "{done:?}");
    site.host.wait("its worker is gone", |host| host.said("scan-paused") == 1);
    // Paused it stays, over a restart of the agent too.
    site.host.stop();
    site.host.start();
    let still = site.scans().now.unwrap();
    assert_eq!((still.state.as_str(), still.counts, &still.path), ("paused", done.counts, &done.path));
    assert_eq!(site.scans().waiting.len(), 1, "what waits, too");
    assert!(site.ok(&["status"]).contains("paused"));
    site.ok(&["resume"]);
    assert!(site.scan(&["resume"]).1.contains("not paused"));
    site.under_way(done.counts.files + 1);
    site.ok(&["cancel"]);
    let over = site.wait("it ends", |scans| scans.last.is_some()).last.unwrap();
    assert_eq!((over.state.as_str(), over.paused_seconds < 600), ("cancelled", true));
    assert!(over.counts.files > done.counts.files && over.counts.files < 40, "{over:?}");
    let second = site.wait("the one that waited begins", |scans| scans.now.is_some()).now.unwrap();
    assert!(second.id != over.id);
    let (_, said) = site.scan(&["cancel", &second.id]);
    assert!(said.contains("ends"), "{said}");
    site.wait("it ends too", |scans| scans.now.is_none());
    assert_eq!((site.host.said("scan-waits"), site.host.said("scan-cancelled")), (1, 2));
}

#[test]
fn a_scan_goes_on_where_it_was_after_the_agent_was_killed() {
    if !is_root() {
        return;
    }
    let mut site = Site::new("");
    site.slow(60);
    for name in ["aa.com", "zz.com"] {
        fs::write(site.path(name), eicar()).unwrap();
    }
    site.host.start();
    let folder = site.text();
    site.ok(&["start", &folder, "--report-only", "--cpu", "25"]);
    let seen = site.under_way(3);
    let file = site.host.state().join("scans.json");
    site.host.wait("its position is kept", |_| {
        let kept: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap_or_default()).unwrap_or_default();
        kept["work"]["counts"]["files"].as_u64().is_some_and(|files| files >= seen.counts.files)
    });
    site.host.kill();
    site.host.start();
    let over = site.over();
    assert_eq!((over.state.as_str(), over.continued, over.id == seen.id), ("finished", 1, true));
    assert_eq!((over.counts.files, over.counts.found), (62, 2), "each file once: {over:?}");
    let alerts = site.alerts();
    let ids: BTreeSet<&str> = alerts.iter().filter_map(|alert| alert.str(field::SAKIMORI_ALERT_ID)).collect();
    assert_eq!(ids.len(), 2, "what was told again has the same id");
    assert!(site.quarantined().is_empty() && site.path("aa.com").exists(), "it only reports");
    assert_eq!(site.host.said("scan-continued"), 1);
}

#[test]
fn new_rules_in_the_middle_are_used_from_there_and_the_report_names_both() {
    if !is_root() {
        return;
    }
    let manager = Manager::start();
    let mut site = Site::new("");
    site.slow(80);
    let out = site.host.command(&["enroll", &manager.token("secret-1")]).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    site.host.start();
    site.host.wait("connected", |_| manager.hellos() == 1);
    let folder = site.text();
    site.ok(&["start", &folder, "--cpu", "20"]);
    site.under_way(2);
    manager.send(Down::Bundle(proto::BundleDown { number: 5, bundle: manager.bundle(5) }));
    site.host.wait("the bundle is in use", |host| host.status().unwrap().bundle == 5);
    let over = site.over();
    assert_eq!((over.state.as_str(), over.bundles.as_slice()), ("finished", &[0, 5][..]));
    assert_eq!(over.counts.files, 80, "{over:?}");
    site.host.wait("the manager is told", |_| manager.said("scan-finished") == 1);
    // A scan that begins later has the newest from the beginning.
    fs::remove_dir_all(site.folder.path()).unwrap();
    fs::create_dir(site.folder.path()).unwrap();
    fs::write(site.path("virus.com"), eicar()).unwrap();
    let out = site.host.command(&["scan", "start", &folder, "--follow"]).output().unwrap();
    assert_eq!(out.status.code(), Some(1), "{}", String::from_utf8_lossy(&out.stderr));
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(said.contains("1 found") && said.contains("rule bundle 5;"), "{said}");
}

#[test]
fn a_scan_has_its_own_budget_and_gives_way_to_all_others() {
    if !is_root() {
        return;
    }
    let mut site = Site::new("");
    site.slow(60);
    site.host.start();
    let folder = site.text();
    site.ok(&["start", &folder, "--cpu", "37"]);
    site.under_way(1);
    // Beside it live the judges of real-time protection, which give way to nobody.
    let idle = |pid: &u32| sakimori_sys::idle::is_idle(*pid).is_ok_and(|idle| idle);
    let (own, others): (Vec<u32>, Vec<u32>) = site.host.workers("malware").into_iter().partition(idle);
    let [worker] = own[..] else { panic!("{own:?} give way at the disk, and {others:?} do not") };
    assert!(!others.is_empty());
    let stat = fs::read_to_string(format!("/proc/{worker}/stat")).unwrap();
    assert_eq!(stat.rsplit(')').next().unwrap().split_whitespace().nth(16), Some("19"));
    let whole = site.host.status().unwrap().budgets.into_iter().find(|budget| budget.name == "agent").unwrap();
    if needs(whole.problem.is_empty(), "control groups that may be written") {
        let below = format!("sakimori-agent-{}/agent/scan", site.host.pid());
        assert!(cgroup(worker).contains(&below), "{}", cgroup(worker));
        assert_eq!(quota(&below), Some(37), "hundredths of a processor");
    }
    site.ok(&["cancel"]);
}

fn cgroup(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default()
}

/// The kernel's limit of a group, in hundredths of a processor.
fn quota(below: &str) -> Option<u64> {
    let read = |path: PathBuf| fs::read_to_string(path).ok();
    for hierarchy in ["cpu", "cpu,cpuacct", "cpuacct,cpu", "unified", ""] {
        let root = Path::new("/sys/fs/cgroup").join(hierarchy);
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            let place = folder.join(below);
            if let Some(text) = read(place.join("cpu.max")) {
                let mut words = text.split_whitespace().filter_map(|word| word.parse::<u64>().ok());
                return Some(words.next()? * 100 / words.next()?);
            }
            if let (Some(quota), Some(period)) =
                (read(place.join("cpu.cfs_quota_us")), read(place.join("cpu.cfs_period_us")))
            {
                return Some(quota.trim().parse::<u64>().ok()? * 100 / period.trim().parse::<u64>().ok()?);
            }
            let inside = fs::read_dir(&folder).into_iter().flatten().flatten();
            folders.extend(
                inside.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()),
            );
        }
    }
    None
}

#[test]
fn while_all_answers_are_stopped_a_scan_only_tells() {
    if !is_root() {
        return;
    }
    let mut site = Site::new("");
    fs::write(site.path("virus.com"), eicar()).unwrap();
    site.host.start();
    assert!(site.host.command(&["halt", "--reason", "a test"]).output().unwrap().status.success());
    let folder = site.text();
    site.ok(&["start", &folder]);
    let over = site.over();
    assert_eq!((over.counts.found, over.state.as_str()), (1, "finished"));
    site.host.wait("what would have been done is told", |host| {
        let states: Vec<String> = host
            .events("actions")
            .iter()
            .filter_map(|event| event.str(field::SAKIMORI_ACTION_STATE).map(str::to_owned))
            .collect();
        !states.is_empty() && !states.contains(&"done".to_owned())
    });
    assert!(site.path("virus.com").exists() && site.quarantined().is_empty());
    assert_eq!(site.alerts()[0].str(field::EVENT_OUTCOME), Some("failure"));
    // What is let go on is done by the next scan.
    assert!(site.host.command(&["resume"]).output().unwrap().status.success());
    site.ok(&["start", &folder]);
    let path = site.path("virus.com");
    site.host.wait("it is taken away", |_| !path.exists());
    // A damaged file of scans is told, and costs no more than what was under way.
    site.over();
    site.host.stop();
    fs::write(site.host.state().join("scans.json"), "{\"work\": 7}").unwrap();
    site.host.start();
    site.host.wait("it is told", |host| host.said("scan-state-lost") == 1);
    assert_eq!(site.scans().now, None);
}

#[test]
fn a_file_that_a_person_gave_back_is_let_be() {
    if !is_root() {
        return;
    }
    let mut site = Site::new("");
    fs::write(site.path("virus.com"), eicar()).unwrap();
    site.host.start();
    let folder = site.text();
    site.ok(&["start", &folder]);
    site.host.wait("it lies in quarantine", |host| !host.json(&["quarantine", "list"]).as_array().unwrap().is_empty());
    let id = site.host.json(&["quarantine", "list"])[0]["id"].as_str().unwrap().to_owned();
    site.over();
    let out = site.host.command(&["quarantine", "restore", &id]).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let out = site.host.command(&["scan", "start", &folder, "--follow", "--json"]).output().unwrap();
    let report: ScanStatus = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!((out.status.code(), report.counts.found, report.counts.files), (Some(0), 0, 1));
    assert!(site.path("virus.com").exists());
}
