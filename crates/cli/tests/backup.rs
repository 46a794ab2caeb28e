//! `backup` and `restore` as a user runs them, against a manager in a process of its own.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

fn sakimori(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sakimori"));
    for name in ["SAKIMORI_SERVER", "SAKIMORI_TOKEN", "SAKIMORI_TENANT", "SAKIMORI_STATE"] {
        command.env_remove(name);
    }
    command.args(arguments).stdin(Stdio::null()).output().unwrap()
}

fn answer(arguments: &[&str]) -> Value {
    let output = sakimori(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn refused(arguments: &[&str]) -> String {
    let output = sakimori(arguments);
    assert!(!output.status.success(), "{arguments:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A manager that is killed at the end.
struct Manager {
    process: Child,
    url: String,
    first_password: Option<String>,
}

impl Manager {
    fn start(config: &Path, url: &str, first: bool) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sakimori"));
        let mut process = command
            .arg("manager")
            .arg("--config")
            .arg(config)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        if first {
            BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        }
        let password = line.split_whitespace().last().map(str::to_owned);
        let manager = Self { process, url: url.to_owned(), first_password: password };
        let began = Instant::now();
        while ask(reqwest::Method::GET, &format!("{url}/healthz"), None).0 != 200 {
            assert!(began.elapsed() < Duration::from_secs(60), "the manager does not answer");
            std::thread::sleep(Duration::from_millis(50));
        }
        manager
    }

    fn log_in(&self, password: &str) -> String {
        let body = json!({"name": "admin", "password": password});
        let (status, answer) = ask(reqwest::Method::POST, &format!("{}/api/v1/session", self.url), Some(body));
        assert_eq!(status, 201, "{answer}");
        answer["token"].as_str().unwrap().to_owned()
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

fn ask(method: reqwest::Method, url: &str, body: Option<Value>) -> (u16, Value) {
    sakimori_runtime::http::install_crypto();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let request = sakimori_runtime::http::builder(Duration::from_secs(30)).build().unwrap().request(method, url);
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

fn free() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

#[test]
fn a_working_manager_goes_into_a_file_and_a_stopped_one_comes_back_from_it() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| -> PathBuf { dir.path().join(name) };
    let text = |path: &Path| path.display().to_string();
    let (api, state, config) = (free(), at("state"), at("manager.toml"));
    std::fs::create_dir_all(at("content/sigma/own")).unwrap();
    let written = format!(
        "state_dir = \"{}\"\ncontent_dir = \"{}\"\n[api]\nlisten = \"{api}\"\n[link]\nlisten = \"{}\"\n",
        state.display(),
        at("content").display(),
        free()
    );
    std::fs::write(&config, &written).unwrap();
    std::fs::write(at("content/sigma/own/note.txt"), "ours").unwrap();
    let (file, second) = (text(&at("backup.tar")), text(&at("stopped.tar")));
    let (url, config_name) = (format!("http://{api}"), text(&config));

    let manager = Manager::start(&config, &url, true);
    let password = manager.first_password.clone().unwrap();
    let token = manager.log_in(&password);
    let with = ["--json", "--server", &url, "--token", &token];
    let made = answer(&[&with[..], &["backup", &file]].concat());
    assert!(made["bytes"].as_u64().unwrap() > 10_000 && made["entries"].as_u64().unwrap() > 5, "{made}");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(refused(&[&with[..], &["backup", &file]].concat()).contains("is there already"));
    assert_eq!(answer(&["--json", "backup", &file, "--check"])["created"], made["created"]);
    let running = refused(&["backup", &second, "--stopped", "--config", &config_name]);
    assert!(running.contains("another process has it open"), "{running}");
    assert!(!Path::new(&second).exists() && !at("stopped.tar.part").exists());
    let wrong = refused(&["--server", &url, "--token", "skt_wrong", "backup", &second]);
    assert!(wrong.contains("valid token") && !at("stopped.tar.part").exists(), "{wrong}");
    assert!(refused(&["restore", &file, "--config", &config_name]).contains("is not empty"));
    drop(manager);

    answer(&["--json", "backup", &second, "--stopped", "--config", &config_name]);
    for backup in [&file, &second] {
        std::fs::remove_dir_all(&state).unwrap();
        let restored = answer(&["--json", "restore", backup, "--config", &config_name]);
        assert_eq!(std::fs::read_to_string(restored["config"].as_str().unwrap()).unwrap(), written);
        let content = Path::new(restored["content"].as_str().unwrap());
        assert_eq!(std::fs::read_to_string(content.join("sigma/own/note.txt")).unwrap(), "ours");
        assert_eq!(std::fs::metadata(&state).unwrap().permissions().mode() & 0o777, 0o700);
        let manager = Manager::start(&config, &url, false);
        let token = manager.log_in(&password);
        let audit = answer(&["--json", "--server", &url, "--token", &token, "audit", "list"]).to_string();
        assert!(audit.contains("backups:create") && audit.contains("backups:restore"), "{audit}");
    }
    std::fs::write(&file, "something else").unwrap();
    assert!(refused(&["backup", &file, "--check"]).contains("no backup"));
}
