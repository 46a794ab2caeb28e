//! Blocks in the WAF as the manager keeps them: those that change nothing are told with the next step, once; what came onto the
//! allow-list, and from where an operator signs in, is let through although it was blocked before; who comes back stays where
//! the oldest have to go.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sakimori_manager::{Manager, Outside, Running};
use sakimori_model::{Event, Network, field};
use sakimori_respond::ports::{AddressSet, BoxFuture, PortError, SetOutcome};
use sakimori_runtime::clock::ManualClock;
use sakimori_runtime::{Clock, SystemClock};
use serde_json::{Value, json};

use super::agent::{Agent, Stream, World};
use super::response::PATIENCE;

const NOWHERE: &str = "the web ACL shop that blocks them stands in front of nothing; associate it with the load balancer or API \
                       in front of the service";

/// Sets in memory, behind a web ACL that stands somewhere or nowhere.
struct Sets {
    held: Mutex<BTreeSet<Network>>,
    nowhere: Mutex<bool>,
    capacity: usize,
}

impl AddressSet for Sets {
    fn replace<'a>(&'a self, desired: &'a BTreeSet<Network>) -> BoxFuture<'a, Result<SetOutcome, PortError>> {
        let mut held = self.held.lock().unwrap();
        let outcome = SetOutcome {
            added: desired.difference(&held).copied().collect(),
            removed: held.difference(desired).copied().collect(),
            no_effect: (*self.nowhere.lock().unwrap() && !desired.is_empty()).then(|| NOWHERE.to_owned()),
        };
        held.clone_from(desired);
        Box::pin(async { Ok(outcome) })
    }

    fn capacity(&self) -> usize {
        self.capacity
    }

    fn read<'a>(&'a self) -> BoxFuture<'a, Result<BTreeSet<Network>, PortError>> {
        Box::pin(async { Ok(self.held.lock().unwrap().clone()) })
    }
}

struct Site<'a> {
    world: &'a World,
    manager: Running,
    sets: Arc<Sets>,
    clock: Arc<ManualClock>,
    agent: Agent,
    stream: Stream,
    sent: u64,
}

impl<'a> Site<'a> {
    async fn start(world: &'a World, nowhere: bool, capacity: usize) -> Self {
        let sets = Arc::new(Sets { held: Mutex::default(), nowhere: Mutex::new(nowhere), capacity });
        let clock = Arc::new(ManualClock::at(SystemClock.now()));
        let waf: Arc<dyn AddressSet> = Arc::clone(&sets) as Arc<dyn AddressSet>;
        let outside = Outside { waf: Some(waf), ..Outside::default() };
        let manager =
            world.know_first(Manager::start_on(world.config(), Arc::clone(&clock) as _, outside).await.unwrap());
        let agent = Agent::enrol(&world.token(&manager).await).await.unwrap();
        let stream = agent.open().await.unwrap();
        Self { world, manager, sets, clock, agent, stream, sent: 0 }
    }

    fn pass(&self, seconds: i64) {
        self.clock.set(self.clock.now().plus_secs(seconds));
    }

    /// Somebody attacks from there.
    async fn attacked(&mut self, from: &str) {
        self.sent += 1;
        let mut alert: Event = super::alert(&format!("{:032x}", self.sent));
        alert.set(field::TIMESTAMP, self.clock.now());
        alert.set(field::SOURCE_IP, from.parse::<std::net::IpAddr>().unwrap());
        let stream = format!("auth-{}", self.sent);
        self.stream.send(self.agent.batch(&stream, 1, vec![alert])).await;
        self.stream.receipt().await;
    }

    /// Waits until the sets hold exactly these.
    async fn holds(&self, wanted: &[&str]) {
        let wanted: BTreeSet<Network> = wanted.iter().map(|text| text.parse().unwrap()).collect();
        self.wait(&format!("the sets hold {wanted:?}"), async || *self.sets.held.lock().unwrap() == wanted).await;
    }

    async fn wait(&self, what: &str, holds: impl AsyncFn() -> bool) {
        let began = Instant::now();
        while !holds().await {
            assert!(began.elapsed() < PATIENCE, "waited in vain: {what}; {:?}", self.sets.held.lock().unwrap());
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }

    /// Blocks of the WAF in this state.
    async fn in_state(&self, state: &str) -> Vec<Value> {
        let path = format!("/api/v1/actions?action=waf_block&state={state}");
        self.world.ask(&self.manager, &path).await["items"].as_array().unwrap().clone()
    }

    async fn told(&self) -> Vec<Value> {
        let page = self.world.ask(&self.manager, "/api/v1/alerts?q=rule.id:waf-without-effect").await;
        page["items"].as_array().unwrap().clone()
    }
}

#[test]
fn blocks_behind_a_web_acl_that_stands_nowhere_are_told_once_with_the_next_step() {
    let world = World::new();
    world.run(async {
        let mut site = Site::start(&world, true, 10_000).await;
        for (number, from) in ["198.51.100.1", "198.51.100.2", "198.51.100.3"].into_iter().enumerate() {
            site.attacked(from).await;
            site.wait("it has no effect", async || site.in_state("no_effect").await.len() == number + 1).await;
        }
        let reason = site.in_state("no_effect").await[0]["reason"].as_str().unwrap().to_owned();
        assert!(reason.contains("associate it with the load balancer"), "{reason}");
        site.wait("it is told", async || !site.told().await.is_empty()).await;
        let told = site.told().await;
        assert_eq!(told.len(), 1, "{told:?}");
        let message = told[0]["event"]["message"].as_str().unwrap();
        assert!(message.contains("stands in front of nothing; associate it with the load balancer"), "{message}");
        // It is mended, and lost again while a block is in effect: that block says nothing by itself.
        *site.sets.nowhere.lock().unwrap() = false;
        site.attacked("198.51.100.4").await;
        site.wait("a block is in effect", async || site.in_state("done").await.len() == 1).await;
        *site.sets.nowhere.lock().unwrap() = true;
        // An hour goes by in parts, since a block lasts no longer without fresh evidence.
        for _ in 0..3 {
            site.pass(1_300);
            site.attacked("198.51.100.4").await;
        }
        site.wait("it is told again", async || site.told().await.len() == 2).await;
        site.manager.stop().await;
    });
}

#[test]
fn who_must_be_let_through_is_although_he_was_blocked_before() {
    let world = World::new();
    world.run(async {
        let mut site = Site::start(&world, false, 10_000).await;
        for from in ["198.51.100.1", "198.51.100.2", "203.0.113.9"] {
            site.attacked(from).await;
        }
        site.holds(&["198.51.100.1", "198.51.100.2", "203.0.113.9"]).await;
        let tree = json!({"tree": {"response": {"allow": ["198.51.100.0/31"]}}});
        world.put(&site.manager, "/api/v1/policies/layers/tenant", tree).await;
        site.holds(&["198.51.100.2", "203.0.113.9"]).await;
        site.wait("it is undone", async || site.in_state("undone").await.len() == 1).await;
        let undone = site.in_state("undone").await;
        assert!(undone[0]["reason"].as_str().unwrap().contains("allow-list"), "{undone:?}");
        // And a proxy that is named only now.
        let tree = json!({"tree": {"response": {"trusted_proxies": ["203.0.113.9"]}}});
        world.put(&site.manager, "/api/v1/policies/layers/tenant", tree).await;
        site.holds(&["198.51.100.2"]).await;
        site.manager.stop().await;
    });
}

#[test]
fn who_comes_back_stays_and_the_oldest_goes() {
    let world = World::new();
    world.run(async {
        let mut site = Site::start(&world, false, 2).await;
        site.attacked("198.51.100.1").await;
        site.holds(&["198.51.100.1"]).await;
        site.pass(100);
        site.attacked("198.51.100.2").await;
        site.holds(&["198.51.100.1", "198.51.100.2"]).await;
        site.pass(100);
        site.attacked("198.51.100.1").await;
        site.wait("he is seen again", async || site.in_state("done").await.iter().any(|one| one["prolonged"] == 1))
            .await;
        site.pass(100);
        site.attacked("198.51.100.3").await;
        // By when each was first blocked it would be the first that goes.
        site.holds(&["198.51.100.1", "198.51.100.3"]).await;
        site.wait("it is said", async || !site.in_state("no_effect").await.is_empty()).await;
        let dropped = site.in_state("no_effect").await;
        let full =
            |one: &Value| one["reason"].as_str().unwrap().contains("the set holds 2 addresses with newer evidence");
        assert!(
            dropped.iter().any(|one| one["order"]["target"]["network"] == "198.51.100.2" && full(one)),
            "{dropped:?}"
        );
        site.manager.stop().await;
    });
}
