//! Delivery: a crash between the sending and the record of it, dead letters, groups, channels that do not wait for one
//! another, a question, a test message.

use std::sync::{Arc, Mutex};

use sakimori_store::control::messages::{self, State};
use sakimori_store::control::{DEFAULT_TENANT, sql};
use serde_json::{Value, json};

use super::fake::{Fake, Fault, Reply};
use super::site::{Site, channel, secret};

fn hook() -> Fake {
    Fake::start(|_| Reply { status: 200, body: String::new() })
}

#[test]
fn a_crash_between_sending_and_recording_leads_to_one_marked_repeat_and_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let fake = hook();
    let mut site = Site::start(dir.path(), vec![channel("webhook", &fake.url, &[])]);
    let alert = site.alert();
    fake.fail([Fault::Silent, Fault::Silent, Fault::Silent]);
    let id = site.tell(&alert, &[]);
    site.until("it is there once", || (fake.seen().len() == 1).then_some(()));
    site.crash();
    site.up();
    site.until("it is repeated", || {
        site.pass(1);
        (fake.seen().len() == 2).then_some(())
    });
    site.crash();
    site.up();
    let dead = site.over(&id);
    assert_eq!((dead.state, dead.tries, fake.seen().len()), (State::Dead, 2, 2));
    let seen = fake.seen();
    let repeat = |at: usize| seen[at].headers.contains_key("x-sakimori-repeat");
    assert_eq!((repeat(0), repeat(1)), (false, true));
    assert_eq!(seen[0].raw, seen[1].raw, "the same message, byte for byte");
    let tries = site.tries(&dead);
    assert!(tries.iter().all(|one| one.outcome == "unknown" && one.ended.is_none()), "{tries:?}");
    // A person may send it again all the same.
    fake.fail([]);
    site.stop();
}

#[test]
fn a_crash_between_sending_and_recording_leaves_a_keyed_message_there_once() {
    let dir = tempfile::tempdir().unwrap();
    let made: Arc<Mutex<Vec<Value>>> = Arc::default();
    let held = Arc::clone(&made);
    let fake = Fake::start(move |request| {
        let mut made = held.lock().unwrap();
        if request.method == "POST" {
            made.push(request.body.clone());
            let row = json!({"sys_id": format!("{:032x}", made.len()), "number": format!("INC{}", made.len())});
            return Reply::json(201, json!({ "result": row }));
        }
        let id = request.query["sysparm_query"].trim_start_matches("correlation_id=");
        let found: Vec<Value> = made
            .iter()
            .enumerate()
            .filter(|(_, row)| row["correlation_id"] == id)
            .map(|(at, _)| json!({"sys_id": format!("{:032x}", at + 1), "number": format!("INC{}", at + 1)}))
            .collect();
        Reply::json(200, json!({ "result": found }))
    });
    let mut ops = channel("servicenow", &fake.url, &[]);
    ops.secret_file = secret(dir.path(), "token");
    let mut site = Site::start(dir.path(), vec![ops]);
    let alert = site.alert();
    // It crashes while the incident is made, then while it is looked for.
    fake.fail([Fault::Silent, Fault::Silent]);
    let id = site.tell(&alert, &[]);
    for requests in 1..=2 {
        site.until("a request is there", || {
            site.pass(1);
            (fake.seen().len() == requests).then_some(())
        });
        site.crash();
        site.up();
    }
    let message = site.sent(&id);
    assert_eq!((made.lock().unwrap().len(), message.reference.as_str(), message.tries), (1, "INC1", 3));
    let done = "SELECT COUNT(*) FROM actions WHERE kind = 'notify' AND state = 'done'";
    let done: i64 =
        site.block_on(async { sql::query_scalar(done).fetch_one(site.shared().control.read()).await.unwrap() });
    assert_eq!(done, 1, "its action is done with it");
    site.stop();
}

#[test]
fn what_is_given_up_is_a_dead_letter_that_is_told_of_once_and_can_be_sent_again() {
    let dir = tempfile::tempdir().unwrap();
    let fake = hook();
    let mut site = Site::start(dir.path(), vec![channel("webhook", &fake.url, &[])]);
    fake.fail([Fault::Broken(403), Fault::Broken(403)]);
    // Both wait before the first is refused: what tells of that one is not to be refused in place of the second.
    let alerts = [site.alert(), site.alert()];
    let ids = alerts.map(|alert| site.tell(&alert, &[]));
    let dead = ids.map(|id| site.over(&id));
    assert!(dead.iter().all(|one| one.state == State::Dead && one.reason.contains("403")), "{dead:?}");
    let query = sakimori_store::query::parse("rule.id:message-undelivered and event.kind:alert").unwrap();
    let found = |site: &Site| {
        let interval = sakimori_store::lake::Interval::default();
        let found = site.block_on(site.shared().lake.search(DEFAULT_TENANT, &query, interval, 10, None));
        found.map(|found| found.hits.len()).unwrap_or(0)
    };
    site.until("the operator is told", || (found(&site) == 1).then_some(()));
    // The alert about it is told on the same channel by the playbook that tells of everything, which arrives by now.
    site.until("it is told", || {
        site.pass(1);
        fake.seen().iter().any(|one| one.raw.contains("message-undelivered")).then_some(())
    });
    assert_eq!(found(&site), 1, "once, not for each");
    let failed = "SELECT COUNT(*) FROM actions WHERE kind = 'notify' AND state = 'failed'";
    let failed: i64 =
        site.block_on(async { sql::query_scalar(failed).fetch_one(site.shared().control.read()).await.unwrap() });
    assert_eq!(failed, 2);
    // Sent again, as the API does.
    let again = &dead[0];
    site.block_on(async {
        let mut change = site.shared().control.begin().await.unwrap();
        let fresh = messages::Stored { state: State::Waiting, failures: 0, unknown: 0, ..again.clone() };
        messages::update(change.connection(), &fresh).await.unwrap();
        change.commit().await.unwrap();
    });
    site.shared().channels.wake("ops");
    site.sent(&again.id);
    assert!(fake.seen().iter().any(|one| one.raw.contains(&again.id) && one.headers.contains_key("x-sakimori-repeat")));
    site.stop();
}

#[test]
fn a_burst_is_one_message_and_a_question_goes_alone_and_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let fake = hook();
    let mut ops = channel("webhook", &fake.url, &[]);
    ops.burst_seconds = 10;
    let mut site = Site::start(dir.path(), vec![ops]);
    let alert = site.alert();
    let asked = json!({
        "execution": "e", "step": "1", "en": "Isolate web1?", "ja": "web1 を隔離しますか?", "until": site.now(),
        "otherwise": "allow",
    });
    let question = site.tell(&alert, &[("ask", &asked.to_string())]);
    let sent = site.until("the question is there", || fake.seen().first().cloned());
    assert_eq!(
        (&sent.body["ask"]["question_en"], &sent.body["ask"]["otherwise"]),
        (&json!("Isolate web1?"), &json!("allow"))
    );
    assert!(sent.body["ask"]["url"].as_str().unwrap().starts_with("https://console.example/answer/"));
    assert_eq!(sent.body["id"], question);
    assert_eq!(fake.seen().len(), 1, "and without waiting for others");
    site.stop();
}

#[test]
fn a_receiver_that_is_silent_holds_up_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let (silent, quick) = (hook(), hook());
    silent.fail([Fault::Silent; 8]);
    let mut first = channel("webhook", &silent.url, &[]);
    first.name = "first".into();
    let site = Site::start(dir.path(), vec![first, channel("webhook", &quick.url, &[])]);
    let test = |channel: &str| {
        let message = sakimori_manager::jobs::deliver::test(DEFAULT_TENANT, channel, "user:ann", site.now());
        site.block_on(async {
            let mut change = site.shared().control.begin().await.unwrap();
            messages::put(change.connection(), &message, &[]).await.unwrap();
            change.commit().await.unwrap();
        });
        assert!(site.shared().channels.wake(channel));
        message.id
    };
    let stuck = test("first");
    site.until("it is under way", || (silent.seen().len() == 1).then_some(()));
    let began = std::time::Instant::now();
    let sent = site.sent(&test("ops"));
    assert!(began.elapsed() < sakimori_manager::channels::PATIENCE, "{:?}", began.elapsed());
    assert_eq!((sent.kind.as_str(), quick.seen()[0].body["kind"].as_str()), ("test", Some("test")));
    assert_eq!(site.message(&stuck).unwrap().state, State::Sending);
    site.stop();
}
