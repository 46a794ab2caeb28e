//! Policies, exceptions and rules as a user governs them, against a manager in a process of its own: what is written is
//! checked by its real workers.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

/// A manager that is killed at the end, and somebody signed in.
struct Manager {
    process: Child,
    url: String,
    token: String,
    dir: tempfile::TempDir,
}

impl Manager {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let (api, link) = (free(), free());
        let config = dir.path().join("manager.toml");
        let state = dir.path().join("state");
        let text = format!(
            "state_dir = {state:?}\n[api]\nlisten = \"{api}\"\n[link]\nlisten = \"{link}\"\n[lake]\nleast_free_percent = 0\n"
        );
        std::fs::write(&config, text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_sakimori"));
        command.arg("manager").arg("--config").arg(&config).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let password = line.split_whitespace().last().unwrap().to_owned();
        let mut manager = Self { process, url: format!("http://{api}"), token: String::new(), dir };
        let began = Instant::now();
        while manager.ask(Method::GET, "/healthz", None).0 != 200 {
            assert!(began.elapsed() < Duration::from_secs(120), "the manager does not answer");
            std::thread::sleep(Duration::from_millis(50));
        }
        let body = json!({"name": "admin", "password": password});
        let (status, answer) = manager.ask(Method::POST, "/api/v1/session", Some(body));
        assert_eq!(status, 201, "{answer}");
        manager.token = answer["token"].as_str().unwrap().to_owned();
        manager
    }

    fn ask(&self, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
        sakimori_runtime::http::install_crypto();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let client = sakimori_runtime::http::builder(Duration::from_secs(120)).build().unwrap();
            let request = client.request(method, format!("{}{path}", self.url)).bearer_auth(&self.token);
            let request = match &body {
                Some(body) => request.json(body),
                None => request,
            };
            match request.send().await {
                Ok(answer) => (answer.status().as_u16(), answer.json().await.unwrap_or(Value::Null)),
                Err(_) => (0, Value::Null),
            }
        })
    }

    fn sakimori(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sakimori"));
        command.args(["--server", &self.url, "--token", &self.token, "--state"]).arg(self.dir.path().join("none"));
        command.args(arguments).stdin(Stdio::null()).output().unwrap()
    }

    fn answer(&self, arguments: &[&str]) -> Value {
        let mut all = vec!["--json"];
        all.extend(arguments);
        let output = self.sakimori(&all);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn lint(&self, language: &str, text: &str) -> Value {
        let body = json!({"language": language, "text": text, "file": "own.yml"});
        let (status, answer) = self.ask(Method::POST, "/api/v1/rules/lint", Some(body));
        assert_eq!(status, 200, "{language}: {answer}");
        answer["findings"].clone()
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn write(dir: &Path, name: &str, text: &str) -> String {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

#[test]
fn what_is_written_is_seen_before_and_taken_back_after_and_checked_by_the_engines() {
    let manager = Manager::start();
    let dir = manager.dir.path();
    let first = write(dir, "first.yaml", "modules:\n  block_address:\n    expiry_seconds: 60\n");
    let second = write(dir, "second.yaml", "modules:\n  block_address:\n    expiry_seconds: 90\n");
    let would = manager.answer(&["policy", "set", "tenant", &first, "--dry-run"]);
    assert_eq!((&would["settings"][0]["after"], &would["from"]), (&json!(60), &json!(0)));
    assert_eq!(manager.answer(&["policy", "history", "tenant"]), json!([]), "a dry run writes nothing");
    let number = manager.answer(&["policy", "set", "tenant", &first, "--reason", "shorter"])["number"].to_string();
    manager.answer(&["policy", "set", "tenant", &second]);
    assert_eq!(manager.answer(&["policy", "diff", "tenant"])["settings"][0]["before"], 60);
    let back = manager.answer(&["policy", "rollback", "tenant", "--to", &number]);
    assert_eq!(back["tree"]["modules"]["block_address"]["expiry_seconds"], 60);
    let history = manager.sakimori(&["policy", "history", "tenant"]);
    let history = String::from_utf8_lossy(&history.stdout).into_owned();
    assert!(history.contains("shorter") && history.contains(&format!("back to {number}")), "{history}");
    assert_eq!(manager.answer(&["policy", "rollout", "list"]), json!([]));
    let settings = manager.sakimori(&["policy", "settings"]);
    assert!(String::from_utf8_lossy(&settings.stdout).contains("modules.block_address.expiry_seconds"));

    let add = ["exceptions", "add", "ssh-brute-force", "--field", "source.ip=192.0.2.7", "--reason", "our scanner"];
    let mut dry = add.to_vec();
    dry.push("--dry-run");
    assert_eq!(manager.answer(&dry)["held"], 0);
    let made = manager.answer(&add);
    assert_eq!(made["condition"], "source.ip:\"192.0.2.7\"");
    assert_eq!(manager.answer(&["exceptions", "list"])[0]["id"], made["id"]);
    manager.answer(&["exceptions", "remove", made["id"].as_str().unwrap()]);
    assert_eq!(manager.answer(&["exceptions", "list"]), json!([]));
    assert_eq!(manager.answer(&["rules", "noisy"]), json!([]));

    // The engines themselves, each in a worker.
    assert_eq!(manager.lint("suricata", "alert tcp any any -> any any (msg:\"x\"; sid:1;)\n"), json!([]));
    let wrong = manager.lint("suricata", "\nalert tcp any any -> any any (nonsense; sid:1;)\n");
    assert_eq!((&wrong[0]["line"], &wrong[0]["code"]), (&json!(2), &json!("suricata/invalid")), "{wrong}");
    assert_eq!(manager.lint("yara", "rule a { condition: true }\n"), json!([]));
    assert_ne!(manager.lint("yara", "rule a { condition: nonsense }\n"), json!([]));
    assert_eq!(manager.lint("policy", "presence:\n  silent_after_seconds: 9\n"), json!([]));
    for rule in ["miner-program", "path-traversal"] {
        let (status, ran) = manager.ask(Method::POST, &format!("/api/v1/rules/{rule}/test"), Some(json!({})));
        assert!(status == 200 && ran["cases"].as_u64() > Some(2) && ran["failures"] == json!([]), "{rule}: {ran}");
    }
}
