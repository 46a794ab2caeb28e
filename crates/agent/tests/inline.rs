//! Intrusion prevention inline: a web server with an access log, an attacker, and the agent between them, in network
//! namespaces.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::disallowed_methods)]

mod host;
mod manager;
mod web;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use host::{Host, is_root};
use manager::Manager;
use sakimori_model::policy::{Mode, Policy};
use sakimori_model::{Event, field};
use serde_json::json;
use web::{ATTACK, Net, get};

const DETECT_BLOCKS: &str = "[policy.modules.block_address]\nmode = \"detect\"\n";

/// Configuration of an agent that inspects.
fn inspecting(more: &str) -> String {
    format!(
        "{DETECT_BLOCKS}[policy.modules.log_inspection]\nstate = \"off\"\n\
         [policy.modules.intrusion_prevention]\nstate = \"on\"\n{more}\n"
    )
}

/// A host whose agent inspects, in the server's namespace.
fn host(net: &Net, more: &str) -> Host {
    let mut host = Host::new(&inspecting(more));
    host.namespace = Some(net.lab.full_name("server"));
    host
}

fn module(host: &Host) -> Option<(String, String)> {
    let status = host.status()?;
    let module = status.modules.into_iter().find(|module| module.id == "intrusion_prevention")?;
    Some((module.state, module.detail))
}

fn ready(host: &mut Host) {
    host.start();
    host.wait("the module is on", |host| module(host).is_some_and(|(state, _)| state == "on"));
}

fn alerts(host: &Host) -> Vec<Event> {
    host.events("network.0")
}

fn tables(net: &Net) -> String {
    let out = net.lab.command("server", "nft").unwrap().args(["list", "tables"]).output().unwrap();
    String::from_utf8(out.stdout).unwrap()
}

/// Processes of this host by the name that `ps` shows.
fn pumps(host: &Host) -> Vec<u32> {
    let socket = host.state().display().to_string();
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries
        .filter_map(|entry| {
            let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
            let line = String::from_utf8_lossy(&std::fs::read(entry.path().join("cmdline")).ok()?).into_owned();
            (line.starts_with("sakimori-pump") && line.contains(&socket)).then_some(pid)
        })
        .collect()
}

fn signal(pid: u32, name: &str) {
    let status = std::process::Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status().unwrap();
    assert!(status.success(), "kill -{name} {pid}");
}

#[test]
fn a_prevented_request_gets_no_answer_and_never_reaches_the_access_log() {
    let Some(net) = Net::new() else { return };
    let mut host = host(&net, "mode = \"prevent\"");
    ready(&mut host);
    for address in ["198.51.100.1:80", "[2001:db8:51::1]:80"] {
        let server = net.serve(address);
        assert!(get(&net, address, "/shop?q=shoes", "").unwrap().contains("200 OK"));
        let before = server.log();
        assert_eq!(before, ["GET /shop?q=shoes HTTP/1.1"]);
        // Log4Shell in a header, traversal in the address, and the same in small pieces.
        assert!(get(&net, address, "/", ATTACK).is_err());
        assert!(get(&net, address, "/download?file=..%2f..%2fetc/passwd", "").is_err());
        let mut slow = net.connect(address).unwrap();
        let request = format!("GET / HTTP/1.1\r\nHost: a.example\r\n{ATTACK}\r\n");
        assert!(web::in_pieces(&mut slow, request.as_bytes(), 7).is_err());
        // What was dropped stays dropped on its connection, and other connections are served.
        let mut bad = net.connect(address).unwrap();
        assert!(web::ask(&mut bad, "/", ATTACK).is_err());
        assert!(web::ask(&mut bad, "/again", "").is_err());
        assert!(get(&net, address, "/shop?q=hats", "").unwrap().contains("200 OK"));
        assert_eq!(server.log(), ["GET /shop?q=shoes HTTP/1.1", "GET /shop?q=hats HTTP/1.1"]);
    }
    host.wait("the alerts are spooled", |host| alerts(host).len() >= 8);
    let all = alerts(&host);
    let alert = all.iter().find(|event| event.str(field::RULE_ID) == Some("9100002")).unwrap();
    assert_eq!(alert.str(field::EVENT_KIND), Some("alert"));
    assert_eq!(alert.str(field::RULE_VERSION), Some("1"));
    assert_eq!(alert.str(field::NETWORK_DIRECTION), Some("inbound"));
    assert_eq!(alert.str(field::EVENT_OUTCOME), Some("success"));
    assert_eq!(alert.ip(field::SOURCE_IP), Some("198.51.100.2".parse().unwrap()));
    assert_eq!(alert.str(field::VULNERABILITY_ID), Some("CVE-2021-44228"));
    let json = serde_json::Value::Object(alert.to_json());
    assert!(json["sakimori"]["network"]["payload_printable"].as_str().unwrap().contains("${jndi:ldap"));
    assert!(!json["sakimori"]["network"]["payload"].as_str().unwrap().is_empty());
    assert!(json["sakimori"]["network"]["flow"].as_u64().is_some());
    assert!(all.iter().all(|event| event.str(field::SAKIMORI_ALERT_ID).is_some()));
    host.stop();
    assert_eq!(tables(&net).lines().filter(|line| line.contains("_ips")).count(), 0, "the tables are gone");
    assert!(pumps(&host).is_empty(), "and so are the pumps");
}

#[test]
fn in_detect_mode_a_request_is_served_and_recorded_and_a_proxys_client_is_named() {
    let Some(net) = Net::new() else { return };
    let rule = "[[policy.modules.intrusion_prevention.overrides]]\nrule = 9100122\nmode = \"prevent\"\n\
                [policy.response]\ntrusted_proxies = [\"198.51.100.2\"]";
    let mut host = host(&net, rule);
    ready(&mut host);
    let server = net.serve("198.51.100.1:80");
    let request = format!("{ATTACK}X-Forwarded-For: 192.0.2.66, 203.0.113.9\r\n");
    assert!(get(&net, "198.51.100.1:80", "/", &request).unwrap().contains("200 OK"));
    assert!(get(&net, "198.51.100.1:80", "/.git/config", "").is_err(), "a rule of its own mode");
    assert_eq!(server.log(), ["GET / HTTP/1.1"]);
    host.wait("both alerts", |host| alerts(host).len() >= 2);
    let all = alerts(&host);
    let alert = all.iter().find(|event| event.str(field::RULE_ID) == Some("9100002")).unwrap();
    assert_eq!(alert.str(field::EVENT_OUTCOME), Some("failure"));
    assert_eq!(alert.str(field::EVENT_REASON), Some("let through, since the policy only looks"));
    // The one that the trusted proxy saw, and not what the client made up.
    assert_eq!(alert.ip(field::SOURCE_IP), Some("203.0.113.9".parse().unwrap()));
    assert_eq!(alert.ip(field::SAKIMORI_PROXY_IP), Some("198.51.100.2".parse().unwrap()));
}

#[test]
fn an_alert_of_an_exploit_blocks_the_attacker_on_the_host() {
    let Some(net) = Net::new() else { return };
    let mut host = host(&net, "mode = \"prevent\"\n[policy.modules.block_address]\nmode = \"prevent\"");
    let text = std::fs::read_to_string(host.path("agent.toml")).unwrap().replacen(DETECT_BLOCKS, "", 1);
    std::fs::write(host.path("agent.toml"), text).unwrap();
    ready(&mut host);
    let server = net.serve("198.51.100.1:80");
    let other = "198.51.100.3";
    assert!(web::get_from(&net, other, "198.51.100.1:80", "/", ATTACK).is_err());
    host.wait("the block", |host| {
        host.json(&["actions", "list"]).as_array().is_some_and(|all| {
            all.iter().any(|one| one["order"]["target"]["network"] == other && one["state"] == "done")
        })
    });
    assert!(web::get_from(&net, other, "198.51.100.1:80", "/", "").is_err(), "not even to connect");
    assert!(get(&net, "198.51.100.1:80", "/", "").unwrap().contains("200 OK"), "his neighbour is served");
    assert_eq!(server.log(), ["GET / HTTP/1.1"]);
}

/// What the probe of the module says when it is run now.
fn proven(host: &Host) -> (bool, String) {
    let said = host.json(&["proof", "--run"]);
    let all = said["proofs"].as_array().unwrap();
    let one = all.iter().find(|one| one["module"] == "intrusion_prevention").unwrap();
    (one["ok"] == true, one["detail"].as_str().unwrap().to_owned())
}

#[test]
fn the_probe_goes_the_whole_way_and_fails_where_the_way_is_cut() {
    let Some(net) = Net::new() else { return };
    for (mode, words) in [("prevent", "was dropped, and a harmless one answered"), ("detect", "it only looks")] {
        let mut host = Host::probed(24, &inspecting(&format!("mode = \"{mode}\"")));
        host.namespace = Some(net.lab.full_name("server"));
        ready(&mut host);
        for _ in 0..2 {
            let (ok, detail) = proven(&host);
            assert!(ok && detail.ends_with(words), "{detail}");
        }
        // The word on a packet goes before the words to people.
        host.wait("both probes are alerts", |host| alerts(host).len() >= 2);
        let all = alerts(&host);
        assert!(all.iter().all(|alert| alert.bool(field::SAKIMORI_PROBE) == Some(true)), "{all:?}");
        // Another program has the port.
        let taken = net.lab.inside("server", || std::net::TcpListener::bind("127.0.0.1:7609")).unwrap().unwrap();
        let (ok, detail) = proven(&host);
        assert!(!ok && detail.contains("port 7609 of loopback is taken"), "{detail}");
        drop(taken);
        if mode == "prevent" {
            // The kernel's rules are gone, as another program's mistake would have it.
            for family in ["ip", "ip6"] {
                let table = format!("{}_ips", host.table);
                let mut nft = net.lab.command("server", "nft").unwrap();
                assert!(nft.args(["delete", "table", family, &table]).status().unwrap().success());
            }
            let (ok, detail) = proven(&host);
            assert!(!ok && detail == "a request that a rule is to stop was answered", "{detail}");
            assert!(host.events("agent").iter().any(|event| event.str(field::RULE_ID) == Some("proof-failing")));
        }
        host.stop();
    }
}

/// A policy of the manager's that inspects, and blocks nobody.
fn sent(module: serde_json::Value) -> Policy {
    let mut policy = sakimori_model::policy::merge(&[sakimori_model::policy::default_layer()]).unwrap().policy;
    policy.modules.log_inspection.sources.clear();
    policy.modules.block_address.mode = Mode::Detect;
    let mut tree = serde_json::to_value(&policy).unwrap();
    for (name, value) in module.as_object().unwrap() {
        tree["modules"]["intrusion_prevention"][name] = value.clone();
    }
    serde_json::from_value(tree).unwrap()
}

/// A manager beside the server, and the host enrolled there.
fn enrolled(net: &Net, more: &str) -> (Manager, Host) {
    let manager = net.lab.inside("server", Manager::start).unwrap();
    let mut host = host(net, more);
    let out = host.command(&["enroll", &manager.token("secret-1")]).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    ready(&mut host);
    host.wait("the manager is reached", |host| host.status().is_some_and(|status| status.connected));
    (manager, host)
}

#[test]
fn a_switch_to_prevent_is_provisional_and_taken_back_requests_are_served_again() {
    let Some(net) = Net::new() else { return };
    let (manager, mut host) = enrolled(&net, "mode = \"detect\"");
    let server = net.serve("198.51.100.1:80");
    let provisional = |host: &Host| host.status().unwrap().provisional;
    assert!(provisional(&host).is_empty());
    // A mode for the module, and one for a single rule that is as much of a switch.
    let one_rule = json!({"state": "on", "mode": "detect", "overrides": [{"rule": 9100002, "mode": "prevent"}]});
    for (number, module) in [(1, json!({"state": "on", "mode": "prevent", "fail": "closed"})), (2, one_rule)] {
        manager.send(manager.policy(number, &sent(module)));
        host.wait("the switch is in the ledger, with its deadline", |host| provisional(host).len() == 1);
        host.wait("it prevents already", |_| get(&net, "198.51.100.1:80", "/", ATTACK).is_err());
        let id = provisional(&host)[0].clone();
        let actions = host.json(&["actions", "list"]);
        assert_eq!(actions[0]["order"]["action"], "prevent_mode");
        assert_eq!(actions[0]["order"]["target"]["setting"], "modules.intrusion_prevention.mode");
        assert_eq!(host.json(&["actions", "undo", &id])["count"], 1);
        host.wait("it only looks", |host| {
            host.status().unwrap().held.contains(&"modules.intrusion_prevention.mode".to_owned())
        });
        let served = server.log().len();
        host.wait("the same request is served", |_| get(&net, "198.51.100.1:80", "/", ATTACK).is_ok());
        assert!(server.log().len() > served);
    }
    // Confirmed it stays.
    manager.send(manager.policy(3, &sent(json!({"state": "on", "mode": "prevent"}))));
    host.wait("a newer policy tries again", |host| provisional(host).len() == 1);
    let id = provisional(&host)[0].clone();
    assert_eq!(host.json(&["actions", "confirm", &id])["count"], 1);
    host.wait("nothing is provisional", |host| provisional(host).is_empty());
    host.wait("it prevents", |_| get(&net, "198.51.100.1:80", "/", ATTACK).is_err());
    assert!(host.status().unwrap().held.is_empty());
    host.stop();
}

/// Requests one after the other until told to stop; gives how many were answered and how many not.
fn traffic(net: &Net, stop: &AtomicBool, answered: &AtomicUsize) -> usize {
    let mut failed = 0;
    while !stop.load(Ordering::SeqCst) {
        match get(net, "198.51.100.1:80", "/page", "") {
            Ok(_) => answered.fetch_add(1, Ordering::SeqCst),
            Err(error) => {
                eprintln!("a request failed: {error}");
                failed += 1;
                failed
            }
        };
    }
    failed
}

fn wait_for(what: &str, counter: &AtomicUsize, more: usize) {
    let from = counter.load(Ordering::SeqCst);
    let until = Instant::now() + host::PATIENCE;
    while counter.load(Ordering::SeqCst) < from + more {
        assert!(Instant::now() < until, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_killed_worker_costs_no_request_and_while_none_is_there_the_policy_decides() {
    let Some(net) = Net::new() else { return };
    let mut host = host(&net, "mode = \"prevent\"\nfail = \"open\"\nwait_ms = 200");
    ready(&mut host);
    let server = net.serve("198.51.100.1:80");
    let (stop, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let ended = web::Ended(&stop);
        let requests = scope.spawn(|| traffic(&net, &stop, &answered));
        for _ in 0..3 {
            wait_for("requests are served", &answered, 20);
            let worker = host.worker("network").unwrap();
            signal(worker, "KILL");
            host.wait("another worker", |host| host.worker("network").is_some_and(|pid| pid != worker));
        }
        wait_for("requests are served", &answered, 20);
        drop(ended);
        assert_eq!(requests.join().unwrap(), 0, "no request was lost\n{:?}\n{}", module(&host), host.output());
    });
    host.wait("it prevents again", |host| module(host).is_some_and(|(state, _)| state == "on"));
    assert!(get(&net, "198.51.100.1:80", "/", ATTACK).is_err());
    assert!(host.said("module-crashed") >= 3);
    // Nobody starts a worker while the supervisor sleeps: open by policy.
    let (agent, worker) = (host.pid(), host.worker("network").unwrap());
    signal(agent, "STOP");
    signal(worker, "KILL");
    let served = get(&net, "198.51.100.1:80", "/open", ATTACK).unwrap();
    assert!(served.contains("200 OK") && server.log().iter().any(|line| line.contains("/open")));
    signal(agent, "CONT");
    host.wait("it is on again", |host| module(host).is_some_and(|(state, _)| state == "on"));
    host.wait("what went by policy is an event", |host| said_by_policy(host).contains("were let through unseen"));
    host.stop();
}

#[test]
fn a_halt_stops_dropping_also_where_the_agent_hangs_and_after_it_prevention_is_back() {
    let Some(net) = Net::new() else { return };
    let mut host = host(&net, "mode = \"prevent\"\nfail = \"closed\"");
    ready(&mut host);
    let server = net.serve("198.51.100.1:80");
    // Looked for while it is prevented: the client's kernel sends it again for minutes, and a halt lets all of that through.
    let came = |path: &str| server.log().iter().any(|line| line.contains(path));
    assert!(get(&net, "198.51.100.1:80", "/first", ATTACK).is_err() && !came("/first"));
    // The agent answers.
    host.json(&["halt", "--reason", "a test"]);
    host.wait("nothing is dropped", |_| get(&net, "198.51.100.1:80", "/halted", ATTACK).is_ok());
    host.json(&["resume"]);
    host.wait("it prevents again", |_| get(&net, "198.51.100.1:80", "/", ATTACK).is_err());
    // It hangs.
    let agent = host.pid();
    signal(agent, "STOP");
    assert!(get(&net, "198.51.100.1:80", "/hung", ATTACK).is_err() && !came("/hung"), "its workers judge on");
    host.json(&["halt", "--reason", "a test"]);
    assert!(get(&net, "198.51.100.1:80", "/open", ATTACK).is_ok());
    signal(agent, "CONT");
    host.wait("the agent knows", |host| host.status().is_some_and(|status| status.halted.is_some()));
    assert!(get(&net, "198.51.100.1:80", "/still", ATTACK).is_ok());
    host.json(&["resume"]);
    host.wait("it prevents again", |_| get(&net, "198.51.100.1:80", "/", ATTACK).is_err());
    host.stop();
}

/// The newest word about packets that went by policy.
fn said_by_policy(host: &Host) -> String {
    let said = host.events("agent");
    let mut all = said.iter().filter(|event| event.str(field::EVENT_ACTION) == Some("packets-by-policy"));
    all.next_back().and_then(|event| event.str(field::MESSAGE)).unwrap_or_default().to_owned()
}

#[test]
fn an_engine_that_hangs_is_ended_and_both_that_and_what_went_by_are_events() {
    let Some(net) = Net::new() else { return };
    let mut host = host(&net, "mode = \"prevent\"\nfail = \"open\"\nslow_ms = 300");
    ready(&mut host);
    let server = net.serve("198.51.100.1:80");
    assert!(get(&net, "198.51.100.1:80", "/before", "").is_ok());
    let worker = host.worker("network").unwrap();
    signal(worker, "STOP");
    let served = get(&net, "198.51.100.1:80", "/during", "");
    assert!(served.is_ok() && server.log().iter().any(|line| line.contains("/during")), "{served:?}");
    host.wait("it is ended", |host| host.worker("network").is_some_and(|pid| pid != worker));
    host.wait("the overload is an event", |host| host.said("module-overloaded") == 1);
    host.wait("and what went by", |host| said_by_policy(host).contains("were let through unseen"));
    host.wait("it prevents again", |_| get(&net, "198.51.100.1:80", "/", ATTACK).is_err());
    host.stop();
}

#[test]
fn closed_by_policy_nothing_passes_while_no_worker_is_there_but_a_port_that_is_left_out() {
    let Some(net) = Net::new() else { return };
    let mut host = host(&net, "mode = \"prevent\"\nfail = \"closed\"\nwait_ms = 100\nexcept_ports = [2222]");
    ready(&mut host);
    let server = net.serve("198.51.100.1:80");
    let ssh = net.serve("198.51.100.1:2222");
    assert!(get(&net, "198.51.100.1:80", "/before", "").is_ok());
    let (agent, worker) = (host.pid(), host.worker("network").unwrap());
    signal(agent, "STOP");
    signal(worker, "KILL");
    assert!(get(&net, "198.51.100.1:80", "/during", "").is_err());
    assert!(get(&net, "198.51.100.1:2222", "/during", "").is_ok());
    let log = server.log();
    assert!(log.iter().all(|line| !line.contains("/during")), "{log:?}");
    signal(agent, "CONT");
    host.wait("requests are served again", |_| get(&net, "198.51.100.1:80", "/after", "").is_ok());
    assert_eq!(ssh.log().len(), 1);
    host.wait("what went by policy is an event", |host| said_by_policy(host).contains("were dropped"));
    // The agent is killed: its pump goes on to say no, until the agent is there again.
    host.kill();
    assert_eq!(pumps(&host).len(), 1);
    assert!(get(&net, "198.51.100.1:80", "/during", "").is_err());
    ready(&mut host);
    assert!(get(&net, "198.51.100.1:80", "/after", "").is_ok());
    host.stop();
    assert!(get(&net, "198.51.100.1:80", "/stopped", "").is_ok());
}

#[test]
fn rules_change_under_traffic_and_no_request_is_lost() {
    let Some(net) = Net::new() else { return };
    let (manager, mut host) = enrolled(&net, "mode = \"prevent\"");
    let server = net.serve("198.51.100.1:80");
    let (stop, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    let swaps = 12_u64;
    std::thread::scope(|scope| {
        let ended = web::Ended(&stop);
        let requests: Vec<_> = (0..2).map(|_| scope.spawn(|| traffic(&net, &stop, &answered))).collect();
        for number in 1..=swaps {
            let mode = if number % 2 == 1 { "detect" } else { "prevent" };
            manager.send(manager.policy(number, &sent(json!({"state": "on", "mode": mode}))));
            let wanted = if mode == "detect" { ", 0 prevent" } else { " prevent" };
            host.wait("the new rules are in effect", |host| {
                let said = host.events("agent");
                let rules = said.iter().filter(|event| event.str(field::EVENT_ACTION) == Some("network-rules"));
                let texts: Vec<&str> = rules.filter_map(|event| event.str(field::MESSAGE)).collect();
                texts.len() as u64 > number && texts.last().is_some_and(|text| text.ends_with(wanted))
            });
        }
        wait_for("requests are served", &answered, 20);
        drop(ended);
        for one in requests {
            assert_eq!(one.join().unwrap(), 0, "no request was lost");
        }
    });
    println!("{} requests during {swaps} changes of rules", answered.load(Ordering::SeqCst));
    assert_eq!(server.log().len(), answered.load(Ordering::SeqCst));
    assert!(get(&net, "198.51.100.1:80", "/", ATTACK).is_err());
    assert_eq!(host.said("module-crashed"), 0);
}

#[test]
fn a_long_download_leaves_the_queue_is_counted_and_the_next_request_is_judged() {
    let Some(net) = Net::new() else { return };
    let mut host = host(&net, "mode = \"prevent\"");
    ready(&mut host);
    let server = net.serve("198.51.100.1:80");
    let size = 200 << 20;
    let mut stream = net.connect("198.51.100.1:80").unwrap();
    let got = web::download(&mut stream, &format!("/big?{size}")).unwrap();
    assert_eq!(got, size);
    let kernel = net.lab.inside("server", || {
        let mut nft = sakimori_sys::nft::Nft::open().unwrap();
        nft.bypassed(&format!("{}_ips", host.table)).unwrap()
    });
    let kernel = kernel.unwrap();
    println!("by the kernel alone: {kernel:?}");
    assert!(kernel.accepted.bytes > size as u64 / 2, "{kernel:?}");
    assert!(web::ask(&mut stream, "/good", "").unwrap().contains("200 OK"));
    assert!(web::ask(&mut stream, "/", ATTACK).is_err(), "the same connection is judged on");
    assert_eq!(server.log().len(), 2);
    host.wait("the figures", |host| module(host).is_some_and(|(_, detail)| detail.contains("1 answers of")));
    let figures = host.status().unwrap().network.unwrap();
    assert!(figures.passed_over == 1 && figures.passed_over_bytes > size as u64 / 2, "{figures:?}");
    // What cannot be seen is a figure, too.
    web::encrypted(&net, "198.51.100.1:443");
    host.wait("encrypted flows are counted", |host| host.status().unwrap().network.unwrap().encrypted_flows == 1);
}

#[test]
fn a_machine_that_is_not_allowed_to_queue_says_so() {
    if !is_root() {
        return;
    }
    let mut host = Host::new(
        "[policy.modules.intrusion_prevention]\nstate = \"on\"\nmark_bit = 31\n[policy.modules.log_inspection]\nstate = \"off\"",
    );
    host.start();
    host.wait("the module fails", |host| {
        module(host).is_some_and(|(state, detail)| state == "failing" && detail.contains("mark_bit"))
    });
    host.stop();
}

#[test]
fn packets_of_an_alerted_flow_are_kept_for_root_and_those_of_others_are_not() {
    let Some(net) = Net::new() else { return };
    let keep = "[policy.modules.intrusion_prevention.keep_packets]\ngroups = [\"exploits\"]\nafter_seconds = 1\n";
    let mut host = host(&net, keep);
    ready(&mut host);
    assert_eq!(host.json(&["packets", "list"]), json!([]));
    let _server = net.serve("198.51.100.1:80");
    assert!(get(&net, "198.51.100.1:80", "/", ATTACK).unwrap().contains("200 OK"));
    // A rule of another group, and no rule.
    assert!(get(&net, "198.51.100.1:80", "/.git/config", "").is_ok());
    assert!(get(&net, "198.51.100.1:80", "/shop", "").is_ok());
    host.wait("the packets are a file", |host| host.json(&["packets", "list"])[0]["name"].is_string());
    host.wait("the alerts are spooled", |host| {
        alerts(host).iter().any(|one| one.str(field::RULE_ID) == Some("9100122"))
    });
    let list = host.json(&["packets", "list"]);
    let name = list[0]["name"].as_str().unwrap().to_owned();
    assert_eq!((list.as_array().unwrap().len(), list[0]["rule"].as_str()), (1, Some("9100002")));
    let told = |rule: &str| {
        let all = alerts(&host);
        let alert = all.iter().find(|event| event.str(field::RULE_ID) == Some(rule)).unwrap();
        serde_json::Value::Object(alert.to_json())["sakimori"]["network"]["capture"].clone()
    };
    assert_eq!((told("9100002"), told("9100122")), (json!(name), json!(null)));
    // From the handshake to the answer behind the alert.
    let shown = host.json(&["packets", "show", &name]);
    let packets = shown.as_array().unwrap();
    assert!(packets[0]["what"].as_str().unwrap().ends_with("198.51.100.1:80  tcp S"), "{}", packets[0]);
    let sent: String = packets.iter().map(|one| one["bytes"].as_str().unwrap()).collect();
    for text in ["${jndi:ldap", "200 OK"] {
        assert!(sent.contains(&hex::encode(text)), "{text}");
    }
    let to = host.path("out.pcap").display().to_string();
    assert!(host.command(&["packets", "export", &name, "--to", &to]).status().unwrap().success());
    let (folder, file) = (host.state().join("packets"), host.state().join(format!("packets/{name}.pcap")));
    assert_eq!(std::fs::read(&to).unwrap(), std::fs::read(&file).unwrap());
    let mode = |path: &std::path::Path| {
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(path).unwrap().permissions()) & 0o777
    };
    assert_eq!((mode(&folder), mode(&file), mode(std::path::Path::new(&to))), (0o700, 0o600, 0o600));
    assert_eq!(host.status().unwrap().network.unwrap().packets_kept, 1);
    host.stop();
}
