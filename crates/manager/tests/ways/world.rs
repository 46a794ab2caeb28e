//! A manager with ways in, somebody to ask it, the AWS simulator and its second reader.

use std::collections::BTreeMap;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sakimori_manager::config::Config;
use sakimori_manager::{Manager, Running};
use serde_json::{Value, json};

/// Longest wait for anything: two cores are shared by many tests.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// Runs a test on a runtime of its own.
pub fn on<F: Future>(test: F) -> F::Output {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(test)
}

/// A manager and its first user's session.
pub struct World {
    pub running: Option<Running>,
    pub client: reqwest::Client,
    pub token: String,
    password: String,
    config: Config,
    _dir: tempfile::TempDir,
}

impl World {
    /// With these settings below the usual ones.
    pub async fn start(settings: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config: Config = toml::from_str(settings).unwrap();
        config.state_dir = dir.path().join("state");
        config.api.listen = "127.0.0.1:0".parse().unwrap();
        config.link.listen = "127.0.0.1:0".parse().unwrap();
        config.lake.least_free_percent = 0;
        let running = Manager::start(config.clone()).await.unwrap();
        let password = running.first_password.clone().unwrap();
        let client = reqwest::Client::builder().timeout(PATIENCE).build().unwrap();
        let mut world = Self { running: Some(running), client, token: String::new(), password, config, _dir: dir };
        world.log_in().await;
        world
    }

    async fn log_in(&mut self) {
        let body = json!({"name": "admin", "password": self.password});
        let made = self.client.post(self.url("/api/v1/session")).json(&body).send().await.unwrap();
        let made: Value = made.json().await.unwrap();
        self.token = made["token"].as_str().unwrap_or_else(|| panic!("{made}")).to_owned();
    }

    /// Ends the manager in good order and starts it again on what it left.
    pub async fn again(&mut self) {
        self.running.take().unwrap().stop().await;
        self.running = Some(Manager::start(self.config.clone()).await.unwrap());
        self.log_in().await;
    }

    pub fn running(&self) -> &Running {
        self.running.as_ref().unwrap()
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.running().api_addr)
    }

    pub async fn get(&self, path: &str) -> Value {
        let answer = self.client.get(self.url(path)).bearer_auth(&self.token).send().await.unwrap();
        let status = answer.status();
        let text = answer.text().await.unwrap();
        assert!(status.is_success(), "{path}: {status} {text}");
        serde_json::from_str(&text).unwrap()
    }

    pub async fn put_secret(&self, name: &str, value: &str) {
        let path = self.url(&format!("/api/v1/secrets/{name}"));
        let answer = self.client.put(path).bearer_auth(&self.token).body(value.to_owned()).send().await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.status());
    }

    /// Lets a playbook run that is shipped switched off.
    pub async fn switch_on(&self, playbook: &str) {
        let path = self.url("/api/v1/policies/layers/tenant");
        let body = json!({"tree": {"response": {"playbooks_on": [playbook]}}});
        let answer = self.client.put(path).bearer_auth(&self.token).json(&body).send().await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.status());
    }

    /// Posts to a way; status and body.
    pub async fn post(&self, way: &str, headers: &[(&str, &str)], body: &str) -> (u16, Value) {
        let mut request = self.client.post(self.url(&format!("/api/v1/ingest/{way}"))).body(body.to_owned());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap_or(Value::Null))
    }

    /// Waits until an execution of a playbook is in a state; its id.
    pub async fn execution(&self, playbook: &str, state: &str) -> String {
        let until = Instant::now() + PATIENCE;
        loop {
            let all = self.get("/api/v1/executions").await;
            let mut items = all["items"].as_array().unwrap().iter();
            let found = items.find(|one| one["playbook"] == playbook && one["state"] == state);
            if let Some(found) = found {
                return found["id"].as_str().unwrap().to_owned();
            }
            assert!(Instant::now() < until, "no execution of {playbook} is {state}: {all:#}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Events that a search finds.
    pub async fn events(&self, query: &str) -> Vec<Value> {
        let query: String = url_escaped(query);
        self.get(&format!("/api/v1/events?limit=1000&q={query}")).await["items"].as_array().unwrap().clone()
    }

    /// Waits until a search finds so many, and gives them.
    pub async fn find(&self, query: &str, count: usize) -> Vec<Value> {
        let until = Instant::now() + PATIENCE;
        loop {
            let found = self.events(query).await;
            if found.len() >= count {
                return found;
            }
            if Instant::now() > until {
                let all = self.events("*").await;
                panic!("{query}: {} of {count}; there are {all:#?}", found.len());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

pub fn url_escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    let one = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    text.bytes().map(one).collect()
}

/// The AWS simulator.
pub struct Simulator {
    child: Child,
    python: PathBuf,
    pub url: String,
}

impl Simulator {
    /// `None` where there is none: the test is then noted as skipped.
    pub fn start() -> Option<Self> {
        let program = std::env::var_os("SAKIMORI_MOTO").map(PathBuf::from);
        sakimori_sys::harness::needs(program.is_some(), "the AWS simulator in SAKIMORI_MOTO (make test sets it)");
        let program = program?;
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = Command::new(&program);
        command.args(["-H", "127.0.0.1", "-p", &port.to_string()]).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().unwrap();
        let one = Self { child, python: program.with_file_name("python3"), url: format!("http://127.0.0.1:{port}") };
        let until = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < until, "the simulator does not answer");
            std::thread::sleep(Duration::from_millis(50));
        }
        Some(one)
    }

    /// Runs a script with AWS's own SDK for Python: `client(service)` makes a client, `given` has the values.
    pub fn python(&self, script: &str, given: &BTreeMap<&str, String>) -> String {
        let given = serde_json::to_string(given).unwrap();
        let head = format!(
            "import boto3, json, sys\ngiven = json.loads(sys.argv[1])\ndef client(service):\n    return \
             boto3.client(service, region_name='ap-northeast-1', endpoint_url='{}', aws_access_key_id='test', \
             aws_secret_access_key='test')\n",
            self.url
        );
        let out = Command::new(&self.python).arg("-c").arg(format!("{head}{script}")).arg(given).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap().trim().to_owned()
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
