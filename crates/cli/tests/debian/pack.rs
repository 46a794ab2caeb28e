//! The Debian package, in a Debian that boots: installed, enrolled, attacked, upgraded, stopped and started, removed and
//! purged; and its systemd unit, whose hardening must not take anything from the agent that it needs.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::machine::{Debian, programs, tree};

/// Exposure by `systemd-analyze security` above which the unit has lost something of its hardening.
const MOST_EXPOSED: f64 = 5.0;

/// Packs the built program under a version.
fn package(debian: &Debian, version: &str) -> PathBuf {
    let out = Command::new(tree().join("tools/deb"))
        .arg(programs())
        .arg(debian.dir.path().join("deb"))
        .arg(version)
        .output()
        .unwrap();
    PathBuf::from(Debian::said(out, "tools/deb").trim())
}

fn install(debian: &Debian, package: &PathBuf) {
    debian.file_on_host("/root/agent.deb", fs::read(package).unwrap(), 0o644);
    debian.on_host("dpkg --install --force-confold /root/agent.deb");
}

fn status(debian: &Debian) -> Value {
    serde_json::from_slice(&debian.host("sakimori-agent --json status").stdout).unwrap_or_default()
}

fn blocks(debian: &Debian, address: &str) -> bool {
    debian.ruleset().split_whitespace().any(|word| word.trim_matches(',') == address)
}

/// All that a stranger would find of the agent: files, users, tables, units.
fn traces(debian: &Debian) -> String {
    let files = "find / -xdev \\( -name '*sakimori*' -o -path '/var/lib/sakimori*' \\) \
        -not -path '/proc/*' -not -path '/var/log/*' -not -path '/var/cache/*' 2>/dev/null | sort";
    let users = "grep -h sakimori /etc/passwd /etc/group /etc/shadow || true";
    let units = "systemctl list-units --all --no-legend | grep sakimori || true";
    // By their arguments: the kernel calls a keeper by the file that it was started from.
    let processes = "pgrep -af '^(/usr/bin/)?sakimori-' || true";
    let mut text = debian.on_host(&format!("{files}; {users}; {units}; {processes}"));
    text.extend(debian.ruleset().lines().filter(|line| line.contains("table")));
    text
}

fn enrol(debian: &mut Debian) {
    debian.on_manager("sakimori up --no-proof --api 127.0.0.1:7600 --link 192.0.2.1:7601");
    let policy = "modules:\n  antimalware:\n    state: on\n    paths: [/srv]\n";
    let file = debian.dir.path().join("web.yaml");
    fs::write(&file, policy).unwrap();
    debian.on_manager(&format!("sakimori policy set group:web {}", file.display()));
    let token = debian.on_manager("sakimori agents token --group web --uses 2 --expires 1d --from 192.0.2.0/24");
    debian.file_on_host("/etc/sakimori/enrolment.token", token, 0o600);
    debian.wait("the token file enrolled it, as in a launch template", |debian| status(debian)["connected"] == true);
}

#[test]
fn installed_enrolled_attacked_upgraded_and_purged_without_a_trace() {
    let Some(mut debian) = Debian::boot() else { return };
    let before = traces(&debian);
    let first = package(&debian, "0.1.0");
    install(&debian, &first);
    debian.on_host("systemctl is-active sakimori-agent");
    debian.on_host("systemctl is-enabled sakimori-agent");
    debian.wait("it answers before it has a manager", |debian| status(debian)["agent"].is_string());
    enrol(&mut debian);
    let agent = status(&debian)["agent"].clone();
    works_under_its_unit(&mut debian);
    attacked(&mut debian);
    upgraded(&mut debian, &agent);
    stopped_and_started(&mut debian);
    removed(&mut debian, &agent.to_string().replace('"', ""));
    assert_eq!(traces(&debian), before);
}

fn works_under_its_unit(debian: &mut Debian) {
    debian.wait("every module of the policy is on", |debian| {
        let status = status(debian);
        let modules = status["modules"].as_array().cloned().unwrap_or_default();
        let is_on = |id: &str| modules.iter().any(|module| module["id"] == id && module["state"] == "on");
        ["log_inspection", "block_address", "antimalware"].into_iter().all(is_on)
    });
    let workers = debian.on_host("ps -eo user:32,args | grep 'sakimori-worker-' | grep -v grep");
    for (user, worker) in [("sakimori-logs", "logs"), ("sakimori-uplink", "uplink"), ("sakimori-scan", "malware")] {
        let runs = |line: &str| line.starts_with(user) && line.contains(worker);
        assert!(workers.lines().any(runs), "{worker} does not run as {user}:\n{workers}");
    }
    let security = debian.on_host("systemd-analyze security --no-pager sakimori-agent.service | tail -1");
    println!("{}", security.trim());
    let figure: f64 = security.split_whitespace().find_map(|word| word.parse().ok()).unwrap();
    assert!(figure <= MOST_EXPOSED, "{security}");
    // The industry's test file, in pieces so that no scanner takes this source for it.
    let eicar = format!("X5O!P%@AP[4\\PZX54(P^)7CC)7}}$EICAR-{}-TEST-FILE!$H+H*", "STANDARD-ANTIVIRUS");
    // From inside: a path is told as its writer's root has it.
    debian.on_host(&format!("printf %s '{eicar}' > /srv/upload.com"));
    assert!(!debian.host("cat /srv/upload.com").status.success(), "a malicious file is not opened");
    debian.wait("it is in quarantine", |debian| !debian.host("test -e /srv/upload.com").status.success());
    debian.on_host("sakimori-agent quarantine list | grep upload.com");
}

fn attacked(debian: &mut Debian) {
    // A client that is blocked in the middle of its key exchange would wait for ever.
    let attack = "for attempt in 1 2 3 4 5 6; do timeout 10 sshpass -p wrong ssh -o StrictHostKeyChecking=no -o \
        UserKnownHostsFile=/dev/null -o ConnectTimeout=5 -o PreferredAuthentications=password root@198.51.100.1 true \
        || true; done";
    debian.attacker(attack);
    debian.wait("the attacker is blocked", |debian| blocks(debian, "198.51.100.2"));
    assert!(!debian.attacker("timeout 3 bash -c '</dev/tcp/198.51.100.1/22'").status.success());
    debian.wait("the manager has it", |debian| {
        String::from_utf8_lossy(&debian.manager("sakimori actions list --target 198.51.100.2").stdout).contains("done")
    });
}

fn upgraded(debian: &mut Debian, agent: &Value) {
    let pid = debian.on_host("systemctl show -P MainPID sakimori-agent");
    let keeper = debian.on_host("pgrep -f '^sakimori-keeper'");
    debian.on_host("echo '# mine' >> /etc/sakimori/agent.toml");
    let next = package(debian, "0.1.1");
    install(debian, &next);
    debian.wait("the new program runs", |debian| {
        debian.on_host("systemctl show -P MainPID sakimori-agent") != pid && status(debian)["connected"] == true
    });
    assert_eq!(status(debian)["agent"], *agent, "the identity is kept");
    assert!(blocks(debian, "198.51.100.2"), "the kernel was never without the block");
    assert!(debian.on_host("sakimori-agent actions list").contains("198.51.100.2"), "nor the ledger");
    debian.on_host("grep -q '# mine' /etc/sakimori/agent.toml");
    assert_eq!(debian.on_host("pgrep -f '^sakimori-keeper'"), keeper, "the keeper answered all the time");
}

fn stopped_and_started(debian: &mut Debian) {
    debian.on_host("systemctl stop sakimori-agent");
    assert!(blocks(debian, "198.51.100.2"), "a stop takes no block back");
    debian.on_host("pgrep -f '^sakimori-keeper'");
    debian.wait("the manager knows that it was stopped", |debian| {
        debian.on_manager("sakimori agents list --in stopped").contains("web2")
    });
    debian.on_host("systemctl start sakimori-agent");
    debian.wait("it is back", |debian| debian.on_manager("sakimori agents list --in connected").contains("web2"));
    assert_eq!(debian.ruleset().matches("198.51.100.2 ").count(), 1, "{}", debian.ruleset());
    // Killed, it is back by itself.
    debian.on_host("systemctl kill --kill-whom=main --signal=KILL sakimori-agent");
    debian.wait("it is back by itself", |debian| status(debian)["connected"] == true);
}

fn removed(debian: &mut Debian, agent: &str) {
    debian.on_host("dpkg --remove sakimori-agent");
    assert!(!debian.ruleset().contains("sakimori"), "no table without a program that knows it");
    debian.on_host("test -s /var/lib/sakimori/agent/agent.json");
    debian.wait("the manager knows that it is gone for good", |debian| {
        debian.on_manager(&format!("sakimori agents show {agent}")).contains("retired")
    });
    install(debian, &package(debian, "0.1.1"));
    debian.wait("the identity was still there", |debian| status(debian)["agent"] == agent);
    debian.on_host("dpkg --purge sakimori-agent");
    // What nobody refers to any more it collects when it has looked at its units anew and has time.
    debian.wait("systemd has forgotten the unit", |debian| {
        !debian.on_host("systemctl daemon-reload; systemctl list-units --all --no-legend").contains("sakimori")
    });
}

#[test]
fn a_host_that_is_shut_down_is_retired_and_not_alarmed() {
    let Some(mut debian) = Debian::boot() else { return };
    let package = package(&debian, "0.1.0");
    install(&debian, &package);
    enrol(&mut debian);
    let agent = status(&debian)["agent"].as_str().unwrap().to_owned();
    debian.power_off();
    debian.wait("it is retired", |debian| {
        debian.on_manager(&format!("sakimori agents show {agent}")).contains("retired")
    });
    let audit = debian.on_manager("sakimori audit list");
    assert!(!audit.contains("agents:silent") && !audit.contains("agents:stopped"), "{audit}");
}

#[test]
fn a_stranger_with_a_workers_uid_is_not_taken_for_one() {
    let Some(debian) = Debian::boot() else { return };
    debian.on_host("useradd --uid 64102 --key UID_MAX=64999 stranger");
    debian.file_on_host("/root/agent.deb", fs::read(package(&debian, "0.1.0")).unwrap(), 0o644);
    let out = debian.host("dpkg --install /root/agent.deb");
    assert!(!out.status.success());
    assert!(String::from_utf8_lossy(&out.stderr).contains("uid 64102 belongs to stranger"), "{out:?}");
}
