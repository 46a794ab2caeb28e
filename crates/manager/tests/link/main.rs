//! The agents' channel, ingest and recovery against a real manager, by a played agent that speaks the real protocol.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

#[allow(dead_code, reason = "each test program uses its part")]
mod agent;
mod bounds;
mod flood;
mod kills;
mod living;
mod package;
mod power;
mod refused;
mod response;
mod waf;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use agent::{Agent, World, events, forged_identity};
use sakimori_manager::jobs::upkeep;
use sakimori_model::action::{Cause, Target};
use sakimori_model::{Action, ActionState, Event, Order, Timestamp, field};
use sakimori_store::control::{Scope, agents};
use serde_json::json;
use tonic::Code;

#[test]
fn a_token_enrols_once() {
    let world = World::new();
    world.run(async {
        let manager = world.start().await;
        let token = world.token(&manager).await;
        let agent = Agent::enrol(&token).await.unwrap();
        assert!(!agent.id.is_empty());
        let again = Agent::enrol(&token).await.err().unwrap();
        assert_eq!(again.code(), Code::PermissionDenied, "{again}");
        let audit = world.ask(&manager, "/api/v1/audit?limit=50").await.to_string();
        assert_eq!(audit.matches("agents:enrol-refused").count(), 1, "{audit}");
        let mut guess = token.clone();
        guess.secret = "guessed".into();
        assert_eq!(Agent::enrol(&guess).await.err().unwrap().code(), Code::PermissionDenied);
        let audit = world.ask(&manager, "/api/v1/audit?limit=50").await.to_string();
        assert_eq!(audit.matches("agents:enrol-refused").count(), 1, "a guess leaves no row: {audit}");
        manager.stop().await;
    });
}

#[test]
fn what_is_acknowledged_is_found_within_a_second_and_stored_once() {
    let world = World::new();
    world.run(async {
        let manager = world.start().await;
        let agent = Agent::enrol(&world.token(&manager).await).await.unwrap();
        let mut stream = agent.open().await.unwrap();
        stream.send(agent.batch("auth", 1, events(3))).await;
        assert_eq!(stream.receipt().await, ("auth".to_owned(), 1));
        let acknowledged = Instant::now();
        while world.count(&manager, "sakimori.stream:auth").await != 3 {
            assert!(acknowledged.elapsed() < Duration::from_secs(30));
        }
        println!("searchable {} ms after the receipt", acknowledged.elapsed().as_millis());
        stream.send(agent.batch("auth", 1, events(3))).await;
        assert_eq!(stream.receipt().await, ("auth".to_owned(), 1), "a repeat is acknowledged");
        stream.send(agent.batch("auth", 2, events(2))).await;
        stream.receipt().await;
        assert_eq!(world.count(&manager, "sakimori.stream:auth").await, 5);
        stream.send(agent.batch("auth", 9, events(1))).await;
        assert_eq!(stream.end().await.code(), Code::Unavailable, "a gap is not taken");
        manager.stop().await;
    });
}

#[test]
fn batches_of_somebody_else_and_garbage_are_refused() {
    let world = World::new();
    world.run(async {
        let manager = world.start().await;
        let agent = Agent::enrol(&world.token(&manager).await).await.unwrap();
        let other = Agent::enrol(&world.token(&manager).await).await.unwrap();
        for bytes in [other.batch("auth", 1, events(1)), b"garbage".to_vec(), Vec::new()] {
            let mut stream = agent.open().await.unwrap();
            stream.send(bytes).await;
            assert_eq!(stream.end().await.code(), Code::InvalidArgument);
        }
        assert_eq!(world.count(&manager, "sakimori.stream:auth").await, 0);
        manager.stop().await;
    });
}

#[test]
fn a_forged_certificate_and_none_are_refused() {
    let world = World::new();
    world.run(async {
        let manager = world.start().await;
        let agent = Agent::enrol(&world.token(&manager).await).await.unwrap();
        let mut forged = agent.clone();
        (forged.key_pem, forged.certificate_pem) = forged_identity(&agent.id);
        assert!(forged.open().await.is_err(), "a certificate of another CA with this agent's id");
        assert_eq!(agent.without_certificate().await.code(), Code::Unauthenticated);
        assert!(agent.open().await.is_ok());
        manager.stop().await;
    });
}

#[test]
fn a_revoked_agents_stream_closes_and_it_stays_out() {
    let world = World::new();
    world.run(async {
        let manager = world.start().await;
        let agent = Agent::enrol(&world.token(&manager).await).await.unwrap();
        let mut stream = agent.open().await.unwrap();
        world.post(&manager, &format!("/api/v1/agents/{}/revoke", agent.id), json!({})).await;
        let revoked = Instant::now();
        assert_eq!(stream.end().await.code(), Code::PermissionDenied);
        println!("closed {} ms after the revocation", revoked.elapsed().as_millis());
        assert_eq!(agent.open().await.err().unwrap().code(), Code::PermissionDenied);
        assert_eq!(agent.renew().await.err().unwrap().code(), Code::PermissionDenied);
        manager.stop().await;
    });
}

#[test]
fn an_expired_agent_may_renew_and_nothing_else() {
    let world = World::new();
    world.run(async {
        let manager = world.start().await;
        let mut agent = Agent::enrol(&world.token(&manager).await).await.unwrap();
        let shared = &manager.shared;
        let past = shared.clock.now().plus_secs(-91 * 86_400);
        let old = shared.authority.sign_agent(&agent.request(), &agent.id, past).unwrap();
        let mut change = shared.control.begin().await.unwrap();
        agents::set_serial(change.connection(), &agent.id, &old.serial).await.unwrap();
        change.commit().await.unwrap();
        agent.certificate_pem = old.pem;
        assert_eq!(agent.open().await.err().unwrap().code(), Code::Unauthenticated);
        agent.certificate_pem = agent.renew().await.unwrap();
        assert!(agent.open().await.is_ok());
        manager.stop().await;
    });
}

#[test]
fn a_renewal_whose_answer_was_lost_locks_nobody_out() {
    let world = World::new();
    world.run(async {
        let manager = world.start().await;
        let mut agent = Agent::enrol(&world.token(&manager).await).await.unwrap();
        let old = agent.certificate_pem.clone();
        let lost = agent.renew().await.unwrap();
        assert!(agent.open().await.is_ok(), "the former one is good until the new one was seen");
        let new = agent.renew().await.unwrap();
        agent.certificate_pem = lost;
        assert_eq!(agent.open().await.err().unwrap().code(), Code::PermissionDenied, "one that was never used");
        agent.certificate_pem = new;
        assert!(agent.open().await.is_ok());
        agent.certificate_pem = old;
        assert_eq!(agent.open().await.err().unwrap().code(), Code::PermissionDenied, "the former one is over");
        manager.stop().await;
    });
}

#[test]
fn an_undo_is_told_until_it_is_answered() {
    let world = World::new();
    world.run(async {
        let manager = world.start().await;
        let agent = Agent::enrol(&world.token(&manager).await).await.unwrap();
        let mut stream = agent.open().await.unwrap();
        stream.send(agent.batch("actions", 1, vec![blocked(&agent.id, "block1")])).await;
        stream.receipt().await;
        let asked = Instant::now();
        while world.actions(&manager).await.is_empty() {
            assert!(asked.elapsed() < Duration::from_secs(30));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        world.post(&manager, "/api/v1/actions/block1/undo", json!({})).await;
        assert_eq!(stream.undo().await, "block1");
        // The answer to an order of this id is none to the undo, and a stream that breaks is none at all.
        stream.answer("block1", false).await;
        drop(stream);
        let mut stream = agent.open().await.unwrap();
        assert_eq!(stream.undo().await, "block1");
        let waiting = || agents::orders(manager.shared.control.read(), "default", &agent.id);
        assert_eq!(waiting().await.unwrap().len(), 1);
        stream.answer("block1", true).await;
        let answered = Instant::now();
        while !waiting().await.unwrap().is_empty() {
            assert!(answered.elapsed() < Duration::from_secs(30));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let audit = world.ask(&manager, "/api/v1/audit?limit=50").await.to_string();
        assert!(audit.contains("actions:undone") && !audit.contains("actions:accepted"), "{audit}");
        manager.stop().await;
    });
}

#[test]
fn what_retention_takes_stays_in_the_books() {
    let world = World::new();
    world.run(async {
        let manager = world.start_with(|config| config.lake.retention_days = 1).await;
        let agent = Agent::enrol(&world.token(&manager).await).await.unwrap();
        let mut stream = agent.open().await.unwrap();
        // Events of a day that is long over, since agents may have been away.
        stream.send(agent.batch("auth", 1, events(6))).await;
        stream.receipt().await;
        manager.shared.flush_now.notify_one();
        let began = Instant::now();
        while manager.shared.lake.status().unwrap().committed == 0 {
            assert!(began.elapsed() < Duration::from_secs(30));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(world.count(&manager, "sakimori.stream:auth").await, 6);
        upkeep::round(&manager.shared).await;
        assert_eq!(world.count(&manager, "sakimori.stream:auth").await, 0);
        let books = world.ask(&manager, "/api/v1/events/balance").await;
        let row = books["items"].as_array().unwrap().iter().find(|row| row["stream"] == "auth").unwrap();
        assert_eq!((&row["arrived"], &row["stored"], &row["expired"]), (&json!(6), &json!(0), &json!(6)));
        assert_eq!(row["balanced"], true, "{row}");
        manager.stop().await;
    });
}

#[test]
fn without_room_on_the_disk_nothing_new_is_taken() {
    let world = World::new();
    world.run(async {
        let manager = world.start_with(|config| config.lake.least_free_percent = 100).await;
        let agent = Agent::enrol(&world.token(&manager).await).await.unwrap();
        let mut stream = agent.open().await.unwrap();
        stream.send(agent.batch("auth", 1, events(1))).await;
        let refused = stream.end().await;
        assert_eq!(refused.code(), Code::Unavailable);
        assert!(refused.message().contains("MiB are free"), "{refused}");
        let ready = reqwest::get(format!("http://{}/readyz", manager.api_addr)).await.unwrap();
        assert_eq!(ready.status(), 503);
        assert!(ready.text().await.unwrap().contains("lake.retention_days"));
        assert_eq!(world.count(&manager, "sakimori.stream:auth").await, 0);
        manager.stop().await;
    });
}

/// A host's word that it blocks an address.
fn blocked(place: &str, id: &str) -> Event {
    let target = Target::Network("203.0.113.9".parse().unwrap());
    let at = Timestamp::from_secs(1_790_000_000);
    let action = Action {
        order: Order {
            id: id.into(),
            action: "block_address".into(),
            target,
            expiry: None,
            cause: Cause::default(),
            via: None,
            probe: false,
            inputs: BTreeMap::new(),
            signatures: Vec::new(),
        },
        place: place.into(),
        state: ActionState::Done,
        reason: None,
        former: None,
        planned_at: at,
        done_at: Some(at),
        ended_at: None,
        expires_at: None,
        expires_at_most: None,
        prolonged: 0,
        grace_until: None,
        undone_by: None,
        confirm_by: None,
    };
    sakimori_respond::event::of(&action, at)
}

/// An agent's alert: what the manager does about it.
fn alert(id: &str) -> Event {
    let mut event = events(1).remove(0);
    event.set(field::EVENT_KIND, "alert");
    event.set(field::EVENT_SEVERITY, 75_i64);
    event.set(field::RULE_ID, "ssh-brute-force");
    event.set(field::RULE_NAME, "SSH brute force");
    event.set(field::SAKIMORI_ALERT_ID, id.to_owned());
    event
}

#[test]
fn a_killed_manager_replays_its_journal_and_stores_and_answers_nothing_twice() {
    let world = World::new();
    let (mut agent, before) = world.run(async {
        let manager = world.start().await;
        let agent = Agent::enrol(&world.token(&manager).await).await.unwrap();
        let mut stream = agent.open().await.unwrap();
        for sequence in 1..=4 {
            let mut list = events(5);
            list.push(alert(&format!("alert{sequence}")));
            stream.send(agent.batch("auth", sequence, list)).await;
            stream.receipt().await;
            if sequence == 2 {
                manager.shared.flush_now.notify_one();
            }
        }
        while world.actions(&manager).await.len() < 4 * 2 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let before = world.actions(&manager).await;
        // No stop: the runtime goes away with everything in it.
        (agent, before)
    });
    world.kill();
    world.run(async {
        let manager = world.start().await;
        agent.address = manager.link_addr.to_string();
        assert_eq!(world.count(&manager, "sakimori.stream:auth").await, 24);
        let mut stream = agent.open().await.unwrap();
        assert_eq!(stream.welcome, [("auth".to_owned(), 4)]);
        stream.send(agent.batch("auth", 4, events(6))).await;
        stream.receipt().await;
        stream.send(agent.batch("auth", 5, events(1))).await;
        stream.receipt().await;
        assert_eq!(world.count(&manager, "sakimori.stream:auth").await, 25);
        assert_eq!(world.actions(&manager).await, before);
        let balance = world.ask(&manager, "/api/v1/events/balance").await;
        for row in balance["items"].as_array().unwrap() {
            assert_eq!(row["balanced"], true, "{row}");
        }
        manager.stop().await;
    });
    // After a stop in good order everything is in the table, and the journal has let go of it.
    world.run(async {
        let manager = world.start().await;
        assert_eq!(manager.shared.lake.status().unwrap().waiting_events, 0);
        assert_eq!(world.count(&manager, "sakimori.stream:auth").await, 25);
        manager.stop().await;
    });
}

#[test]
fn policy_and_bundle_are_pushed() {
    let world = World::new();
    world.run(async {
        let manager = world.start().await;
        let agent = Agent::enrol(&world.token(&manager).await).await.unwrap();
        let mut stream = agent.open().await.unwrap();
        let first = stream.policy().await;
        assert_eq!(stream.bundle().await, 1);
        let layer = json!({"tree": {"modules": {"block_address": {"expiry_seconds": 77}}}});
        world.put(&manager, &format!("/api/v1/policies/layers/host:{}", agent.id), layer).await;
        let second = stream.policy().await;
        assert!(second.0 > first.0);
        assert!(second.1.contains("\"expiry_seconds\":77"), "{}", second.1);
        let known = agents::get(manager.shared.control.read(), &Scope::All, &agent.id).await.unwrap();
        assert!(known.versions.contains("log_inspection"), "{}", known.versions);
        manager.stop().await;
    });
}

#[test]
fn a_manager_that_replayed_much_writes_it_to_the_table_at_once() {
    let world = World::new();
    let rarely = |config: &mut sakimori_manager::config::Config| config.lake.flush_seconds = 3_600;
    world.run(async {
        let manager = world.start_with(rarely).await;
        let agent = Agent::enrol(&world.token(&manager).await).await.unwrap();
        let mut stream = agent.open().await.unwrap();
        for sequence in 1..=70 {
            stream.send(agent.batch("auth", sequence, events(1))).await;
            stream.receipt().await;
        }
        assert_eq!(manager.shared.lake.status().unwrap().committed, 0);
    });
    world.kill();
    world.run(async {
        let manager = world.start_with(rarely).await;
        let began = Instant::now();
        while manager.shared.lake.status().unwrap().committed == 0 {
            assert!(began.elapsed() < Duration::from_secs(60));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(world.count(&manager, "sakimori.stream:auth").await, 70);
        manager.stop().await;
    });
}
