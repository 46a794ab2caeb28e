//! `backup` and `restore` as a user runs them, against a manager in a process of its own.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::io::{BufRead, BufReader, Write};
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

/// The same with this on standard input.
fn fed(arguments: &[&str], input: &[u8]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sakimori"));
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
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
    let key = text(&at("seal.key").canonicalize().unwrap());
    assert_eq!(made["key_file"], json!(key));
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
    // On a machine without the key, and with it.
    std::fs::remove_dir_all(&state).unwrap();
    std::fs::rename(&key, at("safe.key")).unwrap();
    let without = refused(&["restore", &file, "--config", &config_name]);
    assert!(without.contains("--key FILE") && without.contains(&key) && !state.exists(), "{without}");
    let safe = text(&at("safe.key"));
    let restored = answer(&["--json", "restore", &file, "--config", &config_name, "--key", &safe]);
    assert_eq!(restored["key_file"], json!(key));
    assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    let manager = Manager::start(&config, &url, false);
    manager.log_in(&password);
    drop(manager);
    std::fs::write(&file, "something else").unwrap();
    assert!(refused(&["backup", &file, "--check"]).contains("no backup"));
}

#[test]
fn secrets_are_set_and_listed_the_key_is_rotated_and_the_doctor_says_where_it_lies() {
    let dir = tempfile::tempdir().unwrap();
    let (api, config, state) = (free(), dir.path().join("manager.toml"), dir.path().display().to_string());
    let written = format!(
        "state_dir = \"{state}/manager\"\n[api]\nlisten = \"{api}\"\n[link]\nlisten = \"{}\"\n[[notify]]\n\
         name = \"ops\"\nurl = \"http://127.0.0.1:9/\"\nsecret = \"pager\"\n",
        free()
    );
    std::fs::write(&config, written).unwrap();
    let url = format!("http://{api}");
    let manager = Manager::start(&config, &url, true);
    let token = manager.log_in(&manager.first_password.clone().unwrap());
    let with = |rest: &[&'static str]| [&["--server", &url, "--token", &token], rest].concat();
    let asked = |rest: &[&'static str]| answer(&with(&[&["--json"], rest].concat()));

    let value = b"a secret of 1794\n";
    let set = fed(&with(&["secrets", "set", "pager"]), value);
    assert!(set.status.success(), "{}", String::from_utf8_lossy(&set.stderr));
    assert_eq!(String::from_utf8_lossy(&set.stdout).trim(), "pager of the tenant default is set");
    let listed = asked(&["secrets", "list"]);
    assert_eq!((&listed[0]["name"], &listed[0]["used_by"]), (&json!("pager"), &json!(["ops"])));
    let shown = sakimori(&with(&["secrets", "list"]));
    assert!(String::from_utf8_lossy(&shown.stdout).contains("pager") && !listed.to_string().contains("1794"));
    assert!(!fed(&with(&["secrets", "set", "large"]), &vec![b'x'; (64 << 10) + 1]).status.success());

    let key = dir.path().canonicalize().unwrap().join("seal.key");
    let before = asked(&["secrets", "key"]);
    assert_eq!(before["file"], json!(key));
    let rotated = asked(&["secrets", "rotate", "--forget-older"]);
    assert_eq!((&rotated["sealed"], &rotated["sealing"]["older"]), (&json!(4), &json!([])));
    assert_ne!(rotated["sealing"]["key"], before["key"]);
    let doctor = || -> Value {
        let found = sakimori(&["--state", &state, "--json", "doctor"]);
        let found: Vec<Value> = serde_json::from_slice(&found.stdout).unwrap();
        found.into_iter().find(|finding| finding["id"] == "manager/sealing").unwrap()
    };
    let told = doctor();
    assert_eq!(told["health"], "ok");
    assert!(told["found"].as_str().unwrap().contains(rotated["sealing"]["key"].as_str().unwrap()), "{told}");
    // A bundle is built with the manager's own key, sealed as it is.
    let (bundle_key, bundle) = (format!("{state}/manager/bundle.key"), format!("{state}/rules.bundle"));
    answer(&["--state", &state, "--json", "bundle", "build", "--key", &bundle_key, "--number", "77", "--out", &bundle]);
    assert_eq!(answer(&["--server", &url, "--token", &token, "--json", "bundle", "install", &bundle])["number"], 77);

    assert!(sakimori(&with(&["secrets", "delete", "pager"])).status.success());
    assert_eq!(asked(&["secrets", "list"]), json!([]));
    assert!(refused(&with(&["secrets", "delete", "pager"])).contains("no such secret"));
    drop(manager);
    std::fs::remove_file(&key).unwrap();
    let told = doctor();
    assert_eq!(told["health"], "failing", "{told}");
    assert!(
        refused(&["manager", "--config", config.to_str().unwrap()]).contains("is missing; put your copy of it there")
    );
    let made = format!("{state}/new.key");
    answer(&["--json", "secrets", "keygen", &made]);
    assert_eq!(std::fs::metadata(&made).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(refused(&["secrets", "keygen", &made]).contains("File exists"));
}
