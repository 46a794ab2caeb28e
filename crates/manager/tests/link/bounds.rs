//! Floods of alerts, from ever new addresses and from one: what the manager writes is bounded, what it left out is counted
//! and told once, what is over goes, and the ledger's chain is whole all the while.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sakimori_manager::config::{Channel, Config};
use sakimori_manager::jobs::upkeep;
use sakimori_manager::{Manager, Outside, Running};
use sakimori_model::action::{Cause, Target};
use sakimori_model::{Action, ActionState, Event, Network, Order, Timestamp, field};
use sakimori_respond::ports::{AddressSet, BoxFuture, PortError, SetOutcome};
use sakimori_runtime::clock::ManualClock;
use sakimori_runtime::{Clock, SystemClock};
use sakimori_store::control::sql;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::agent::{Agent, Stream, World};

/// Alerts of the flood, each from an address of its own.
const FLOOD: u32 = 50_000;
const PORTION: u32 = 1_000;
const PATIENCE: Duration = Duration::from_secs(300);

/// The WAF's sets, in memory.
#[derive(Default)]
struct Sets(Mutex<BTreeSet<Network>>);

impl AddressSet for Sets {
    fn replace<'a>(&'a self, desired: &'a BTreeSet<Network>) -> BoxFuture<'a, Result<SetOutcome, PortError>> {
        let mut held = self.0.lock().unwrap();
        let outcome = SetOutcome {
            added: desired.difference(&held).copied().collect(),
            removed: held.difference(desired).copied().collect(),
            no_effect: None,
        };
        held.clone_from(desired);
        Box::pin(async { Ok(outcome) })
    }

    fn read<'a>(&'a self) -> BoxFuture<'a, Result<BTreeSet<Network>, PortError>> {
        let held = self.0.lock().unwrap().clone();
        Box::pin(async { Ok(held) })
    }
}

/// A webhook that takes everything, and keeps what it was sent.
#[derive(Clone, Default)]
pub struct Hook(Arc<Mutex<Vec<Value>>>);

impl Hook {
    pub async fn listen(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let kept = self.clone();
        #[expect(clippy::disallowed_methods, reason = "it ends with the test's runtime")]
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let kept = kept.clone();
                tokio::spawn(async move { kept.serve(stream).await });
            }
        });
        url
    }

    async fn serve(&self, mut stream: tokio::net::TcpStream) {
        let (mut bytes, mut buffer) = (Vec::new(), vec![0; 64 << 10]);
        while let Ok(count @ 1..) = stream.read(&mut buffer).await {
            bytes.extend_from_slice(&buffer[..count]);
            let Some(head) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
            let text = String::from_utf8_lossy(&bytes[..head]).to_lowercase();
            let length = text.lines().find_map(|line| line.strip_prefix("content-length:")).unwrap().trim();
            let end = head + 4 + length.parse::<usize>().unwrap();
            if bytes.len() >= end {
                self.0.lock().unwrap().push(serde_json::from_slice(&bytes[head + 4..end]).unwrap());
                bytes.drain(..end);
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
            }
        }
    }

    pub fn sent(&self) -> Vec<Value> {
        self.0.lock().unwrap().clone()
    }
}

struct Site {
    manager: Running,
    clock: Arc<ManualClock>,
    sets: Arc<Sets>,
    hook: Hook,
    agent: Agent,
    stream: Stream,
    sequence: AtomicU64,
}

impl Site {
    async fn start(world: &World, change: impl FnOnce(&mut Config)) -> Self {
        let (hook, sets) = (Hook::default(), Arc::new(Sets::default()));
        let mut config = world.config();
        let url = hook.listen().await;
        config.notify = vec![Channel { name: "ops".into(), url, burst_seconds: 1, ..Channel::default() }];
        change(&mut config);
        let clock = Arc::new(ManualClock::at(SystemClock.now()));
        let waf: Arc<dyn AddressSet> = Arc::clone(&sets) as Arc<dyn AddressSet>;
        let shared_clock = Arc::clone(&clock);
        let manager = world.know_first(
            Manager::start_on(config, shared_clock, Outside { waf: Some(waf), ..Outside::default() }).await.unwrap(),
        );
        let agent = Agent::enrol(&world.token(&manager).await).await.unwrap();
        let stream = agent.open().await.unwrap();
        Self { manager, clock, sets, hook, agent, stream, sequence: AtomicU64::new(0) }
    }

    async fn send(&mut self, name: &str, events: Vec<Event>) {
        let sequence = self.sequence.fetch_add(1, Ordering::Relaxed) + 1;
        // A stream of its own for each: their order does not matter here.
        self.stream.send(self.agent.batch(&format!("{name}-{sequence}"), 1, events)).await;
        self.stream.receipt().await;
    }

    fn pass(&self, seconds: i64) {
        self.clock.set(self.clock.now().plus_secs(seconds));
    }

    async fn number(&self, statement: &'static str) -> i64 {
        sql::query_scalar(statement).fetch_one(self.manager.shared.control.read()).await.unwrap()
    }

    /// Waits for a number that a statement gives.
    async fn until(&self, what: &str, statement: &'static str, holds: impl Fn(i64) -> bool) -> i64 {
        let began = Instant::now();
        loop {
            let number = self.number(statement).await;
            if holds(number) {
                return number;
            }
            assert!(began.elapsed() < PATIENCE, "waited in vain: {what}: {number}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until all events that were asked for are there.
    async fn found(&self, world: &World, query: &str, holds: impl Fn(u64) -> bool) -> u64 {
        let began = Instant::now();
        loop {
            let count = world.count(&self.manager, query).await;
            if holds(count) {
                return count;
            }
            assert!(began.elapsed() < PATIENCE, "waited in vain: {query}: {count}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

fn address(number: u32) -> std::net::IpAddr {
    std::net::IpAddr::from((0x0b00_0000 + number).to_be_bytes())
}

fn alert(id: &str, from: std::net::IpAddr, now: Timestamp) -> Event {
    let mut event = super::alert(id);
    event.set(field::TIMESTAMP, now);
    event.set(field::SOURCE_IP, from);
    event
}

/// What a host tells of an action of its own.
fn told(agent: &str, id: &str, number: u32, state: ActionState, now: Timestamp) -> Event {
    let action = Action {
        order: Order {
            id: id.into(),
            action: "block_address".into(),
            target: Target::Network(address(number).to_string().parse().unwrap()),
            expiry: None,
            cause: Cause { alert: format!("alert-{id}"), by: "playbook:block".into(), ..Cause::default() },
            via: None,
            probe: false,
            inputs: Default::default(),
            signatures: Vec::new(),
        },
        place: agent.into(),
        state,
        reason: None,
        former: None,
        planned_at: now,
        done_at: Some(now),
        ended_at: None,
        expires_at: Some(now.plus_secs(3_600)),
        expires_at_most: None,
        prolonged: 0,
        grace_until: None,
        undone_by: None,
        confirm_by: None,
    };
    sakimori_respond::event::of(&action, now)
}

/// Memory of this process, the tests beside this one included, in MiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() >> 10
}

#[test]
fn a_flood_from_ever_new_addresses_writes_few_rows_and_is_told_once() {
    let world = World::new();
    world.run(async {
        let mut site = Site::start(&world, |config| config.flood.addresses_per_minute = 100).await;
        let (before, began) = (resident(), Instant::now());
        for portion in 0..FLOOD / PORTION {
            let now = site.clock.now();
            let numbers = portion * PORTION..(portion + 1) * PORTION;
            let alerts = numbers.map(|number| alert(&format!("{number:032x}"), address(number), now)).collect();
            site.send("auth", alerts).await;
        }
        let shed = "SELECT CAST(COALESCE(SUM(count), 0) AS BIGINT) FROM shed WHERE kind = 'waf_block'";
        let written = "SELECT COUNT(*) FROM actions WHERE kind = 'waf_block'";
        site.until("all are seen to", shed, |count| count == i64::from(FLOOD) - 2_000).await;
        println!("{FLOOD} alerts in {} s, {} MiB more", began.elapsed().as_secs(), resident().saturating_sub(before));
        assert_eq!(site.number(written).await, 2_000, "what was not counted is written");
        // Messages likewise; those that tell of the flood itself come on top.
        let messages = "SELECT COUNT(*) FROM actions WHERE kind = 'notify' AND alert <> '' AND rule <> 'actions-shed'";
        let untold = "SELECT CAST(COALESCE(SUM(count), 0) AS BIGINT) FROM shed WHERE kind = 'notify'";
        assert_eq!((site.number(messages).await, site.number(untold).await), (200, i64::from(FLOOD) - 200));
        // No alert is lost, and one alert for each kind says what is left out and what to do.
        site.found(&world, "event.kind:alert and rule.id:ssh-brute-force", |count| count == u64::from(FLOOD)).await;
        site.found(&world, "event.kind:alert and rule.id:actions-shed", |count| count == 2).await;
        site.pass(2);
        let page = world.ask(&site.manager, "/api/v1/alerts?q=rule.id:actions-shed").await;
        let said = page["items"].to_string();
        assert!(
            said.contains("sakimori actions shed") && said.contains("hosts go on to block by themselves"),
            "{said}"
        );
        // The ledger has what was done of what was written, and the WAF holds it.
        site.until(
            "the WAF holds them",
            "SELECT COUNT(*) FROM actions WHERE kind = 'waf_block' AND state = 'done'",
            |done| done == 2_000,
        )
        .await;
        assert_eq!(site.sets.0.lock().unwrap().len(), 2_000);
        site.until(
            "messages are sent",
            "SELECT COUNT(*) FROM actions WHERE kind = 'notify' AND state = 'done'",
            |done| done >= 202,
        )
        .await;
        let records = site.number("SELECT COUNT(*) FROM ledger").await;
        assert!(records <= 5 * (2_000 + 210), "{records} records of the ledger");
        assert!(site.number("SELECT COUNT(*) FROM outbox").await <= 100_000);
        let more = resident().saturating_sub(before);
        assert!(more < 1_024, "{more} MiB more");
        // A minute later one message says how many more there were.
        assert!(site.hook.sent().len() <= 30, "{} messages", site.hook.sent().len());
        site.pass(61);
        let planned = "SELECT COUNT(*) FROM actions WHERE rule = 'actions-shed' AND alert = ''";
        site.until("a message is to sum up", planned, |count| count == 1).await;
        // It waits for others of its kind as long as the channel's configuration says.
        site.pass(2);
        let sum = |sent: &[Value]| {
            sent.iter().filter(|one| one["summary"].as_str().unwrap().contains("more alerts, not told")).count()
        };
        let waits = Instant::now();
        while sum(&site.hook.sent()) == 0 {
            assert!(waits.elapsed() < PATIENCE, "no message sums up");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let text = serde_json::to_string(&site.hook.sent()).unwrap();
        assert!(
            text.contains(&format!("{} more alerts, not told one by one", FLOOD - 200)),
            "{}",
            site.hook.sent().len()
        );
        assert_eq!(sum(&site.hook.sent()), 1);
        // What a minute brings is written again, and nothing is told anew.
        let now = site.clock.now();
        let later = (FLOOD..FLOOD + 300).map(|number| alert(&format!("{number:032x}"), address(number), now)).collect();
        site.send("auth", later).await;
        site.until("the rest is counted", shed, |count| count == i64::from(FLOOD) - 2_000 + 300 - 108).await;
        assert_eq!(world.count(&site.manager, "event.kind:alert and rule.id:actions-shed").await, 2);
        let spans = world.ask(&site.manager, "/api/v1/actions/shed").await;
        let spans = spans["items"].as_array().unwrap().clone();
        assert_eq!(spans.len(), 2, "one span each: {spans:?}");
        // A month later all of it is over and gone, and the chain that is left is whole.
        site.pass(2 * 86_400);
        site.until(
            "all blocks end",
            "SELECT COUNT(*) FROM actions WHERE state IN ('approved', 'running', 'done') AND kind = 'waf_block'",
            |live| live == 0,
        )
        .await;
        let waiting = "SELECT COUNT(*) FROM actions WHERE state IN ('approved', 'running') AND kind = 'notify'";
        // What is asked for meanwhile waits for others of its kind, by this clock.
        let began = Instant::now();
        while site.number(waiting).await > 0 {
            assert!(began.elapsed() < PATIENCE, "messages wait");
            site.pass(1);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        site.pass(31 * 86_400);
        upkeep::round(&site.manager.shared).await;
        assert_eq!(site.number("SELECT COUNT(*) FROM actions WHERE kind = 'waf_block'").await, 0);
        // What the manager sent by itself meanwhile is there; and the newest record stays: the next is chained to it.
        let left = site.number("SELECT COUNT(*) FROM actions").await;
        assert!(left <= 8, "{left}");
        assert!((1..=40).contains(&site.number("SELECT COUNT(*) FROM ledger").await));
        let audit = world.ask(&site.manager, "/api/v1/audit/verify").await;
        assert_eq!(audit["whole"], true, "{audit}");
        let chains = audit["chains"].as_array().unwrap();
        assert!(
            chains.iter().any(|chain| chain["log"] == "ledger" && chain["entries"].as_i64().unwrap() > 4_000),
            "{audit}"
        );
        site.manager.stop().await;
    });
}

#[test]
fn one_address_is_one_row_with_a_count_and_a_host_s_list_is_bounded() {
    let world = World::new();
    world.run(async {
        let mut site = Site::start(&world, |config| {
            (config.flood.host_actions_burst, config.flood.host_actions_per_minute) = (500, 60);
        })
        .await;
        let from = address(7);
        for portion in 0..4 {
            let now = site.clock.now();
            let alerts = (0..500).map(|n| alert(&format!("{:032x}", portion * 500 + n), from, now.plus_secs(n / 100)));
            let alerts = alerts.collect();
            site.send("auth", alerts).await;
        }
        let folded = "SELECT CAST(COALESCE(SUM(folded), 0) AS BIGINT) FROM actions WHERE kind = 'waf_block'";
        site.until("all are counted", folded, |count| count == 1_999).await;
        assert_eq!(
            site.number("SELECT COUNT(*) FROM actions WHERE kind = 'waf_block'").await,
            9,
            "itself and the first eight"
        );
        assert_eq!(site.number("SELECT COUNT(*) FROM shed WHERE kind = 'waf_block'").await, 0, "nothing is left out");
        let one = world.ask(&site.manager, "/api/v1/actions?action=waf_block&state=running,done").await;
        assert_eq!(one["items"][0]["folded"], 1_999, "{one}");
        // A host that blocks ever new addresses is listed up to its bound; it, and the events, have all.
        let (now, agent) = (site.clock.now(), site.agent.id.clone());
        for portion in 0..4_u32 {
            let numbers = portion * 500..(portion + 1) * 500;
            let events = numbers.map(|n| told(&agent, &format!("b{n}"), n, ActionState::Done, now)).collect();
            site.send("actions", events).await;
        }
        let listed = "SELECT COUNT(*) FROM actions WHERE kind = 'block_address'";
        let left_out = "SELECT CAST(COALESCE(SUM(count), 0) AS BIGINT) FROM shed WHERE kind = 'projection'";
        site.until("the rest is counted", left_out, |count| count == 1_500).await;
        assert_eq!(site.number(listed).await, 500);
        site.found(&world, "sakimori.action.kind:block_address", |count| count == 2_000).await;
        site.found(&world, "event.kind:alert and rule.id:actions-shed", |count| count == 2).await;
        let page = world.ask(&site.manager, "/api/v1/alerts?q=rule.id:actions-shed").await.to_string();
        assert!(page.contains(&format!("host {agent} does more than is listed")), "{page}");
        // What becomes of a row that is listed is noted all the same; repeats of its target are counted in it.
        let ends = vec![told(&agent, "b3", 3, ActionState::Undone, now)];
        site.send("actions", ends).await;
        site.until("its end is noted", "SELECT COUNT(*) FROM actions WHERE id = 'b3' AND state = 'undone'", |n| n == 1)
            .await;
        let repeats = (0..300).map(|n| told(&agent, &format!("r{n}"), 5, ActionState::NoEffect, now)).collect();
        site.send("actions", repeats).await;
        site.until("they are counted", "SELECT folded FROM actions WHERE id = 'b5'", |count| count == 300).await;
        assert_eq!(site.number(listed).await, 500);
        site.manager.stop().await;
    });
}

#[test]
fn a_crash_in_a_flood_gives_no_new_burst_and_counts_nothing_twice() {
    let world = World::new();
    let flood = async |site: &mut Site, from: u32| {
        let now = site.clock.now();
        let alerts = (from..from + 500).map(|number| alert(&format!("{number:032x}"), address(number), now)).collect();
        site.send("auth", alerts).await;
    };
    let small = |config: &mut Config| {
        (config.flood.actions_burst, config.flood.addresses_per_minute) = (100, 0);
        config.lake.flush_seconds = 3_600;
    };
    let shed = "SELECT CAST(COALESCE(SUM(count), 0) AS BIGINT) FROM shed WHERE kind = 'waf_block'";
    world.run(async {
        let mut site = Site::start(&world, small).await;
        flood(&mut site, 0).await;
        flood(&mut site, 500).await;
        site.until("the rest is counted", shed, |count| count == 900).await;
        site.found(&world, "event.kind:alert and rule.id:actions-shed", |count| count == 2).await;
    });
    world.kill();
    world.run(async {
        // The journal is read again from its beginning.
        let mut site = Site::start(&world, small).await;
        assert_eq!(site.number("SELECT COUNT(*) FROM actions WHERE kind = 'waf_block'").await, 100);
        assert_eq!(site.number(shed).await, 900);
        flood(&mut site, 1_000).await;
        site.until("all of it is counted", shed, |count| count == 1_400).await;
        assert_eq!(site.number("SELECT COUNT(*) FROM actions WHERE kind = 'waf_block'").await, 100);
        assert_eq!(
            world.count(&site.manager, "event.kind:alert and rule.id:actions-shed").await,
            2,
            "nor is it told again"
        );
        site.manager.stop().await;
    });
}
