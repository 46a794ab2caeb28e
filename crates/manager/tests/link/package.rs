//! The command that the console shows for a new host, as a shell runs it: the package comes over the agents' channel, and nothing
//! else than what the command names is installed.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use sakimori_manager::package;
use sakimori_sys::harness;
use serde_json::{Value, json};

use crate::agent::World;

/// A folder with a `sudo` that only writes down what it was to do.
fn stub() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let sudo = folder.path().join("sudo");
    harness::program(&sudo, b"#!/bin/sh\necho \"$*\" >> \"$DONE\"\n[ \"$3\" != - ] || cat >> \"$DONE\"\n").unwrap();
    folder
}

/// Pastes it into a shell; what root did is in `done`.
async fn paste(made: &Value, stub: &Path) -> (Output, String) {
    let lines: Vec<&str> = made["commands"].as_array().unwrap().iter().map(|line| line.as_str().unwrap()).collect();
    let (done, script) = (stub.join("done"), lines.join("\n"));
    let _ = fs::remove_file(&done);
    let path = format!("{}:{}", stub.display(), std::env::var("PATH").unwrap_or_default());
    let mut command = Command::new("bash");
    command.args(["-c", &script]).env("PATH", path).env("DONE", &done).env("TMPDIR", stub);
    let out = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    (out, fs::read_to_string(done).unwrap_or_default())
}

#[test]
fn the_command_of_the_console_brings_the_package_to_a_host() {
    let curl = Command::new("curl").arg("--version").output().is_ok_and(|out| out.status.success());
    if !harness::needs(curl, "curl") {
        return;
    }
    let world = World::new();
    let (packages, stub) = (tempfile::tempdir().unwrap(), stub());
    world.run(async {
        let folder = packages.path().to_owned();
        let manager = world.start_with(|config| config.link.packages = Some(folder)).await;
        let none = world.post(&manager, "/api/v1/enrolment-tokens", json!({"name": "before"})).await;
        let file = packages.path().join(package::name());
        assert_eq!((&none["package"], none["commands"].as_array().unwrap().len()), (&Value::Null, 2));
        assert_eq!(none["package_wanted"], json!(file));

        let content: Vec<u8> = (0..3_000_000_u32).map(|n| u8::try_from(n % 251).unwrap()).collect();
        fs::write(&file, &content).unwrap();
        let made = world.post(&manager, "/api/v1/enrolment-tokens", json!({"name": "web-1"})).await;
        assert_eq!((&made["package"]["name"], &made["package"]["bytes"]), (&json!(package::name()), &json!(3_000_000)));
        let (out, done) = paste(&made, stub.path()).await;
        assert!(out.status.success(), "{out:?}");
        let token = made["token"].as_str().unwrap();
        assert_eq!(done, format!("dpkg --install {}\nsakimori-agent enroll -\n{token}", package::name()));

        // Another file than the one that was named when the token was made.
        fs::write(&file, &content[1..]).unwrap();
        let (out, done) = paste(&made, stub.path()).await;
        assert_eq!((out.status.success(), done.as_str()), (false, ""), "{out:?}");
        assert!(String::from_utf8_lossy(&out.stdout).contains("FAILED"), "{out:?}");

        // A token that was taken back opens nothing.
        fs::write(&file, &content).unwrap();
        let id = made["enrolment"]["id"].as_str().unwrap();
        world.delete(&manager, &format!("/api/v1/enrolment-tokens/{id}")).await;
        let (out, done) = paste(&made, stub.path()).await;
        assert_eq!((out.status.success(), done.as_str()), (false, ""), "{out:?}");
        assert!(String::from_utf8_lossy(&out.stderr).contains("401"), "{out:?}");
        manager.stop().await;
    });
}

#[test]
fn another_managers_channel_gives_nothing() {
    if !harness::needs(Command::new("curl").arg("--version").output().is_ok(), "curl") {
        return;
    }
    let (world, other) = (World::new(), World::new());
    let (packages, stub) = (tempfile::tempdir().unwrap(), stub());
    fs::write(packages.path().join(package::name()), "package").unwrap();
    world.run(async {
        let folder = packages.path().to_owned();
        let manager = world.start_with(|config| config.link.packages = Some(folder)).await;
        let stranger = other.start().await;
        let mut made = world.post(&manager, "/api/v1/enrolment-tokens", json!({"name": "web-1"})).await;
        let (own, others) = (manager.link_addr.to_string(), stranger.link_addr.to_string());
        let text = made["commands"].to_string().replace(&format!("https://{own}"), &format!("https://{others}"));
        made["commands"] = serde_json::from_str(&text).unwrap();
        let (out, done) = paste(&made, stub.path()).await;
        assert_eq!((out.status.success(), done.as_str()), (false, ""), "{out:?}");
        // curl's own: the handshake failed, or the certificate is nobody's that it knows. Which of them is OpenSSL's affair.
        assert!(matches!(out.status.code(), Some(35 | 60)), "it is not told the token: {out:?}");
        manager.stop().await;
        stranger.stop().await;
    });
}
