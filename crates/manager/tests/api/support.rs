//! A manager of its own for each test, somebody to ask it, and things to ask for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use reqwest::{Method, StatusCode};
use sakimori_manager::config::Config;
use sakimori_manager::{Manager, Running};
use sakimori_model::action::{Cause, Target};
use sakimori_model::{Action, ActionState, Event, Order, Timestamp, field};
use sakimori_runtime::SystemClock;
use sakimori_runtime::clock::SharedClock;
use sakimori_store::control::sql;
use sakimori_store::control::{actions, agents};
use sakimori_wire::batch::{Batch, BatchHeader, encode};
use serde_json::{Value, json};

/// A running manager.
pub struct World {
    pub running: Running,
    pub client: reqwest::Client,
    /// Token of a session of the first user.
    pub admin: String,
    sequence: AtomicU64,
    pub dir: tempfile::TempDir,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: reqwest::header::HeaderMap,
    pub body: Value,
}

/// A playbook that asks before it does anything.
pub const ASKS: &str = "id: asks\ntitle: { en: Asks }\ntrigger: { manual: {} }\nsteps:\n  - approval: { ask: ops, within: 1h, text: \
                    { en: May it? } }\n";

/// Network rules of one's own.
pub const OWN_RULES: &str = "drop tcp any any -> any any (msg:\"Own\"; reference:cve,2021-44228; \
                             metadata:severity high, technique T1190; sid:7000001; rev:2;)\n";

impl World {
    pub async fn start() -> Self {
        Self::start_at(Arc::new(SystemClock)).await
    }

    pub async fn start_at(clock: SharedClock) -> Self {
        Self::start_with(clock, |_| {}).await
    }

    /// A manager with this clock and a changed configuration.
    pub async fn start_with(clock: SharedClock, change: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config { state_dir: dir.path().join("state"), ..Config::default() };
        config.api.listen = "127.0.0.1:0".parse().unwrap();
        config.link.listen = "127.0.0.1:0".parse().unwrap();
        config.lake.least_free_percent = 0;
        let content = dir.path().join("content");
        std::fs::create_dir_all(content.join("playbooks")).unwrap();
        std::fs::create_dir_all(content.join("network")).unwrap();
        std::fs::write(content.join("network/own.rules"), OWN_RULES).unwrap();
        std::fs::write(content.join("playbooks/asks.yml"), ASKS).unwrap();
        config.content_dir = Some(content);
        change(&mut config);
        let running = Manager::start_with(config, clock).await.unwrap();
        let client = reqwest::Client::builder().timeout(Duration::from_secs(60)).build().unwrap();
        let mut world = Self { running, client, admin: String::new(), sequence: AtomicU64::new(0), dir };
        let password = world.running.first_password.clone().unwrap();
        world.admin = world.login("admin", &password, None).await;
        world
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.running.api_addr)
    }

    /// Sends a request; JSON bodies as JSON, text bodies (hex) as bytes.
    pub async fn send(&self, method: &str, path: &str, token: &str, body: &Value) -> Answer {
        let mut request = self.client.request(method.parse::<Method>().unwrap(), self.url(path));
        if !token.is_empty() {
            request = request.bearer_auth(token);
        }
        request = match body {
            Value::Null => request,
            Value::String(bytes) => request.body(hex::decode(bytes).unwrap()),
            other => request.json(other),
        };
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        if headers.get("content-type").is_some_and(|kind| kind == "text/event-stream") {
            return Answer { status, headers, body: Value::Null };
        }
        let text = response.text().await.unwrap();
        Answer { status, headers, body: serde_json::from_str(&text).unwrap_or(Value::String(text)) }
    }

    /// As the first user, who may do everything; the answer's body.
    pub async fn ask(&self, method: &str, path: &str, body: Value) -> Value {
        let answer = self.send(method, path, &self.admin, &body).await;
        assert!(answer.status.is_success(), "{method} {path}: {} {}", answer.status, answer.body);
        answer.body
    }

    pub async fn login(&self, name: &str, password: &str, tenant: Option<&str>) -> String {
        let body = json!({"name": name, "password": password, "tenant": tenant});
        let answer = self.send("POST", "/api/v1/session", "", &body).await;
        assert_eq!(answer.status, 201, "{}", answer.body);
        answer.body["token"].as_str().unwrap().to_owned()
    }

    pub fn now(&self) -> Timestamp {
        self.running.shared.clock.now()
    }

    /// A row as enrolment would make it.
    pub async fn agent(&self, tenant: &str) -> String {
        self.agent_of(tenant, &["web"]).await
    }

    /// The same, of these groups.
    pub async fn agent_of(&self, tenant: &str, groups: &[&str]) -> String {
        self.joined(tenant, groups, "").await
    }

    /// The same, by this enrolment token.
    pub async fn joined(&self, tenant: &str, groups: &[&str], token: &str) -> String {
        let id = sakimori_model::id::row_id();
        let agent = agents::Agent {
            tenant: tenant.into(),
            id: id.clone(),
            name: "web-1".into(),
            tags: groups.iter().map(ToString::to_string).collect(),
            host: "{}".into(),
            versions: "{}".into(),
            status: "{}".into(),
            enrolled: self.now(),
            last_seen: None,
            serial: "1".into(),
            revoked: None,
            token: token.into(),
            machine: "{}".into(),
            presence: String::new(),
            presence_since: None,
        };
        let mut change = self.running.shared.control.begin().await.unwrap();
        agents::create(change.connection(), &agent).await.unwrap();
        change.commit().await.unwrap();
        id
    }

    /// An action of the manager's that is in effect.
    /// An execution that asks something, of the tenant `default`: its id.
    pub async fn execution(&self) -> String {
        let begun = self.ask("POST", "/api/v1/playbooks/asks/run", json!({})).await;
        let id = begun["execution"].as_str().unwrap().to_owned();
        loop {
            let shown = self.ask("GET", &format!("/api/v1/executions/{id}"), Value::Null).await;
            if shown["execution"]["steps"]["0"]["state"] == "waiting" {
                return id;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub async fn action(&self, tenant: &str) -> String {
        let number = self.sequence.fetch_add(1, Ordering::Relaxed);
        let now = self.now();
        let action = Action {
            order: Order {
                id: sakimori_model::id::row_id(),
                action: "waf_block".into(),
                target: Target::Network(format!("203.0.113.{}", number % 250).parse().unwrap()),
                expiry: None,
                cause: Cause { alert: format!("a{number}"), ..Cause::default() },
                via: None,
                probe: false,
                inputs: Default::default(),
                signatures: Vec::new(),
            },
            place: "manager".into(),
            state: ActionState::Done,
            reason: None,
            former: None,
            planned_at: now,
            done_at: Some(now),
            ended_at: None,
            expires_at: Some(now.plus_secs(3_600)),
            expires_at_most: Some(now.plus_secs(3_600)),
            prolonged: 0,
            grace_until: None,
            undone_by: None,
            confirm_by: None,
        };
        let mut change = self.running.shared.control.begin().await.unwrap();
        actions::begin(&mut change, tenant, &action, now).await.unwrap();
        change.commit().await.unwrap();
        action.order.id
    }

    /// An action of a connected host that waits for its confirmation.
    pub async fn provisional(&self, tenant: &str) -> String {
        let agent = self.agent(tenant).await;
        let (sender, receiver) = tokio::sync::mpsc::channel(64);
        self.running.shared.links.add((tenant, &agent), 1, sender);
        // As long as the test, as the stream of a host would.
        std::mem::forget(receiver);
        let now = self.now();
        let mut action = actions::get(
            self.running.shared.control.read(),
            &sakimori_store::control::Scope::All,
            &self.action(tenant).await,
        )
        .await
        .unwrap()
        .action;
        action.order.id = sakimori_model::id::row_id();
        action.order.action = "block_address".into();
        action.place = agent;
        action.confirm_by = Some(now.plus_secs(600));
        let mut change = self.running.shared.control.begin().await.unwrap();
        actions::put(change.connection(), tenant, &action, 1, now).await.unwrap();
        change.commit().await.unwrap();
        action.order.id
    }

    /// Events that arrive by the manager's own way in, durable when this returns.
    pub async fn events(&self, tenant: &str, events: Vec<Event>) {
        let sequence = self.sequence.fetch_add(1, Ordering::Relaxed) + 1;
        let header = BatchHeader {
            id: format!("test/{tenant}:{sequence}"),
            origin: "manager".into(),
            stream: format!("test-{sequence}"),
            sequence,
            count: u32::try_from(events.len()).unwrap(),
            ..BatchHeader::default()
        };
        let bytes = encode(&Batch { header, events }).unwrap();
        self.running.shared.ingest.submit(tenant, "manager", bytes).await.unwrap();
    }

    /// An alert in the lake; its id.
    pub async fn alert(&self, tenant: &str) -> String {
        let id = sakimori_model::id::row_id().replace('-', "");
        let mut event = Event::new();
        event.set(field::TIMESTAMP, self.now());
        event.set(field::EVENT_KIND, "alert");
        event.set(field::SAKIMORI_ALERT_ID, id.clone());
        event.set(field::RULE_ID, "made-up-rule");
        self.events(tenant, vec![event]).await;
        let path = format!("/api/v1/events/count?q=sakimori.alert.id:{id}");
        let answer = self.wait(|| async {
            let answer = self.send("GET", &path, &self.admin, &Value::Null).await;
            (tenant != "default" || answer.body["count"] == 1).then_some(())
        });
        answer.await;
        id
    }

    /// Waits until something is there.
    pub async fn wait<T, F: Future<Output = Option<T>>>(&self, mut look: impl FnMut() -> F) -> T {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            if let Some(found) = look().await {
                return found;
            }
            assert!(Instant::now() < end, "waited a minute in vain");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until no execution of a playbook has anything to do: each is over, or waits for an answer that nobody gave.
    async fn at_rest(&self) {
        let busy = "SELECT COUNT(*) FROM executions WHERE (state IN ('running', 'undoing') AND (record NOT LIKE '%\"waiting\"%' \
                    OR EXISTS (SELECT 1 FROM answers WHERE answers.execution = executions.id))) \
                    OR (undo <> '' AND state NOT IN ('undone', 'compensated'))";
        let pool = self.running.shared.control.read();
        let until = std::time::Instant::now();
        while sql::query_scalar::<i64>(busy).fetch_one(pool).await.unwrap() > 0 {
            assert!(until.elapsed() < Duration::from_secs(60), "an execution does not come to rest");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Every row of every table that only people change, read by SQL and not by the code under test.
    pub async fn rows(&self) -> Vec<String> {
        self.at_rest().await;
        let mut out = Vec::new();
        let tables = [
            "users",
            "api_tokens",
            "sessions",
            "totp",
            "recovery_codes",
            "passkeys",
            "provider_accounts",
            "tenants",
            "policies",
            "rollouts",
            "rollout_agents",
            "exceptions",
            "settings",
            "secrets",
            "audit",
            "alert_notes",
            "searches",
            "enrolment_tokens",
            "agents",
            "agent_orders",
            "order_seals",
            "actions",
            "ledger",
            "answers",
            "executions",
        ];
        let pool = self.running.shared.control.read();
        for table in tables {
            let sql = format!("SELECT name FROM pragma_table_info('{table}') WHERE name NOT IN ('last_used', 'seen')");
            let columns: Vec<String> = sql::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_all(pool).await.unwrap();
            let whole = columns.iter().map(|column| format!("quote({column})")).collect::<Vec<_>>().join(" || ',' || ");
            let sql = format!("SELECT '{table}: ' || {whole} FROM {table} ORDER BY 1");
            let rows: Vec<String> = sql::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_all(pool).await.unwrap();
            assert!(!columns.is_empty(), "{table}");
            out.extend(rows);
        }
        out.push(format!("bundle {}", self.running.shared.bundle.load().number));
        out
    }
}
