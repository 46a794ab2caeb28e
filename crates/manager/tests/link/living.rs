//! Living with many hosts: tokens of groups, copies of a disk, agents that go away.

use std::time::{Duration, Instant};

use sakimori_manager::Running;
use sakimori_wire::agent as proto;
use sakimori_wire::agent::goodbye::Reason;
use serde_json::json;
use tonic::Code;

use super::agent::{Agent, World, events};

fn host(machine: &str, boot: &str) -> proto::Host {
    proto::Host {
        name: "web1".into(),
        machine: Some(proto::Machine { machine_id: machine.into(), ..proto::Machine::default() }),
        boot_id: boot.into(),
        ..proto::Host::default()
    }
}

async fn audited(world: &World, manager: &Running, action: &str) -> usize {
    world.ask(manager, "/api/v1/audit?limit=500").await.to_string().matches(&format!("\"{action}\"")).count()
}

async fn until_state(world: &World, manager: &Running, agent: &str, state: &str) {
    let began = Instant::now();
    loop {
        let now = world.presence(manager, agent).await;
        if now == state {
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "it is {now} and not {state}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[test]
fn a_group_token_enrols_as_many_hosts_as_it_says_into_its_group_and_not_one_more() {
    let world = World::new();
    world.run(async {
        let manager = world.start().await;
        let like = json!({"name": "web", "tags": ["web"], "uses": 3, "hours": 8_000, "networks": ["127.0.0.0/8"]});
        let (token, id) = world.token_like(&manager, like).await;
        // All at once: the count holds then too.
        let (a, b, c, d, e) = tokio::join!(
            Agent::enrol(&token),
            Agent::enrol(&token),
            Agent::enrol(&token),
            Agent::enrol(&token),
            Agent::enrol(&token)
        );
        let made: Vec<Agent> = [a, b, c, d, e].into_iter().flatten().collect();
        assert_eq!(made.len(), 3);
        for agent in &made {
            let shown = world.ask(&manager, &format!("/api/v1/agents/{}", agent.id)).await;
            assert_eq!((&shown["tags"], &shown["token"]), (&json!(["web"]), &json!(id)));
        }
        let tokens = world.ask(&manager, "/api/v1/enrolment-tokens").await;
        assert_eq!((&tokens["items"][0]["uses"], &tokens["items"][0]["most_uses"]), (&json!(3), &json!(3)));
        assert_eq!(audited(&world, &manager, "agents:enrol").await, 3);
        assert_eq!(audited(&world, &manager, "agents:enrol-refused").await, 2);
        manager.stop().await;
    });
}

#[test]
fn a_token_for_another_network_or_that_was_taken_back_enrols_nobody() {
    let world = World::new();
    world.run(async {
        let manager = world.start().await;
        let like = json!({"name": "far", "uses": 5, "networks": ["10.0.0.0/8", "2001:db8::/32"]});
        let (far, _) = world.token_like(&manager, like).await;
        let refused = Agent::enrol(&far).await.err().unwrap();
        assert_eq!(refused.code(), Code::PermissionDenied);
        let tokens = world.ask(&manager, "/api/v1/enrolment-tokens").await;
        assert_eq!(tokens["items"][0]["uses"], 0, "a refusal uses nothing up");
        let (back, id) = world.token_like(&manager, json!({"name": "back", "uses": 5})).await;
        let agent = Agent::enrol(&back).await.unwrap();
        world.delete(&manager, &format!("/api/v1/enrolment-tokens/{id}")).await;
        assert_eq!(Agent::enrol(&back).await.err().unwrap().code(), Code::PermissionDenied);
        assert!(agent.open().await.is_ok(), "hosts that joined by it stay");
        assert_eq!(audited(&world, &manager, "enrolment-tokens:delete").await, 1);
        manager.stop().await;
    });
}

#[test]
fn who_tries_tokens_waits_and_wakes_no_growth() {
    let world = World::new();
    world.run(async {
        let manager = world.start().await;
        let token = world.token(&manager).await;
        let mut guess = token.clone();
        for number in 0..10 {
            guess.secret = format!("guess-{number}");
            assert_eq!(Agent::enrol(&guess).await.err().unwrap().code(), Code::PermissionDenied);
        }
        let waits = Agent::enrol(&token).await.err().unwrap();
        assert_eq!(waits.code(), Code::ResourceExhausted, "{waits}");
        assert!(waits.message().contains("try again in"), "{waits}");
        assert_eq!(audited(&world, &manager, "agents:enrol-refused").await, 0);
        manager.stop().await;
    });
}

#[test]
fn a_copy_of_a_disk_does_not_speak_as_its_original() {
    let world = World::new();
    world.run(async {
        let manager = world.start().await;
        let agent = Agent::enrol_on(&world.token(&manager).await, host("original", "boot-a")).await.unwrap();
        let mut original = agent.open_on(host("original", "boot-a")).await.unwrap();
        // Another machine-id: refused for good, and told once however often it tries.
        for _ in 0..3 {
            let refused = agent.open_on(host("copy", "boot-b")).await.err().unwrap();
            assert_eq!(refused.code(), Code::PermissionDenied);
            assert!(refused.message().contains("another machine (machine-id differs)"), "{refused}");
        }
        assert_eq!(audited(&world, &manager, "agents:copied").await, 1);
        // A copy that differs in nothing but its kernel's boot: not while the original is connected.
        let refused = agent.open_on(host("original", "boot-b")).await.err().unwrap();
        assert_eq!(refused.code(), Code::Unavailable);
        original.send(agent.batch("auth", 1, events(1))).await;
        assert_eq!(original.receipt().await, ("auth".to_owned(), 1), "the original is not disturbed");
        // The same machine connects again, as after a broken network.
        let mut again = agent.open_on(host("original", "boot-a")).await.unwrap();
        again.send(agent.batch("auth", 2, events(1))).await;
        assert_eq!(again.receipt().await, ("auth".to_owned(), 2));
        manager.stop().await;
    });
}

#[test]
fn an_identity_of_before_is_bound_at_its_first_hello() {
    let world = World::new();
    world.run(async {
        let manager = world.start().await;
        let agent = Agent::enrol(&world.token(&manager).await).await.unwrap();
        drop(agent.open_on(host("first", "boot-a")).await.unwrap());
        let refused = agent.open_on(host("second", "boot-b")).await.err().unwrap();
        assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
        manager.stop().await;
    });
}

#[test]
fn who_says_goodbye_is_retired_or_stopped_and_who_does_not_is_silent() {
    let world = World::new();
    world.run(async {
        let manager = world.start().await;
        let tree = json!({"tree": {"presence": {"silent_after_seconds": 6}}});
        world.put(&manager, "/api/v1/policies/layers/tenant", tree).await;
        let mut agents = Vec::new();
        for _ in 0..3 {
            agents.push(Agent::enrol(&world.token(&manager).await).await.unwrap());
        }
        let [scaled_in, stopped, silent] = [&agents[0], &agents[1], &agents[2]];
        scaled_in.open().await.unwrap().goodbye(Reason::HostStops).await;
        until_state(&world, &manager, &scaled_in.id, "retired").await;
        stopped.open().await.unwrap().goodbye(Reason::Stopped).await;
        until_state(&world, &manager, &stopped.id, "stopped").await;
        let stream = silent.open().await.unwrap();
        until_state(&world, &manager, &silent.id, "connected").await;
        drop(stream);
        until_state(&world, &manager, &silent.id, "away").await;
        until_state(&world, &manager, &silent.id, "silent").await;
        assert_eq!(world.presence(&manager, &scaled_in.id).await, "retired");
        for (action, count) in [("agents:retired", 1), ("agents:stopped", 1), ("agents:silent", 1), ("agents:back", 0)]
        {
            assert_eq!(audited(&world, &manager, action).await, count, "{action}");
        }
        // An event, that a rule or a person can look for.
        let began = Instant::now();
        while world.count(&manager, "event.action:%22agents:silent%22").await != 1 {
            assert!(began.elapsed() < Duration::from_secs(30), "no event tells of it");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let _stream = silent.open().await.unwrap();
        until_state(&world, &manager, &silent.id, "connected").await;
        assert_eq!(audited(&world, &manager, "agents:back").await, 1);
        manager.stop().await;
    });
}

#[test]
fn a_group_whose_hosts_come_and_go_is_retired_without_an_alarm() {
    let world = World::new();
    world.run(async {
        let manager = world.start().await;
        let tree = json!({"tree": {"presence": {"silent_after_seconds": 1, "retire_after_seconds": 8}}});
        world.put(&manager, "/api/v1/policies/layers/group:web", tree).await;
        let (token, _) = world.token_like(&manager, json!({"name": "web", "tags": ["web"], "uses": 2})).await;
        let agent = Agent::enrol(&token).await.unwrap();
        drop(agent.open().await.unwrap());
        until_state(&world, &manager, &agent.id, "retired").await;
        assert_eq!(audited(&world, &manager, "agents:silent").await, 0);
        assert_eq!(audited(&world, &manager, "agents:retired").await, 1);
        let _stream = agent.open().await.unwrap();
        until_state(&world, &manager, &agent.id, "connected").await;
        manager.stop().await;
    });
}
