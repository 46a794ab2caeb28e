//! What the search page and the page of the last hours ask: rows, counts over time, completion, one event and what is
//! around it, why a rule fired, saved searches, export, and news for an open page.

use std::sync::Arc;

use futures::StreamExt;
use sakimori_model::{Event, Timestamp, field};
use sakimori_runtime::SystemClock;
use sakimori_runtime::clock::{Clock, ManualClock};
use sakimori_wire::batch::{Batch, BatchHeader, encode};
use serde_json::{Value, json};

use super::browser::Browser;
use super::support::World;

const PASSWORD: &str = "correct horse battery";

/// Failed logins, one a minute before now, by users `user0` and so on.
async fn logins(world: &World, tenant: &str, count: i64) -> Timestamp {
    let now = world.now();
    world.events(tenant, made(now, count)).await;
    let asked = "/api/v1/events/count?q=event.action:ssh_login";
    world
        .wait(|| async {
            let answer = world.send("GET", asked, &world.admin, &Value::Null).await;
            (answer.body["count"] == count).then_some(())
        })
        .await;
    now
}

fn made(now: Timestamp, count: i64) -> Vec<Event> {
    let events = (0..count).map(|number| {
        let mut event = Event::new();
        event.set(field::TIMESTAMP, now.plus_secs(-60 * number));
        event.set(field::EVENT_KIND, "event");
        event.set(field::EVENT_DATASET, "linux.auth");
        event.set(field::EVENT_ACTION, "ssh_login");
        event.set(field::EVENT_OUTCOME, if number % 3 == 0 { "success" } else { "failure" });
        event.set(field::USER_NAME, format!("user{}", number % 4));
        event.set(field::HOST_NAME, "web-1");
        event.set(field::SOURCE_IP, "203.0.113.7".parse::<std::net::IpAddr>().unwrap());
        event.set(field::EVENT_ORIGINAL, format!("Failed password for user{}", number % 4));
        event.set_path("acme.seat", json!(format!("s{}", number % 2)));
        event
    });
    events.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_have_the_chosen_fields_in_the_order_of_time_and_a_bounded_number() {
    let world = World::start().await;
    logins(&world, "default", 30).await;
    for order in ["newest", "oldest"] {
        let (mut seen, mut next) = (Vec::new(), String::new());
        loop {
            let path = format!(
                "/api/v1/events/search?q=event.action:ssh_login&order={order}&limit=7&count=true&\
                 fields=user.name,acme.seat,nothing.here{next}"
            );
            let page = world.ask("GET", &path, Value::Null).await;
            assert_eq!(page["total"], json!({"count": 30, "more": false}));
            seen.extend(page["items"].as_array().unwrap().clone());
            match page["next"].as_str() {
                Some(cursor) => next = format!("&cursor={cursor}"),
                None => break,
            }
        }
        assert_eq!(seen.len(), 30, "{order}");
        let times: Vec<&str> = seen.iter().map(|row| row["time"].as_str().unwrap()).collect();
        assert!(times.windows(2).all(|pair| (pair[0] > pair[1]) == (order == "newest")), "{times:?}");
        let first = &seen[0]["fields"];
        assert!(first["user.name"].is_string() && first["acme.seat"].is_string(), "{first}");
        assert_eq!(first.as_object().unwrap().len(), 2, "and nothing else");
    }
    let whole = world.ask("POST", "/api/v1/events/search", json!({"q": "user.name:user1", "limit": 1})).await;
    let fields = &whole["items"][0]["fields"];
    assert_eq!((&fields["host.name"], &fields["acme.seat"]), (&json!("web-1"), &json!("s1")));
    assert_eq!(whole["understood"], "user.name:\"user1\"");
    world.running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_is_told_with_its_place_in_the_text() {
    let world = World::start().await;
    let body = json!({"q": "ä \u{1F600} user.nam:root"});
    let answer = world.send("POST", "/api/v1/events/search", &world.admin, &body).await;
    let error = &answer.body["errors"][0];
    assert_eq!((answer.status.as_u16(), &answer.body["code"]), (400, &json!("events/query")));
    assert_eq!((&error["offset"], &error["length"]), (&json!(5), &json!(8)), "in UTF-16 units: {error}");
    assert!(error["expected"].as_str().unwrap().contains("user.name"), "{error}");
    for (path, code) in [
        ("/api/v1/events/search?order=up", "request/query"),
        ("/api/v1/events/search?fields=a..b", "request/query"),
        ("/api/v1/events/search?limit=1001", "request/query"),
        ("/api/v1/events/search?cursor=x", "request/cursor"),
        ("/api/v1/events/histogram?by=", "events/field"),
        ("/api/v1/events/histogram?buckets=401", "request/query"),
        ("/api/v1/events/histogram?from=2020-01-01T00:00:00Z&to=2026-01-01T00:00:00Z&width=1", "request/query"),
        ("/api/v1/events/values?field=labels", "events/field"),
        ("/api/v1/events/values?field=user.name&limit=1001", "request/query"),
        ("/api/v1/events/values", "request/query"),
        ("/api/v1/events/export?format=xlsx", "request/query"),
        ("/api/v1/events/export?limit=1000001", "request/query"),
        ("/api/v1/events/export?q=(", "events/query"),
        ("/api/v1/events/none.1", "events/missing"),
        ("/api/v1/events/none", "events/missing"),
        ("/api/v1/events/none.1/related?minutes=0", "request/query"),
        ("/api/v1/alerts/zz/why", "alerts/missing"),
        ("/api/v1/now?hours=0", "request/query"),
        ("/api/v1/searches/none", "searches/missing"),
    ] {
        let answer = world.send("GET", path, &world.admin, &Value::Null).await;
        assert_eq!(answer.body["code"], code, "{path}: {}", answer.body);
    }
    world.running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counts_over_time_add_up_and_are_split_by_a_field() {
    let world = World::start().await;
    let now = logins(&world, "default", 30).await;
    let (from, to) = (now.plus_secs(-3_600), now.plus_secs(1));
    let path =
        format!("/api/v1/events/histogram?q=event.action:ssh_login&from={from}&to={to}&buckets=20&by=event.outcome");
    let found = world.ask("GET", &path, Value::Null).await;
    let buckets = found["buckets"].as_array().unwrap();
    let sum = |of: &dyn Fn(&Value) -> u64| buckets.iter().map(of).sum::<u64>();
    assert_eq!((&found["total"], sum(&|one| one["count"].as_u64().unwrap())), (&json!(30), 30));
    assert_eq!(found["width"], 300, "one that people can read");
    assert_eq!(found["series"], json!([{"value": "failure", "count": 20}, {"value": "success", "count": 10}]));
    assert_eq!(sum(&|one| one["by"][0].as_u64().unwrap()), 20);
    let steps: Vec<i64> =
        buckets.iter().map(|one| Timestamp::parse(one["from"].as_str().unwrap()).unwrap().micros()).collect();
    assert!(steps.windows(2).all(|pair| pair[1] - pair[0] == 300_000_000), "without gaps");
    // Without a span: that of the events, and a field outside the catalog.
    let found = world.ask("GET", "/api/v1/events/histogram?q=event.action:ssh_login&by=acme.seat", Value::Null).await;
    assert_eq!(found["total"], 30);
    assert_eq!(found["series"], json!([{"value": "s0", "count": 15}, {"value": "s1", "count": 15}]));
    world.running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fields_and_values_complete_a_search() {
    let world = World::start().await;
    logins(&world, "default", 30).await;
    let fields = world.ask("GET", "/api/v1/fields?prefix=user.na", Value::Null).await;
    assert_eq!(fields["items"][0]["name"], "user.name", "those that begin so come first");
    assert!(fields["items"][0]["description"]["ja"].as_str().unwrap().contains("ユーザー"));
    assert!(world.ask("GET", "/api/v1/fields", Value::Null).await["items"].as_array().unwrap().len() > 200);
    let values = world.ask("GET", "/api/v1/events/values?field=user.name&prefix=USER&limit=2", Value::Null).await;
    assert_eq!(values["items"][0], json!({"value": "user0", "count": 8, "q": "user.name:\"user0\""}));
    assert_eq!((values["items"].as_array().unwrap().len(), &values["more"]), (2, &json!(true)));
    let path = "/api/v1/events/values?field=acme.seat&q=user.name:user1";
    let values = world.ask("GET", path, Value::Null).await;
    assert_eq!(values["items"], json!([{"value": "s1", "count": 8, "q": "\"acme.seat\":\"s1\""}]));
    let values = world.ask("GET", "/api/v1/events/values?field=source.ip&prefix=203.", Value::Null).await;
    assert_eq!(values["items"][0]["q"], "source.ip:203.0.113.7");
    world.running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_has_its_original_and_what_is_around_it() {
    let world = World::start().await;
    logins(&world, "default", 30).await;
    let rows = world.ask("GET", "/api/v1/events/search?q=user.name:user1&limit=1", Value::Null).await;
    let (id, time) = (rows["items"][0]["id"].as_str().unwrap(), rows["items"][0]["time"].as_str().unwrap());
    let path = format!("/api/v1/events/{}", id.replace('/', "%2F").replace(':', "%3A"));
    for path in [path.clone(), format!("{path}?time={time}")] {
        let event = world.ask("GET", &path, Value::Null).await;
        assert_eq!((&event["id"], &event["original"]), (&json!(id), &json!("Failed password for user1")));
        assert_eq!(event["event"]["user"]["name"], "user1");
    }
    let related = world.ask("GET", &format!("{path}/related?time={time}&minutes=10&limit=3"), Value::Null).await;
    let groups = related["groups"].as_array().unwrap();
    let of = |name: &str| groups.iter().find(|group| group["field"] == name).unwrap_or_else(|| panic!("{related}"));
    let user = of("user.name");
    assert_eq!((&user["value"], &user["q"]), (&json!("user1"), &json!("user.name:\"user1\"")));
    assert!(user["items"].as_array().unwrap().iter().all(|row| row["id"] != id), "without itself");
    assert_eq!(of("host.name")["items"].as_array().unwrap().len(), 3);
    assert!(of("host.name")["total"]["count"].as_u64().unwrap() >= 10);
    world.running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alert_says_which_part_of_which_event_made_it() {
    let rule = "title: Made up\nname: made-up\nlogsource: { product: linux }\ndetection:\n  sel:\n    \
                event.action: ssh_login\n    user.name|contains: Er1\n  condition: sel\nlevel: high\n\
                sakimori: { id: made-up, scope: wide }\n";
    let world = World::start_with(std::sync::Arc::new(sakimori_runtime::SystemClock), |config| {
        let content = config.content_dir.clone().unwrap();
        std::fs::create_dir_all(content.join("sigma")).unwrap();
        std::fs::write(content.join("sigma/made-up.yml"), rule).unwrap();
    })
    .await;
    // Of a host, as its agent would send them: what the manager says of itself is not judged.
    let header = BatchHeader {
        id: sakimori_model::id::batch_id("host-7", "auth", 1),
        origin: "host-7".into(),
        stream: "auth".into(),
        sequence: 1,
        count: 2,
        ..BatchHeader::default()
    };
    let bytes = encode(&Batch { header, events: made(world.now(), 2) }).unwrap();
    world.running.shared.ingest.submit("default", "host-7", bytes).await.unwrap();
    let found = world
        .wait(|| async {
            let found = world.ask("GET", "/api/v1/alerts?q=rule.id:made-up", Value::Null).await;
            found["items"].get(0).cloned()
        })
        .await;
    let id = found["id"].as_str().unwrap();
    let why = world.ask("GET", &format!("/api/v1/alerts/{id}/why"), Value::Null).await;
    assert_eq!((&why["language"], &why["rule"]["title"]), (&json!("sigma"), &json!("Made up")));
    assert!(why["rule"]["text"].as_str().unwrap().contains("user.name|contains: Er1"), "{why}");
    let judged = &why["events"][0]["judged"][0];
    assert_eq!((&judged["matched"], &judged["condition"]), (&json!(true), &json!("sel")));
    let tests = judged["tests"].as_array().unwrap();
    let user = tests.iter().find(|test| test["field"] == "user.name").unwrap();
    assert_eq!(user["spans"], json!([{"field": "user.name", "value": 0, "from": 2, "to": 5}]), "{user}");
    assert_eq!(why["missing"], json!([]), "{why}");
    // From the event to the alert, and back.
    let cause = why["events"][0]["id"].as_str().unwrap().replace('/', "%2F").replace(':', "%3A");
    let related = world.ask("GET", &format!("/api/v1/events/{cause}/related"), Value::Null).await;
    assert_eq!(related["alerts"][0]["fields"]["sakimori.alert.id"], id, "{related}");
    // An alert of no rule says so.
    let other = world.alert("default").await;
    let why = world.ask("GET", &format!("/api/v1/alerts/{other}/why"), Value::Null).await;
    assert_eq!((&why["language"], why["missing"].as_array().unwrap().len()), (&json!(""), 1));
    world.running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_saved_search_is_ones_own_until_it_is_shared() {
    let world = World::start().await;
    for name in ["ann", "bob"] {
        let body = json!({"name": name, "role": "operator", "password": PASSWORD, "tenant": "default"});
        world.ask("POST", "/api/v1/users", body).await;
    }
    let (ann, bob) = (world.login("ann", PASSWORD, None).await, world.login("bob", PASSWORD, None).await);
    let body = json!({"name": "roots", "q": "user.name:root", "from": "24h", "fields": ["user.name", "source.ip"]});
    let made = world.send("POST", "/api/v1/searches", &ann, &body).await;
    assert_eq!(
        (made.status.as_u16(), &made.body["mine"], &made.body["owner"]),
        (201, &json!(true), &json!("user:ann"))
    );
    assert_eq!(made.body["fields"], json!(["user.name", "source.ip"]));
    let path = format!("/api/v1/searches/{}", made.body["id"].as_str().unwrap());
    let again = world.send("POST", "/api/v1/searches", &ann, &body).await;
    assert_eq!(again.body["code"], "searches/exists");
    for (method, body) in [("GET", Value::Null), ("PUT", json!({"name": "x", "shared": true})), ("DELETE", Value::Null)]
    {
        let answer = world.send(method, &path, &bob, &body).await;
        assert_eq!(answer.body["code"], "searches/missing", "{method}");
    }
    let shared = json!({"name": "roots", "q": "user.name:root", "shared": true});
    assert_eq!(world.send("PUT", &path, &ann, &shared).await.status, 200);
    let seen = world.send("GET", "/api/v1/searches", &bob, &Value::Null).await.body;
    assert_eq!((&seen["items"][0]["name"], &seen["items"][0]["mine"]), (&json!("roots"), &json!(false)));
    let taken = world.send("PUT", &path, &bob, &json!({"name": "mine", "q": "*"})).await;
    assert_eq!(taken.body["code"], "searches/invalid", "not taken away from the others");
    let wrong = world.send("POST", "/api/v1/searches", &bob, &json!({"name": "x", "q": "user.name:("})).await;
    assert_eq!(wrong.body["errors"][0]["place"], "q");
    assert_eq!(world.send("DELETE", &path, &bob, &Value::Null).await.status, 204);
    // A user over all tenants is not the one of this tenant who has the same name.
    let body = json!({"name": "ann", "role": "admin", "password": PASSWORD, "tenant": "*"});
    world.ask("POST", "/api/v1/users", body).await;
    let over_all = world.login("ann", PASSWORD, Some("*")).await;
    let made = world.send("POST", "/api/v1/searches", &over_all, &json!({"name": "hers", "q": "*"})).await.body;
    assert_eq!((&made["owner"], &made["mine"]), (&json!("user:ann@*"), &json!(true)));
    let path = format!("/api/v1/searches/{}", made["id"].as_str().unwrap());
    assert_eq!(world.send("GET", &path, &ann, &Value::Null).await.body["code"], "searches/missing");
    assert_eq!(world.send("GET", &path, &over_all, &Value::Null).await.status, 200);
    let log = world.ask("GET", "/api/v1/audit", Value::Null).await.to_string();
    assert!(["searches:create", "searches:change", "searches:delete"].iter().all(|action| log.contains(action)));
    world.running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_is_whole_and_its_cells_are_text() {
    let world = World::start().await;
    logins(&world, "default", 30).await;
    let mut forged = Event::new();
    forged.set(field::TIMESTAMP, world.now());
    forged.set(field::EVENT_ACTION, "ssh_login");
    forged.set(field::USER_NAME, "=cmd|'/C calc'!A0");
    world.events("default", vec![forged]).await;
    world
        .wait(|| async {
            let count = world.ask("GET", "/api/v1/events/count?q=event.action:ssh_login", Value::Null).await;
            (count["count"] == 31).then_some(())
        })
        .await;
    let ask = async |rest: &str| {
        let url = world.url(&format!("/api/v1/events/export?q=event.action:ssh_login{rest}"));
        let answer = world.client.get(url).bearer_auth(&world.admin).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        let named = answer.headers()["content-disposition"].to_str().unwrap().to_owned();
        (named, answer.text().await.unwrap())
    };
    let (named, text) = ask("").await;
    assert!(named.contains("events.ndjson"));
    let rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((rows.len(), &rows[1]["event"]["action"]), (31, &json!("ssh_login")));
    let (named, text) = ask("&format=csv&fields=user.name,source.ip&limit=1").await;
    assert!(named.contains("events.csv"));
    let first = "user.name,source.ip\r\n\"'=cmd|'/C calc'!A0\",\r\n";
    let more = "the export ends here with as many rows as were asked for, and there are more";
    assert_eq!(text, format!("{first}\"{more}: events/too-large\"\r\n"), "its last line says that it was cut");
    let (_, text) = ask("&limit=30").await;
    let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!((text.lines().count(), &last["error"]["message"]), (31, &json!(more)));
    assert_eq!(ask("&limit=31").await.1.lines().count(), 31, "and of one that is whole there is no such line");
    world.running.stop().await;
}

/// Reads server-sent events until one is found.
async fn until(stream: reqwest::Response, is: impl Fn(&str) -> bool) -> String {
    let (mut text, mut chunks) = (String::new(), stream.bytes_stream());
    let read = async {
        while let Some(chunk) = chunks.next().await {
            text.push_str(&String::from_utf8_lossy(&chunk.unwrap()));
            if is(&text) {
                break;
            }
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), read).await.expect("within a minute");
    text
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_page_hears_of_its_own_tenants_news_and_of_what_it_missed() {
    let world = World::start().await;
    world.ask("POST", "/api/v1/tenants", json!({"id": "acme"})).await;
    let body = json!({"name": "other", "role": "admin", "password": PASSWORD, "tenant": "acme"});
    world.ask("POST", "/api/v1/users", body).await;
    let other = world.login("other", PASSWORD, Some("acme")).await;
    let open = async |token: &str, last: Option<&str>| {
        let mut request = world.client.get(world.url("/api/v1/live")).bearer_auth(token);
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        request.send().await.unwrap()
    };
    let (stream, foreign) = (open(&world.admin, None).await, open(&other, None).await);
    assert_eq!(stream.headers()["content-type"], "text/event-stream");
    let held_back = held_back(&world).await;
    let alert = world.alert("default").await;
    let own = world.alert("acme").await;
    let text = until(stream, |text| text.contains(&alert) && text.contains("event: ingest")).await;
    assert!(!text.contains(&held_back), "{text}");
    assert!(text.starts_with("event: hello") || text.contains("event: hello"), "{text}");
    let last =
        text.lines().filter_map(|line| line.strip_prefix("id: ").or(line.strip_prefix("id:"))).next_back().unwrap();
    let seen = until(foreign, |text| text.contains(&own)).await;
    assert!(!seen.contains(&alert), "nothing of another tenant: {seen}");
    // What came while nobody was connected is sent to who comes again, and what was seen is not.
    let missed = world.alert("default").await;
    let text = until(open(&world.admin, Some(last.trim())).await, |text| text.contains(&missed)).await;
    assert!(!text.contains(&alert), "{text}");
    world.running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_feed_ends_with_its_token_and_with_a_browser_s_session_that_is_idle() {
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    let world = World::start_at(clock.clone()).await;
    let made = world.ask("POST", "/api/v1/tokens", json!({"name": "t", "role": "viewer", "tenant": "default"})).await;
    let secret = made["secret"].as_str().unwrap();
    let mut browser = Browser::new(&world);
    let password = world.running.first_password.clone().unwrap();
    browser.sign_in("admin", &password, None).await;
    let cookie = format!("sakimori_session={}", browser.jar["sakimori_session"]);
    let mut open = Vec::new();
    for path in ["/api/v1/live", "/api/v1/events/tail"] {
        let ask = || world.client.get(world.url(path));
        open.push((ask().bearer_auth(secret).send().await.unwrap(), true));
        open.push((ask().header("cookie", &cookie).send().await.unwrap(), false));
    }
    assert!(open.iter().all(|(answer, _)| answer.status() == 200));
    // Of both kinds together.
    for number in 0..7 {
        let answer = world.client.get(world.url("/api/v1/events/tail")).bearer_auth(secret).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), if number < 6 { 200 } else { 503 }, "{number}");
        open.push((answer, true));
    }
    let id = made["token"]["id"].as_str().unwrap();
    world.ask("DELETE", &format!("/api/v1/tokens/{id}"), Value::Null).await;
    let (of_token, of_browser): (Vec<_>, Vec<_>) = open.into_iter().partition(|(_, of_token)| *of_token);
    for (answer, _) in of_token {
        until(answer, |_| false).await;
    }
    clock.set(clock.now().plus_secs(3_601));
    for (answer, _) in of_browser {
        until(answer, |_| false).await;
    }
    world.running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_has_a_few_open_pages_and_a_session_that_ends_closes_them() {
    let world = World::start().await;
    let body = json!({"name": "ann", "role": "viewer", "password": PASSWORD, "tenant": "default"});
    world.ask("POST", "/api/v1/users", body).await;
    let ann = world.login("ann", PASSWORD, None).await;
    let mut open = Vec::new();
    for number in 0..9 {
        let answer = world.client.get(world.url("/api/v1/live")).bearer_auth(&ann).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), if number < 8 { 200 } else { 503 }, "{number}");
        open.push(answer);
    }
    world.send("DELETE", "/api/v1/session", &ann, &Value::Null).await;
    let text = until(open.swap_remove(0), |_| false).await;
    assert!(text.contains("event: hello"), "it ended by itself: {text}");
    world.running.stop().await;
}

/// An alert that an exception holds back; its id.
async fn held_back(world: &World) -> String {
    world.ask("POST", "/api/v1/exceptions", json!({"rule": "expected", "reason": "a drill"})).await;
    let id = sakimori_model::id::row_id().replace('-', "");
    let mut event = Event::new();
    event.set(field::TIMESTAMP, world.now());
    event.set(field::EVENT_KIND, "alert");
    event.set(field::SAKIMORI_ALERT_ID, id.clone());
    event.set(field::RULE_ID, "expected");
    event.set(field::RULE_RULESET, "sigma");
    world.events("default", vec![event]).await;
    let path = format!("/api/v1/events/count?q=sakimori.alert.id:{id}");
    world
        .wait(|| async {
            (world.send("GET", &path, &world.admin, &Value::Null).await.body["count"] == 1).then_some(())
        })
        .await;
    id
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_hours_are_told_in_one_look_of_ones_own_tenant() {
    let world = World::start().await;
    logins(&world, "default", 5).await;
    let agent = world.agent("default").await;
    world.action("default").await;
    world.alert("default").await;
    let held_back = held_back(&world).await;
    let execution = world.execution().await;
    let now = world.ask("GET", "/api/v1/now?hours=2", Value::Null).await;
    assert_eq!(now["stopped"]["waf"], 1, "{now}");
    assert_eq!(now["alerts"]["total"], 1, "what an exception holds back is none");
    let text = "id: p\ntitle: { en: P }\ntrigger: { alert: { scope: wide } }\nsteps:\n  - { action: notify, channel: nobody }\n";
    let body = json!({"text": text, "since_seconds": 3_600});
    let rehearsal = world.ask("POST", "/api/v1/playbooks/asks/rehearse", body).await;
    assert_eq!((&rehearsal["looked_at"], rehearsal.to_string().contains(&held_back)), (&json!(1), false));
    assert_eq!(
        (&now["approvals"]["waiting"], &now["approvals"]["items"][0]["execution"]),
        (&json!(1), &json!(execution))
    );
    assert_eq!(now["approvals"]["items"][0]["en"], "May it?");
    assert_eq!(now["blocks"]["active"], 1);
    let left = now["blocks"]["items"][0]["seconds_left"].as_i64().unwrap();
    assert!((3_000..=3_600).contains(&left), "{left}");
    assert_eq!(now["hosts"]["items"][0]["agent"], agent);
    assert_eq!(now["hosts"]["items"][0]["why"][0]["state"], "disconnected");
    assert!(now["books"]["stored"].as_u64().unwrap() >= 6);
    assert!(now["disk"]["free"].as_u64().unwrap() > 0 && now["halted"].is_null());
    world.ask("POST", "/api/v1/tenants", json!({"id": "acme"})).await;
    let request =
        world.client.get(world.url("/api/v1/now")).bearer_auth(&world.admin).header("sakimori-tenant", "acme");
    let other: Value = request.send().await.unwrap().json().await.unwrap();
    assert_eq!(
        (&other["blocks"]["active"], &other["hosts"]["total"], &other["books"]["arrived"]),
        (&json!(0), &json!(0), &json!(0))
    );
    world.running.stop().await;
}
