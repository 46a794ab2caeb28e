//! Every playbook that goes step by step, killed at every boundary: before and after each call to the outside, there and
//! back. Each ends as without a kill, and every effect happened once.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use sakimori_model::{Event, field};
use sakimori_respond::actions;
use sakimori_respond::playbook::{Playbook, Trigger};
use sakimori_runtime::{Clock, SystemClock};
use serde_json::{Value, json};

use super::agent::World;
use super::bounds::Hook;
use super::response::{Outer, PATIENCE, STEPS, Site, alert, content, send};

/// What a run left: boundaries, changes outside, ids of messages.
#[derive(Debug)]
struct Left {
    boundaries: usize,
    changes: Vec<String>,
    sent: Vec<String>,
}

/// Runs a playbook to its end and back, killed at a boundary where one is given; what it asks is allowed.
fn run_and_kill(playbook: &str, event: &Event, boundary: Option<usize>) -> Left {
    let (world, outer, hook) = (World::new(), Arc::new(Outer::default()), Hook::default());
    content(&world, playbook);
    *outer.gate.lock().unwrap() = boundary;
    // The receiver of messages lives on too.
    let receiver = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let url = receiver.block_on(hook.listen());
    let there_and_back = async |site: &Site<'_>| {
        let began = Instant::now();
        loop {
            let all = site.executions().await;
            assert!(began.elapsed() < PATIENCE, "{all:#?} at {boundary:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
            let Some(one) = all.first() else { continue };
            let path = |end: &str| format!("/api/v1/executions/{}/{end}", one["id"].as_str().unwrap());
            match one["state"].as_str().unwrap() {
                "running" if one["steps"].to_string().contains("waiting") => {
                    // A second answer of the same person is refused, and so is one that came too late.
                    world.status(&site.manager, &path("answer"), json!({"allow": true})).await;
                }
                "done" => {
                    world.status(&site.manager, &path("undo"), json!({})).await;
                }
                "undone" => return,
                "running" | "undoing" => {}
                _ => panic!("it ended otherwise: {one:#} at {boundary:?}"),
            }
        }
    };
    let killed = world.run(async {
        let site = Site::start(&world, &outer, &url).await;
        send(&site, event.clone()).await;
        let reached = async {
            while !outer.reached.load(Ordering::SeqCst) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::select! {
            () = there_and_back(&site) => false,
            () = reached => true,
        }
    });
    if killed {
        world.kill();
        *outer.gate.lock().unwrap() = None;
        world.run(async {
            let site = Site::start(&world, &outer, &url).await;
            there_and_back(&site).await;
            site.manager.stop().await;
        });
    }
    // What cannot be taken back stays, and nothing else.
    for name in outer.state.lock().unwrap().iter() {
        let action = actions::find(name.split(' ').next().unwrap()).unwrap();
        assert!(action.undo.is_none(), "{name} stayed at {boundary:?}");
    }
    let changes = outer.changes.lock().unwrap().clone();
    // A question that was answered meanwhile need not be asked any more.
    let told = hook.sent().into_iter().filter(|message| message["ask"].is_null());
    let sent = told.map(|message| message["id"].as_str().unwrap().to_owned()).collect();
    Left { boundaries: outer.crossed.load(Ordering::SeqCst), changes, sent }
}

fn every_boundary(playbook: &str, event: &Event) -> usize {
    let whole = run_and_kill(playbook, event, None);
    assert!(whole.boundaries >= 4, "{whole:?}");
    for boundary in 0..whole.boundaries {
        let again = run_and_kill(playbook, event, Some(boundary));
        assert_eq!(again.changes, whole.changes, "killed at boundary {boundary}");
        let different: BTreeSet<&String> = again.sent.iter().collect();
        let wanted: BTreeSet<&String> = whole.sent.iter().collect();
        assert_eq!(different.len(), wanted.len(), "killed at boundary {boundary}: {again:?}");
        assert!(again.sent.len() <= whole.sent.len() + 1, "at most one repeat: {again:?}");
    }
    whole.boundaries
}

#[test]
fn a_kill_at_every_boundary_leaves_every_effect_once() {
    every_boundary(STEPS, &alert());
}

/// What each shipped playbook that goes step by step is about.
fn examples() -> Vec<(&'static str, Value)> {
    let stays = json!({
        "rule": {"id": "finding-malware-stays", "name": "Malware that is still there"},
        "event": {"severity": 100},
        "cloud": {"instance": {"id": "i-0a1b2c3d"}},
    });
    let of = |rule: &str, more: Value| {
        let mut event = json!({"rule": {"id": rule, "name": rule}, "event": {"severity": 75}});
        event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        event
    };
    vec![
        ("isolate-on-malware", stays.clone()),
        ("isolate-when-cleaning-failed", stays.clone()),
        ("replace-in-group", stays.clone()),
        ("snapshot-and-terminate", stays),
        ("isolate-desktop", of("finding-malware", json!({"host": {"name": "PC-0042"}}))),
        (
            "deactivate-stolen-key",
            of(
                "finding-stolen-key",
                json!({"user": {"name": "deploy"}, "sakimori": {"cloud": {"access_key": "AKIAEXAMPLE"}}}),
            ),
        ),
        ("block-network-flood", of("web-network-flood", json!({"sakimori": {"client_network": "203.0.113.0/24"}}))),
        ("close-open-bucket", of("finding-open-bucket", json!({"sakimori": {"cloud": {"bucket": "photos"}}}))),
    ]
}

fn shipped(id: &str) -> String {
    let path = format!("../../content/playbooks/{id}.yml");
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.contains("enabled: false"), "{id}");
    text.replace("enabled: false", "enabled: true").replace(&format!("id: {id}\n"), "id: tried\n")
}

fn example(mut event: Value) -> Event {
    event["sakimori"]["alert"] = json!({"id": "5f".repeat(16)});
    event["event"]["kind"] = json!("alert");
    // Below what the built-in playbooks that are switched on ask for.
    event["event"]["severity"] = json!(50);
    let mut event = Event::from_json(event.as_object().unwrap().clone()).0;
    event.set(field::TIMESTAMP, SystemClock.now());
    event
}

fn of_all(nth: usize) {
    for (id, event) in examples().into_iter().skip(nth).step_by(2) {
        let text = shipped(id).replace("severity_at_least: high", "severity_at_least: medium");
        println!("{id}: {} boundaries", every_boundary(&text, &example(event)));
    }
}

#[test]
fn a_kill_at_every_boundary_of_shipped_playbooks() {
    of_all(0);
}

#[test]
fn a_kill_at_every_boundary_of_the_other_shipped_playbooks() {
    of_all(1);
}

#[test]
fn no_shipped_playbook_that_goes_step_by_step_is_left_out() {
    let folder = "../../content/playbooks";
    let stepwise: BTreeSet<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "yml"))
        .map(|path| Playbook::parse(&path.to_string_lossy(), &std::fs::read_to_string(&path).unwrap()).unwrap())
        .filter(|playbook| !playbook.is_plain() && !matches!(playbook.trigger, Trigger::Manual))
        .map(|playbook| playbook.id)
        .collect();
    let tried: BTreeSet<String> = examples().into_iter().map(|(id, _)| id.to_owned()).collect();
    assert_eq!(stepwise, tried);
}
