//! Decisions out: their form, strictly, and a real bouncer that blocks in a namespace.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sakimori_model::action::{Cause, Target};
use sakimori_model::{Action, ActionState, Order};
use sakimori_runtime::{Clock, SystemClock};
use sakimori_store::control::actions;
use sakimori_sys::harness;
use sakimori_sys::lab::{End, Lab};
use serde_json::{Value, json};

use super::world::{PATIENCE, World, on};

fn action(id: &str, kind: &str, target: &str, seconds: i64) -> Action {
    let now = SystemClock.now();
    Action {
        order: Order {
            id: id.into(),
            action: kind.into(),
            target: Target::Network(target.parse().unwrap()),
            expiry: None,
            cause: Cause { rule: "ssh-brute-force".into(), by: "playbook:x".into(), ..Cause::default() },
            via: None,
            probe: false,
            inputs: Default::default(),
            signatures: Vec::new(),
        },
        place: if kind == "waf_block" { "manager".into() } else { "agent-1".into() },
        state: ActionState::Done,
        reason: None,
        former: None,
        planned_at: now,
        done_at: Some(now),
        ended_at: None,
        expires_at: Some(now.plus_secs(seconds)),
        expires_at_most: Some(now.plus_secs(seconds)),
        prolonged: 0,
        grace_until: None,
        undone_by: None,
        confirm_by: None,
    }
}

async fn put(world: &World, tenant: &str, action: &Action) {
    let mut change = world.running().shared.control.begin().await.unwrap();
    actions::put(change.connection(), tenant, action, 0, SystemClock.now()).await.unwrap();
    change.commit().await.unwrap();
}

async fn key(world: &World, name: &str) -> String {
    let path = world.url("/api/v1/bouncers");
    let made = world.client.post(path).bearer_auth(&world.token).json(&json!({"name": name})).send().await.unwrap();
    assert_eq!(made.status().as_u16(), 201);
    made.json::<Value>().await.unwrap()["key"].as_str().unwrap().to_owned()
}

async fn ask(world: &World, key: &str, path: &str) -> (u16, Value) {
    let request = world.client.get(world.url(path)).header("X-Api-Key", key).header("User-Agent", "test-bouncer/v1");
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap_or(json!("no JSON")))
}

/// Exactly the fields of a decision, each of its type; gives value, scope and seconds left.
fn strict(decision: &Value) -> (String, String, i64) {
    let names: Vec<&str> = decision.as_object().unwrap().keys().map(String::as_str).collect();
    let mut sorted = names.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, ["duration", "id", "origin", "scenario", "scope", "type", "value"]);
    assert!(decision["id"].as_i64().is_some_and(|id| (0..1_i64 << 53).contains(&id)));
    assert_eq!((&decision["origin"], &decision["type"]), (&json!("sakimori"), &json!("ban")));
    assert_eq!(decision["scenario"], json!("sakimori/ssh-brute-force"));
    let duration = decision["duration"].as_str().unwrap();
    let (sign, rest) = duration.strip_prefix('-').map_or((1, duration), |rest| (-1, rest));
    let (hours, rest) = rest.split_once('h').unwrap();
    let (minutes, rest) = rest.split_once('m').unwrap();
    let number = |text: &str| text.parse::<i64>().unwrap();
    let left = number(hours) * 3_600 + number(minutes) * 60 + number(rest.strip_suffix('s').unwrap());
    let text = |name: &str| decision[name].as_str().unwrap().to_owned();
    (text("value"), text("scope"), sign * left)
}

fn values(list: &Value) -> Vec<String> {
    list.as_array().map(|all| all.iter().map(|one| strict(one).0).collect()).unwrap_or_default()
}

pub fn form() {
    on(async {
        let world = World::start("").await;
        let key = key(&world, "edge").await;
        for (bad, path) in [("", "/v1/decisions"), ("skb_x", "/v1/decisions/stream"), (&world.token, "/v1/decisions")] {
            assert_eq!(ask(&world, bad, path).await, (403, json!({"message": "access forbidden"})));
        }
        assert_eq!(ask(&world, &key, "/v1/decisions").await, (200, Value::Null));
        let nothing = json!({"deleted": null, "new": null});
        assert_eq!(ask(&world, &key, "/v1/decisions/stream?startup=true").await, (200, nothing.clone()));

        let mut probe = action("p", "waf_block", "203.0.113.9", 3_600);
        probe.order.probe = true;
        let mut refused = action("r", "waf_block", "203.0.113.10", 3_600);
        (refused.state, refused.done_at) = (ActionState::Refused, None);
        let first = action("a", "waf_block", "203.0.113.7", 7_200);
        for one in [
            &first,
            &action("b", "block_address", "203.0.113.7", 3_600),
            &action("c", "block_address", "198.51.100.0/24", 3_600),
            &action("d", "waf_block", "2001:db8::7", 3_600),
            &probe,
            &refused,
            &action("e", "waf_block", "203.0.113.11", -5),
        ] {
            put(&world, "default", one).await;
        }
        put(&world, "acme", &action("f", "waf_block", "203.0.113.12", 3_600)).await;
        let (_, all) = ask(&world, &key, "/v1/decisions").await;
        let found: Vec<_> = all.as_array().unwrap().iter().map(strict).collect();
        let of = |value: &str| found.iter().find(|one| one.0 == value).unwrap_or_else(|| panic!("{value}: {found:?}"));
        assert_eq!(found.len(), 3, "{found:?}");
        assert!((7_000..=7_200).contains(&of("203.0.113.7").2), "the longest: {found:?}");
        assert_eq!((of("198.51.100.0/24").1.as_str(), of("2001:db8::7").1.as_str()), ("Range", "Ip"));
        let (_, one) = ask(&world, &key, "/v1/decisions?ip=198.51.100.77").await;
        assert_eq!(values(&one), ["198.51.100.0/24"], "a network that holds the address");
        assert_eq!(ask(&world, &key, "/v1/decisions?ip=192.0.2.1").await, (200, Value::Null));
        assert_eq!(ask(&world, &key, "/v1/decisions?ip=x").await.0, 400);

        let (_, stream) = ask(&world, &key, "/v1/decisions/stream").await;
        assert_eq!(values(&stream["new"]).len(), 3, "{stream}");
        // What was over by its time a moment ago, and in effect before, is over here too.
        assert_eq!(values(&stream["deleted"]), ["203.0.113.11"], "{stream}");
        // One of two blocks of an address is taken back: it stays blocked. Then the other.
        let mut over = first.clone();
        over.state = ActionState::Undone;
        put(&world, "default", &over).await;
        let (_, stream) = ask(&world, &key, "/v1/decisions/stream").await;
        assert!(!values(&stream["deleted"]).contains(&"203.0.113.7".into()), "{stream}");
        let mut over = action("b", "block_address", "203.0.113.7", 3_600);
        over.state = ActionState::Undone;
        put(&world, "default", &over).await;
        let (_, stream) = ask(&world, &key, "/v1/decisions/stream").await;
        assert!(values(&stream["deleted"]).contains(&"203.0.113.7".into()), "{stream}");
        assert!(!values(&stream["new"]).contains(&"203.0.113.7".into()), "{stream}");

        let listed = world.get("/api/v1/bouncers").await;
        assert_eq!(
            (&listed["items"][0]["name"], &listed["items"][0]["kind"]),
            (&json!("edge"), &json!("test-bouncer/v1"))
        );
        assert!(!listed.to_string().contains(&key), "the key is shown once");
        let gone =
            world.client.delete(world.url("/api/v1/bouncers/edge")).bearer_auth(&world.token).send().await.unwrap();
        assert_eq!(gone.status().as_u16(), 204);
        assert_eq!(ask(&world, &key, "/v1/decisions").await.0, 403, "removed, it opens nothing");
    });
}

/// The program of Debian's package.
fn program() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|dir| dir.join("crowdsec-firewall-bouncer")).find(|file| file.is_file())
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn configuration(dir: &Path, api: &str, key: &str) -> String {
    let dir = dir.display();
    format!(
        "mode: nftables\npid_dir: {dir}\nupdate_frequency: 1s\ndaemonize: false\nlog_mode: stdout\nlog_dir: {dir}\nlog_level: \
         info\napi_url: {api}/\napi_key: {key}\ndisable_ipv6: true\ndeny_action: DROP\ndeny_log: false\nblacklists_ipv4: \
         blocked\nblacklists_ipv6: blocked6\nnftables:\n  ipv4:\n    enabled: true\n    set-only: false\n    table: crowdsec\n    \
         chain: crowdsec-chain\n  ipv6:\n    enabled: false\nnftables_hooks:\n  - input\n  - forward\n"
    )
}

pub fn bouncer() {
    if !harness::root() {
        return;
    }
    let program = program();
    harness::needs(program.is_some(), "crowdsec-firewall-bouncer of Debian's package of that name");
    let Some(program) = program else { return };
    let mut lab = Lab::new("bouncer").unwrap();
    for name in ["host", "attacker", "friend"] {
        lab.add(name).unwrap();
    }
    for (at, name) in ["attacker", "friend"].iter().enumerate() {
        let (ours, theirs) = (format!("10.77.{at}.1/24"), format!("10.77.{at}.2/24"));
        let here = End { namespace: "host", device: ["a0", "f0"][at], addresses: &[&ours] };
        lab.join(here, End { namespace: name, device: "e0", addresses: &[&theirs] }).unwrap();
    }
    let lab = &lab;
    lab.inside("host", || {
        on(async {
            let world = World::start("").await;
            let key = key(&world, "edge").await;
            let listener = tokio::net::TcpListener::bind("0.0.0.0:8080").await.unwrap();
            tokio::spawn(async move { while listener.accept().await.is_ok() {} });
            let reaches = |from: &str, to: &str| {
                let script = format!("exec 3<>/dev/tcp/{to}/8080");
                let mut command = lab.command(from, "timeout").unwrap();
                command.args(["2", "bash", "-c", &script]).stdout(Stdio::null()).stderr(Stdio::null());
                command.status().unwrap().success()
            };
            let until = async |what: &str, from: &str, to: &str, wanted: bool| {
                let until = Instant::now() + PATIENCE;
                while reaches(from, to) != wanted {
                    assert!(Instant::now() < until, "{what}");
                    tokio::time::sleep(Duration::from_millis(300)).await;
                }
            };
            until("the attacker reaches the host before", "attacker", "10.77.0.1", true).await;
            let dir = tempfile::tempdir().unwrap();
            let file = dir.path().join("bouncer.yaml");
            let api = format!("http://{}", world.running().api_addr);
            std::fs::write(&file, configuration(dir.path(), &api, &key)).unwrap();
            let log = std::fs::File::create(dir.path().join("log")).unwrap();
            let mut command = Command::new(program);
            command.arg("-c").arg(&file).stdout(log.try_clone().unwrap()).stderr(log);
            let _running = Running(command.spawn().unwrap());
            let block = action("a", "waf_block", "10.77.0.2", 3_600);
            put(&world, "default", &block).await;
            until("the bouncer blocks what was decided", "attacker", "10.77.0.1", false).await;
            assert!(reaches("friend", "10.77.1.1"), "and nobody else");
            let over = Action { state: ActionState::Undone, ..block };
            put(&world, "default", &over).await;
            until("the bouncer lets go of what was taken back", "attacker", "10.77.0.1", true).await;
            let listed = world.get("/api/v1/bouncers").await;
            assert!(listed["items"][0]["kind"].as_str().unwrap().contains("bouncer"), "{listed}");
        });
    })
    .unwrap();
}
