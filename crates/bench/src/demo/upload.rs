//! He uploads malware: the test file and a harmless script that our own rule for web shells matches. Nobody can open or
//! run them, both are quarantined, one comes back exactly as it was.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::field;
use super::table::{Line, Played, Told};
use super::undo::took;
use crate::api::wait;
use crate::platform::{PATIENCE, Platform};
use crate::story::{UPLOADER, World};

/// The industry's harmless test file, in pieces, so that no scanner takes this source for it.
fn eicar() -> Vec<u8> {
    ["X5O!P%@AP[4\\PZX54(P^)7CC)7}$", "EICAR-STANDARD-ANTIVIRUS-TEST-FILE", "!$H+H*"].concat().into_bytes()
}

/// Does nothing, and looks like what runs whatever is sent to it.
fn shell() -> Vec<u8> {
    ["#!/bin/sh\n# <?php ev", "al($_PO", "ST['nothing']); ?>\necho it ran\n"].concat().into_bytes()
}

/// Plays it.
pub fn uploaded(world: &World, platform: &Platform, told: &mut Told) -> Result<()> {
    let lines = &mut told.lines;
    let step = "7 malware is uploaded";
    wait("malware protection is on", PATIENCE, || {
        let status = platform.agent_status().unwrap_or_default();
        crate::api::items(&serde_json::json!({"items": status.get("modules")}))
            .iter()
            .any(|one| field(one, "/id") == "antimalware" && field(one, "/state") == "on")
    })?;
    world.upload(UPLOADER, "index.txt", b"a harmless page\n")?;
    if world.get("/upload/index.txt")? != (200, b"a harmless page\n".to_vec()) {
        bail!("a harmless upload is not served");
    }
    let began = Instant::now();
    world.upload(UPLOADER, "eicar.com", &eicar())?;
    world.upload(UPLOADER, "avatar.php", &shell())?;
    for (name, content) in [("eicar.com", eicar()), ("avatar.php", shell())] {
        let (status, body) = world.get(&format!("/upload/{name}"))?;
        if status == 200 || body.windows(content.len()).any(|part| part == content) {
            bail!("{name} was served after it was uploaded: status {status}");
        }
    }
    let script = world.web_root().join("upload/avatar.php");
    if Command::new("sh").arg(&script).output()?.status.success() || std::fs::read(&script).is_ok() {
        bail!("the script could be run");
    }
    lines.push(Line {
        step,
        seen: "the kernel asks before each open".into(),
        answered: "nobody can open or run it".into(),
        took: began.elapsed(),
    });
    wait("both are in quarantine", PATIENCE, || {
        held(platform, "eicar.com").is_some() && held(platform, "avatar.php").is_some()
    })?;
    if script.exists() {
        bail!("the script is still there");
    }
    lines.push(Line { step, seen: "host playbook".into(), answered: "quarantine".into(), took: began.elapsed() });
    wait("the alerts are in the lake", PATIENCE, || {
        ["eicar-test-file", "webshell-php-eval-request"].iter().all(|rule| {
            platform.api.search(&format!("event.kind:alert and rule.id:{rule}")).is_ok_and(|found| !found.is_empty())
        })
    })?;
    lines.push(Line {
        step,
        seen: "alert: file, hash, process".into(),
        answered: "lake".into(),
        took: began.elapsed(),
    });
    given_back(platform, &script, told)
}

/// The action that has this file in quarantine, as the manager knows it. nginx writes an upload under a longer name
/// first, and may be found doing so.
fn held(platform: &Platform, name: &str) -> Option<Value> {
    platform.api.actions().ok()?.into_iter().find(|action| {
        field(action, "/order/action") == "quarantine_file"
            && field(action, "/order/target/file").contains(name)
            && field(action, "/state") == "done"
    })
}

fn given_back(platform: &Platform, script: &Path, told: &mut Told) -> Result<()> {
    let step = "7 one is given back";
    let action = held(platform, "avatar.php").context("the script's action")?;
    let done = took(&action)?;
    let began = Instant::now();
    platform.api.call("POST", &format!("/api/v1/actions/{}/undo", field(&action, "/order/id")), None)?;
    wait("the script is back", PATIENCE, || script.exists())?;
    let undone = began.elapsed();
    if std::fs::read(script)? != shell() {
        bail!("the script came back otherwise than it was");
    }
    let item = held(platform, "eicar.com").context("the test file's action")?;
    let out = platform.agent_command(&["quarantine", "delete", field(&item, "/former")])?.output()?;
    if !out.status.success() {
        bail!("delete it from quarantine: {}", String::from_utf8_lossy(&out.stderr));
    }
    let (playbook, changed) = ("quarantine-malware", "the file, out of its folder".to_owned());
    told.played.push(Played { playbook, step, changed, done, undone, equal: "the same bytes".into() });
    told.lines.push(Line {
        step,
        seen: "a person, at the manager".into(),
        answered: "the same bytes, and left alone".into(),
        took: began.elapsed(),
    });
    Ok(())
}
