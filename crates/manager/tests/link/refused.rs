//! Playbooks that must not do what they say, through a running manager: one that goes round and round, alone or with another;
//! one that is no playbook; one that would hit more than its limit; conditions that cannot be answered. Each is refused with
//! its reason, and nothing is left half done.

use std::sync::Arc;

use sakimori_model::{Event, field};
use serde_json::{Value, json};

use super::agent::{Agent, World, events};
use super::bounds::Hook;
use super::response::{Outer, STEPS, Site, alert, content, send, wait};

/// An alert about every block of a host that is told, and one about every file that a scan finds.
const RULES: &str = "title: A host blocked an address
id: 5d8a1a34-1d4b-4f0e-8a77-0d3c9d6a1e01
logsource: { product: sakimori }
detection:
  block: { sakimori.action.kind: block_address }
  condition: block
level: medium
sakimori: { id: host-blocked, revision: 1, scope: wide }
";

/// What would follow from it: a block, which the next alert is about.
fn of(id: &str, rule: &str, step: &str) -> String {
    format!(
        "id: {id}\ntitle: {{ en: X }}\ntrigger: {{ alert: {{ rules: [{rule}], scope: wide }} }}\nsteps:\n  - {step}\n"
    )
}

fn file(world: &World, name: &str, text: &str) {
    let path = world.state().with_file_name("content").join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

#[test]
fn playbooks_that_would_begin_themselves_or_one_another_do_not() {
    let (world, outer, hook) = (World::new(), Arc::new(Outer::default()), Hook::default());
    let block = "{ action: waf_block, target: event.related.ip[0] }";
    // Two in turn, in steps and plain; and one that only tells, which may.
    content(&world, &of("one", "host-blocked", &format!("{block}\n  - wait: 1s")));
    file(
        &world,
        "playbooks/other.yml",
        &of("other", "host-blocked", "{ action: waf_block, target: event.source.ip, on_failure: continue }"),
    );
    file(&world, "playbooks/tells.yml", &of("tells", "host-blocked", "{ action: notify, channel: ops }\n  - wait: 1s"));
    file(&world, "sigma/own/host_blocked.yml", RULES);
    world.run(async {
        let url = hook.listen().await;
        let site = Site::start(&world, &outer, &url).await;
        let agent = Agent::enrol(&world.token(&site.manager).await).await.unwrap();
        let mut stream = agent.open().await.unwrap();
        let mut told = super::blocked(&agent.id, "block1");
        told.set(field::TIMESTAMP, events(1)[0].timestamp().unwrap());
        stream.send(agent.batch("actions", 1, vec![told])).await;
        stream.receipt().await;
        let found = wait("the alert about the block", async || {
            let page = world.ask(&site.manager, "/api/v1/alerts?q=rule.id:host-blocked").await;
            page["items"].as_array().unwrap().first().cloned()
        })
        .await;
        assert_eq!(found["event"]["sakimori"]["action"]["id"], "block1", "it says which action it is about: {found}");
        // What only tells is begun, after what is not: the fold sees them in one go.
        wait("the message", async || (!hook.sent().is_empty()).then_some(())).await;
        let begun: Vec<String> =
            site.executions().await.iter().map(|one| one["playbook"].as_str().unwrap().to_owned()).collect();
        assert_eq!(begun, ["tells"]);
        let blocks = world.ask(&site.manager, "/api/v1/actions?action=waf_block").await;
        assert_eq!(blocks["items"].as_array().unwrap().len(), 0, "{blocks}");
        assert!(outer.changes.lock().unwrap().is_empty());
        site.manager.stop().await;
    });
}

#[test]
fn what_is_no_playbook_is_left_out_by_file_line_and_reason() {
    let (world, outer, hook) = (World::new(), Arc::new(Outer::default()), Hook::default());
    let unknown = STEPS.replace("waf_block", "format_disk");
    content(&world, &unknown);
    world.run(async {
        let url = hook.listen().await;
        let site = Site::start(&world, &outer, &url).await;
        send(&site, alert()).await;
        let ask = async |path: &str, body: Value| world.post(&site.manager, path, body).await;
        for (text, line, reason) in [
            (unknown.clone(), 6, "format_disk"),
            (STEPS.replace("event.source.ip", "'event.source.ip +'"), 6, "target: "),
            (STEPS.replace("event.source.ip", "evnt.source.ip"), 6, "unknown name evnt"),
            (format!("{STEPS}limits: {{ most: 0, within: never }}\n"), 8, "90s, 30m"),
            (STEPS.replace("trigger:", "trigger: &a { alert: *a }\nwas:"), 3, ""),
        ] {
            let bad = ask("/api/v1/playbooks/check", json!({ "file": "p.yml", "text": text })).await;
            let error = bad["error"].as_str().unwrap();
            assert_eq!((bad["good"].clone(), bad["line"].clone()), (json!(false), json!(line)), "{bad}");
            assert!(error.starts_with(&format!("p.yml:{line}: ")) && error.contains(reason), "{error}");
            let path = "/api/v1/playbooks/tried/rehearse";
            assert_eq!(world.status(&site.manager, path, json!({ "text": text, "since_seconds": 60 })).await, 422);
        }
        // It is not in force: nothing began, nobody can begin it, and all others are there.
        let run = json!({ "alert": "5f".repeat(16) });
        assert_eq!(world.status(&site.manager, "/api/v1/playbooks/tried/run", run).await, 404);
        assert!(site.executions().await.is_empty() && outer.changes.lock().unwrap().is_empty());
        let listed = world.ask(&site.manager, "/api/v1/playbooks").await;
        let ids: Vec<&str> =
            listed["items"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap()).collect();
        assert!(!ids.contains(&"tried") && ids.contains(&"block-in-waf"), "{ids:?}");
        site.manager.stop().await;
    });
}

/// Begins the playbook by an alert and waits for its end.
async fn ends(world: &World, outer: &Arc<Outer>, text: &str, event: Event) -> Value {
    let hook = Hook::default();
    content(world, text);
    let url = hook.listen().await;
    let site = Site::start(world, outer, &url).await;
    send(&site, event).await;
    let over = wait("the end", async || {
        let all = site.executions().await;
        all.first().filter(|one| one["state"] != "running" && one["state"] != "undoing").cloned()
    })
    .await;
    site.manager.stop().await;
    over
}

#[test]
fn one_more_than_the_limit_is_refused_and_what_was_done_is_taken_back() {
    let (world, outer) = (World::new(), Arc::new(Outer::default()));
    let text = STEPS.replace("steps:", "limits: { most: 1, within: 1h }\nsteps:");
    world.run(async {
        let over = ends(&world, &outer, &text, alert()).await;
        assert_eq!(over["state"], "compensated", "{over}");
        assert!(over["reason"].as_str().unwrap().contains("the playbook's limit is 1"), "{over}");
        let key = "access_key_deactivate access_key/AKIAEXAMPLE";
        assert_eq!(*outer.changes.lock().unwrap(), [format!("+{key}"), format!("-{key}")]);
        assert!(outer.state.lock().unwrap().is_empty());
    });
}

#[test]
fn a_condition_that_cannot_be_answered_ends_it_with_nothing_half_done() {
    // Of the second step, of a target, of an input; each passes every check, and throws for this event.
    let by_zero = "1 / (size(event.user.name) - 11) > 0";
    for step in [
        format!("{{ action: waf_block, target: event.source.ip, when: '{by_zero}' }}"),
        "{ action: waf_block, target: 'event.related.ip[7]' }".to_owned(),
        "{ for_each: event.user.name, steps: [ { action: waf_block, target: item } ] }".to_owned(),
    ] {
        let (world, outer) = (World::new(), Arc::new(Outer::default()));
        let text = STEPS.replace("{ action: waf_block, target: event.source.ip }", &step);
        assert_ne!(text, STEPS);
        world.run(async {
            let over = ends(&world, &outer, &text, alert()).await;
            assert_eq!(over["state"], "compensated", "{step}: {over}");
            assert!(!over["reason"].as_str().unwrap_or_default().is_empty(), "{step}: {over}");
            assert!(outer.state.lock().unwrap().is_empty(), "{step}: {:?}", outer.changes.lock().unwrap());
        });
    }
}

#[test]
fn a_condition_of_the_whole_that_throws_begins_nothing_and_says_so_to_who_asks() {
    let (world, outer, hook) = (World::new(), Arc::new(Outer::default()), Hook::default());
    content(&world, &STEPS.replace("steps:", "when: 1 / (size(event.user.name) - 11) > 0\nsteps:"));
    world.run(async {
        let url = hook.listen().await;
        let site = Site::start(&world, &outer, &url).await;
        send(&site, alert()).await;
        let id = "5f".repeat(16);
        wait("the alert", async || {
            let page = world.ask(&site.manager, "/api/v1/alerts?q=rule.id:stolen-key").await;
            page["items"].as_array().unwrap().first().cloned()
        })
        .await;
        let request = site.world.request(&site.manager, reqwest::Method::POST, "/api/v1/playbooks/tried/run").await;
        let answer = request.json(&json!({ "alert": id })).send().await.unwrap();
        assert_eq!(answer.status(), 422);
        let problem: Value = answer.json().await.unwrap();
        assert_eq!(problem["code"], "playbooks/invalid", "{problem}");
        assert!(problem.to_string().contains("its condition cannot be answered"), "{problem}");
        assert!(site.executions().await.is_empty() && outer.changes.lock().unwrap().is_empty());
        site.manager.stop().await;
    });
}
