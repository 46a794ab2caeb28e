//! What the manager says is sealed, waits for operators, stops everywhere; heads are exchanged.

use std::time::{Duration, Instant};

use ed25519_dalek::{SigningKey, VerifyingKey};
use sakimori_model::{Order, Timestamp};
use sakimori_respond::seal::{self, Act};
use sakimori_wire::agent as proto;
use sakimori_wire::agent::down::Message as Down;
use sakimori_wire::agent::up::Message as Up;
use serde_json::{Value, json};

use super::agent::{Agent, World};

fn verified(agent: &Agent, seals: &[Vec<u8>], act: Act<'_>) {
    let key = VerifyingKey::from_bytes(agent.order_key.as_slice().try_into().unwrap()).unwrap();
    let now: Timestamp = sakimori_runtime::Clock::now(&sakimori_runtime::SystemClock);
    seal::verify(&key, "the manager", seals, &agent.id, act, now).unwrap();
}

async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !condition().await {
        assert!(began.elapsed() < Duration::from_secs(30), "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[test]
fn an_order_is_sealed_waits_for_operators_and_goes_with_their_signatures() {
    let world = World::new();
    world.run(async {
        let manager = world.start().await;
        let agent = Agent::enrol(&world.token(&manager).await).await.unwrap();
        let mut stream = agent.open().await.unwrap();
        let next = async |stream: &mut super::agent::Stream| -> Order {
            let json = stream.find(|down| if let Down::Order(one) = down { Some(one.json) } else { None }).await;
            serde_json::from_slice(&json).unwrap()
        };
        let body = json!({"action": "block_address", "target": "192.0.0.0/16", "agent": agent.id, "seconds": 600});
        let id = world.post(&manager, "/api/v1/actions", body).await["id"].as_str().unwrap().to_owned();
        let order = next(&mut stream).await;
        verified(&agent, &order.signatures, Act::Order(&order));
        // The host wants two operators: it stays, and says so.
        let keys = [SigningKey::from_bytes(&[1; 32]), SigningKey::from_bytes(&[2; 32])];
        let name = |key: &SigningKey| sakimori_content::keys::public_text(&key.verifying_key());
        let signers = vec![format!("ann {}", name(&keys[0])), format!("bob {}", name(&keys[1]))];
        let reason = "wider than the mandate".to_owned();
        let reply = proto::OrderReply { id: id.clone(), reason, lacks: 2, signers, ..proto::OrderReply::default() };
        stream.say(Up::OrderReply(reply)).await;
        let waiting = async || world.ask(&manager, "/api/v1/orders").await["items"][0].clone();
        until("the host's answer", async || waiting().await["lacks"] == 2).await;
        // Signed elsewhere, from what was exported.
        let exported: Order = serde_json::from_value(waiting().await["content"].clone()).unwrap();
        let now: Timestamp = sakimori_runtime::Clock::now(&sakimori_runtime::SystemClock);
        let sign = |key: &SigningKey, host: &str| {
            hex::encode(seal::seal(key, host, Act::Order(&exported), now, now.plus_secs(3_600)))
        };
        let path = format!("/api/v1/orders/{id}/signatures");
        let body = |seal: String| json!({"agent": agent.id, "kind": "order", "seal": seal});
        for bad in [sign(&SigningKey::from_bytes(&[9; 32]), &agent.id), sign(&keys[0], "another"), "00".into()] {
            let status = world.status(&manager, &path, body(bad)).await;
            assert_eq!(status, 422, "a mistake is seen at once");
        }
        for (at, key) in keys.iter().enumerate() {
            world.post(&manager, &path, body(sign(key, &agent.id))).await;
            let order = next(&mut stream).await;
            verified(&agent, &order.signatures, Act::Order(&order));
            assert_eq!(order.signatures.len(), at + 2, "the manager's and the operators'");
        }
        assert_eq!(waiting().await["signed"], json!(["ann", "bob"]));
        stream.answer(&id, false).await;
        until("answered", async || waiting().await == Value::Null).await;
        manager.stop().await;
    });
}

#[test]
fn policy_undo_operators_and_the_order_key_are_sealed() {
    let world = World::new();
    world.run(async {
        let manager = world.start().await;
        let mut agent = Agent::enrol(&world.token(&manager).await).await.unwrap();
        agent.hello.order_key = Vec::new();
        let mut stream = agent.open().await.unwrap();
        let (key, seals) = stream
            .find(|down| if let Down::OrderKey(one) = down { Some((one.key, one.signatures)) } else { None })
            .await;
        assert_eq!(key, agent.order_key);
        let bundle_key = manager.shared.bundle_key;
        let now = manager.shared.clock.now();
        let bytes: [u8; 32] = key.try_into().unwrap();
        seal::verify(&bundle_key, "bundle", &seals, &agent.id, Act::OrderKey(&bytes), now).unwrap();
        let policy = stream.find(|down| if let Down::Policy(one) = down { Some(one) } else { None }).await;
        verified(&agent, &[policy.signature], Act::Policy { number: policy.number, json: &policy.json });
        // Somebody signs in from elsewhere: the hosts hear of it.
        let session = sakimori_store::control::sessions::Session {
            tenant: "*".into(),
            id: sakimori_model::id::row_id(),
            user_id: world.user(&manager).await,
            address: "203.0.113.44".into(),
            created: now,
            expires: now.plus_secs(3_600),
            browser: false,
            seen: now,
            way: "password".into(),
            strong: false,
            agent: String::new(),
        };
        let mut change = manager.shared.control.begin().await.unwrap();
        sakimori_store::control::sessions::create(change.connection(), &session, &[7; 32]).await.unwrap();
        change.commit().await.unwrap();
        world.ask(&manager, "/api/v1/session").await;
        let told = stream
            .find(|down| match down {
                Down::Operators(one) if !one.addresses.is_empty() => Some(one),
                _ => None,
            })
            .await;
        assert_eq!(told.addresses, ["203.0.113.44"]);
        verified(&agent, &told.signatures, Act::Operators(&["203.0.113.44".parse().unwrap()]));
        manager.stop().await;
    });
}

#[test]
fn a_stop_reaches_every_host_the_waf_and_those_who_connect_later() {
    let world = World::new();
    world.run(async {
        let manager = world.start().await;
        let agent = Agent::enrol(&world.token(&manager).await).await.unwrap();
        let mut stream = agent.open().await.unwrap();
        let halted = async |stream: &mut super::agent::Stream| {
            stream.find(|down| if let Down::Halt(one) = down { Some(one) } else { None }).await
        };
        let said = world.post(&manager, "/api/v1/halt", json!({"undo": true, "reason": "drill"})).await;
        assert_eq!((&said["halted"], &said["number"]), (&json!(true), &json!(1)));
        let told = halted(&mut stream).await;
        let act = Act::Halt { number: 1, halted: true, undo: true, by: &told.by, reason: "drill" };
        verified(&agent, &told.signatures, act);
        // What alerts ask for from now on is refused, in words, and kept.
        stream.send(agent.batch("auth", 1, vec![super::alert("alert1")])).await;
        stream.receipt().await;
        let refused = async || {
            let page = world.ask(&manager, "/api/v1/actions?action=waf_block").await;
            page["items"].as_array().unwrap().iter().any(|one| one["state"] == "refused" || one["state"] == "no_effect")
        };
        until("the answer is refused", refused).await;
        let body = json!({"action": "block_address", "target": "203.0.113.7", "agent": agent.id});
        assert_eq!(world.status(&manager, "/api/v1/actions", body.clone()).await, 422, "nor by hand");
        // A host that was away hears of the last word only, and one that has it hears nothing again.
        drop(stream);
        world.post(&manager, "/api/v1/halt/resume", json!({})).await;
        let mut stream = agent.open().await.unwrap();
        let told = halted(&mut stream).await;
        assert_eq!((told.number, told.halted), (2, false));
        assert_eq!(world.status(&manager, "/api/v1/actions", body).await, 202);
        let audit = world.ask(&manager, "/api/v1/audit?limit=50").await.to_string();
        assert!(audit.contains("halt:stop") && audit.contains("halt:resume"), "{audit}");
        manager.stop().await;
    });
    // It survives a restart.
    world.run(async {
        let manager = world.start().await;
        world.post(&manager, "/api/v1/halt", json!({})).await;
        manager.stop().await;
        let manager = world.start().await;
        let stands = world.ask(&manager, "/api/v1/halt").await;
        assert_eq!((&stands["halted"], &stands["number"]), (&json!(true), &json!(3)));
        manager.stop().await;
    });
}

#[test]
fn a_provisional_action_is_confirmed_by_the_manager_when_its_host_says_that_the_checks_hold() {
    let world = World::new();
    world.run(async {
        let manager = world.start().await;
        let agent = Agent::enrol(&world.token(&manager).await).await.unwrap();
        let mut stream = agent.open().await.unwrap();
        let checks = vec!["port 22 accepts".to_owned()];
        stream.say(Up::Provisional(proto::Provisional { id: "net1".into(), checks })).await;
        let told = stream.find(|down| if let Down::Confirm(one) = down { Some(one) } else { None }).await;
        assert_eq!((told.action_id.as_str(), told.by.as_str()), ("net1", "manager"));
        verified(&agent, &told.signatures, Act::Confirm { action: "net1", by: "manager" });
        manager.stop().await;
    });
}

#[test]
fn a_fork_or_cut_of_the_audit_log_or_of_a_ledger_makes_the_verification_fail() {
    let world = World::new();
    world.run(async {
        let manager = world.start().await;
        let mut agent = Agent::enrol(&world.token(&manager).await).await.unwrap();
        let mut stream = agent.open().await.unwrap();
        let next = async |stream: &mut super::agent::Stream| {
            stream.find(|down| if let Down::Heads(one) = down { Some(one) } else { None }).await
        };
        let heads = next(&mut stream).await;
        let told = heads.audit.iter().find(|head| head.chain == "default").unwrap().clone();
        assert_eq!(heads.ledger_sequence, 0);
        let at = |sequence, hash: u8, head_sequence, head: u8| {
            let (hash, head) = (vec![hash; 32], vec![head; 32]);
            Up::LedgerAt(proto::LedgerAt { sequence, hash, head_sequence, head })
        };
        stream.say(at(0, 0, 5, 5)).await;
        // With every state of the agent the heads go down again.
        stream.say(status(&agent)).await;
        while next(&mut stream).await.ledger_sequence != 5 {
            stream.say(status(&agent)).await;
        }
        drop(stream);
        let whole = async || world.ask(&manager, "/api/v1/audit/verify").await;
        // The agent remembers, and both agree.
        agent.hello.audit = vec![told.clone()];
        let mut stream = agent.open().await.unwrap();
        assert_eq!(next(&mut stream).await.audit[0].hash, told.hash);
        assert_eq!(next(&mut stream).await.ledger_sequence, 5);
        let verified = whole().await;
        assert_eq!(verified["whole"], true, "{verified}");
        assert_eq!(verified["witnesses"][0]["agrees"], true);
        // Another record where the known one was.
        stream.say(at(5, 9, 6, 6)).await;
        until("the fork is found", async || whole().await["breaks"][0]["kind"] == "ledger").await;
        assert!(whole().await["breaks"][0]["detail"].as_str().unwrap().contains("record 5"), "{}", whole().await);
        drop(stream);
        // The audit log is computed anew by somebody with the database: each chain is whole, and the agent remembers.
        let mut change = manager.shared.control.begin().await.unwrap();
        let sql = "UPDATE audit SET hash = $2 WHERE tenant = 'default' AND sequence = $1";
        let query = sakimori_store::control::sql::query(sql).bind(told.sequence.cast_signed()).bind(vec![0_u8; 32]);
        query.execute(change.connection()).await.unwrap();
        change.commit().await.unwrap();
        let mut stream = agent.open().await.unwrap();
        assert_ne!(next(&mut stream).await.audit[0].hash, told.hash);
        let verified = whole().await;
        assert_eq!((&verified["whole"], &verified["witnesses"][0]["agrees"]), (&json!(false), &json!(false)));
        let audit = verified["breaks"].to_string();
        assert!(audit.contains(&format!("entry {} of the audit log", told.sequence)), "{audit}");
        manager.stop().await;
    });
}

fn status(agent: &Agent) -> Up {
    let status = sakimori_wire::status::AgentStatus { agent: agent.id.clone(), ..Default::default() };
    Up::Status(proto::Status { json: serde_json::to_vec(&status).unwrap() })
}
