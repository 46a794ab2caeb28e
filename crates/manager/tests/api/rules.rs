//! Rules of all languages in one list, and switching one.

use sakimori_model::{Event, field};
use serde_json::{Value, json};

use super::support::World;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_of_all_languages_are_one_list_that_is_filtered_and_paged() {
    let world = World::start().await;
    let list = async |query: &str| world.ask("GET", &format!("/api/v1/rules?{query}"), Value::Null).await;
    let count = async |query: &str| list(query).await["total"].as_u64().unwrap();
    let all = count("").await;
    let mut sum = 0;
    for language in ["sigma", "correlation", "suricata", "yara", "hash"] {
        sum += count(&format!("language={language}")).await;
    }
    assert_eq!(sum, all);
    let own = list("q=7000001").await;
    let own = &own["items"][0];
    assert_eq!(
        (&own["source"], &own["group"], &own["cves"]),
        (&json!("own"), &json!("own"), &json!(["CVE-2021-44228"]))
    );
    assert_eq!((&own["state"], &own["state_by"], &own["switchable"]), (&json!("off"), &json!("default"), &json!(true)));
    assert_eq!(
        count("tag=cve-2021-44228&language=suricata").await,
        list("tag=CVE-2021-44228&language=suricata").await["items"].as_array().unwrap().len() as u64
    );
    assert_eq!(list("q=miner-program").await["items"][0]["source"], "built-in");
    let (mut seen, mut next) = (Vec::new(), String::new());
    loop {
        let page = list(&format!("limit=50{next}")).await;
        seen.extend(page["items"].as_array().unwrap().iter().map(|rule| rule["id"].as_str().unwrap().to_owned()));
        match page["next"].as_str() {
            Some(cursor) => next = format!("&cursor={cursor}"),
            None => break,
        }
    }
    assert_eq!(seen.len() as u64, all);
    for query in ["language=x", "severity=x", "state=x", "sort=x", "limit=0", "cursor=x", "nonsense=1"] {
        let answer = world.send("GET", &format!("/api/v1/rules?{query}"), &world.admin, &Value::Null).await;
        assert_eq!(answer.status, 400, "{query}: {}", answer.body);
    }
    let titles = world.ask("GET", "/api/v1/rules/titles", Value::Null).await;
    let (mut next, mut shipped) = (String::new(), 0);
    loop {
        let page = list(&format!("limit=1000{next}")).await;
        for rule in page["items"].as_array().unwrap().iter().filter(|rule| rule["source"] == "built-in") {
            let ja = titles["ja"][rule["id"].as_str().unwrap()].as_str().unwrap_or_default();
            assert_eq!(rule["title_ja"], ja, "{rule}");
            let japanese = |c: char| ('\u{3041}'..='\u{30ff}').contains(&c) || ('\u{4e00}'..='\u{9fff}').contains(&c);
            assert!(ja.chars().any(japanese), "a shipped rule without a Japanese title: {rule}");
            shipped += 1;
        }
        match page["next"].as_str() {
            Some(cursor) => next = format!("&cursor={cursor}"),
            None => break,
        }
    }
    assert!(shipped > 400, "{shipped} rules are shipped");
    assert!(titles["ja"]["message-undelivered"].is_string(), "an alert of the manager's own");
    let detail = world.ask("GET", "/api/v1/rules/miner-program", Value::Null).await;
    assert!(detail["text"].as_str().unwrap().starts_with("rule miner_program"));
    assert_eq!(detail["tests_file"], "malware/miner.tests.yaml");
    let answer = world.send("GET", "/api/v1/rules/made-up", &world.admin, &Value::Null).await;
    assert_eq!(answer.body["code"], "rules/missing");
    let answer = world.send("POST", "/api/v1/rules/7000001/test", &world.admin, &json!({})).await;
    assert_eq!((&answer.body["code"], answer.status.as_u16()), (&json!("rules/invalid"), 422), "it has no tests");
    let large = json!({"language": "sigma", "text": "x".repeat((256 << 10) + 1)});
    assert_eq!(world.send("POST", "/api/v1/rules/lint", &world.admin, &large).await.body["code"], "rules/invalid");
    world.running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rule_says_how_often_it_fired_lately() {
    let world = World::start().await;
    let mut events = Vec::new();
    for days in [0, 0, 3, 20, 40] {
        let mut event = Event::new();
        event.set(field::TIMESTAMP, world.now().plus_secs(-days * 86_400 - 60));
        event.set(field::EVENT_KIND, "alert");
        event.set(field::SAKIMORI_ALERT_ID, sakimori_model::id::row_id().replace('-', ""));
        event.set(field::RULE_ID, "7000001");
        event.set(field::RULE_RULESET, "suricata");
        events.push(event);
    }
    world.events("default", events).await;
    let count = "/api/v1/events/count?q=rule.id:7000001";
    world
        .wait(|| async {
            (world.send("GET", count, &world.admin, &Value::Null).await.body["count"] == 5).then_some(())
        })
        .await;
    let rules = world.ask("GET", "/api/v1/rules?sort=hits&limit=1", Value::Null).await;
    let rule = &rules["items"][0];
    let hits = &rule["hits"];
    assert_eq!(
        (&rule["id"], &hits["day"], &hits["week"], &hits["month"]),
        (&json!("7000001"), &json!(2), &json!(3), &json!(4))
    );
    assert!(hits["last"].is_string());
    assert_eq!(world.ask("GET", "/api/v1/rules?fired=true", Value::Null).await["total"], 1);
    world.running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_rule_is_switched_by_a_version_of_a_policy_layer() {
    let world = World::start().await;
    let on = json!({"tree": {"modules": {"intrusion_prevention": {"state": "on", "mode": "prevent"}}}});
    world.ask("PUT", "/api/v1/policies/layers/tenant", on).await;
    let state = async || {
        let detail = world.ask("GET", "/api/v1/rules/7000001", Value::Null).await;
        (detail["rule"]["state"].clone(), detail["rule"]["state_by"].clone(), detail["rule"]["differs_in"].clone())
    };
    assert_eq!(state().await, (json!("prevent"), json!("tenant"), json!([])));
    let put = |layer: &str, state: &str| json!({"layer": layer, "state": state, "reason": "noise"});
    let path = "/api/v1/rules/7000001/state";
    let before = world.rows().await;
    let mut dry = put("tenant", "off");
    dry["dry_run"] = json!(true);
    let would = world.ask("PUT", path, dry).await;
    assert_eq!((world.rows().await, &would["written"]), (before, &Value::Null));
    assert_eq!(would["tree"]["modules"]["intrusion_prevention"]["mode"], "prevent");
    let switched = world.ask("PUT", path, put("tenant", "off")).await;
    assert_eq!((&switched["tree"], &switched["written"]["reason"]), (&would["tree"], &json!("rule 7000001: noise")));
    assert_eq!(state().await, (json!("off"), json!("tenant"), json!(["tenant"])));
    world.ask("PUT", path, put("group:web", "detect")).await;
    assert_eq!(state().await.2, json!(["group:web", "tenant"]));
    let agent = world.agent_of("default", &["web"]).await;
    let policy = world.ask("GET", &format!("/api/v1/agents/{agent}/policy"), Value::Null).await;
    let last =
        policy["policy"]["modules"]["intrusion_prevention"]["overrides"].as_array().unwrap().last().unwrap().clone();
    assert_eq!(last, json!({"rule": 7_000_001, "mode": "detect"}));
    world.ask("PUT", path, put("tenant", "inherit")).await;
    assert_eq!(state().await, (json!("prevent"), json!("tenant"), json!(["group:web"])));
    for (path, body, code) in [
        ("/api/v1/rules/miner-program/state", put("tenant", "off"), "rules/invalid"),
        ("/api/v1/rules/made-up/state", put("tenant", "off"), "rules/missing"),
        (path, put("x", "off"), "policies/layer"),
        (path, put("tenant", "sometimes"), "request/body"),
    ] {
        let answer = world.send("PUT", path, &world.admin, &body).await;
        assert_eq!(answer.body["code"], code, "{path} {body}: {}", answer.body);
    }
    world.running.stop().await;
}
