//! The guide of the first day, command by command: what it says is run in its order, each where it says.

use std::fs;
use std::path::{Path, PathBuf};

use crate::machine::{Debian, tree};

/// Where, and what, of one language's guide.
fn steps(name: &str) -> Vec<(String, String)> {
    let text = fs::read_to_string(tree().join("docs/guides").join(name)).unwrap();
    let mut found = Vec::new();
    let mut rest = text.as_str();
    while let Some((_, after)) = rest.split_once("```sh ") {
        let (fence, after) = after.split_once("```").expect("a fence ends");
        let (place, commands) = fence.split_once('\n').unwrap();
        found.push((place.to_owned(), commands.to_owned()));
        rest = after;
    }
    found
}

#[test]
fn both_languages_say_the_same_commands_and_none_is_outside_of_a_fence_that_is_run() {
    let steps_en = steps("first-day.md");
    assert_eq!(steps_en, steps("first-day.ja.md"));
    assert!(steps_en.len() >= 12);
    for (place, _) in &steps_en {
        assert!(["manager", "host", "attacker"].contains(&place.as_str()), "{place}");
    }
    for name in ["first-day.md", "first-day.ja.md"] {
        let text = fs::read_to_string(tree().join("docs/guides").join(name)).unwrap();
        assert_eq!(text.matches("```").count(), 2 * steps_en.len(), "{name} has a fence that nobody runs");
    }
}

#[test]
fn a_newcomer_walks_through_the_guide() {
    let Some(mut debian) = Debian::boot() else { return };
    // What came before the guide: `make up`, on its usual addresses of the manager's machine.
    debian.on_manager("sakimori up --no-proof");
    // From here on, they are where the guide has them installed.
    debian.commands = debian.prefix().join("bin");
    // Written where the guide's commands are typed, which is this tree.
    let token = Gone(tree().join("web.token"));
    for (place, commands) in steps("first-day.md") {
        if place == "host" && commands.contains("dpkg --install") {
            copied(&debian, &token.0);
        }
        println!("{place}$ {}", commands.trim());
        let out = match place.as_str() {
            "host" => debian.host(&commands),
            "attacker" => debian.attacker(&commands),
            _ => debian.manager(&commands),
        };
        assert!(out.status.success(), "{commands}\n{out:#?}\nthe host's journal:\n{}", debian.journal());
        println!("{}", String::from_utf8_lossy(&out.stdout).trim());
    }
    assert!(!debian.ruleset().contains("sakimori"), "{}", debian.ruleset());
    assert!(!token.0.exists());
    debian.wait("nothing of it runs", |debian| !debian.host("pgrep -af '^(/usr/bin/)?sakimori-'").status.success());
}

/// A file that does not outlast the test, whatever becomes of it.
struct Gone(PathBuf);

impl Drop for Gone {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// The step that the guide leaves to the reader.
fn copied(debian: &Debian, token: &Path) {
    let folder = debian.dir.path().join("cache/sakimori/deb");
    let package = fs::read_dir(folder).unwrap().next().unwrap().unwrap().path();
    let name = package.file_name().unwrap().to_str().unwrap();
    debian.file_on_host(&format!("/root/{name}"), fs::read(&package).unwrap(), 0o644);
    debian.file_on_host("/root/web.token", fs::read(token).unwrap(), 0o600);
}
