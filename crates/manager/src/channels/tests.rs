//! The catalog as a whole, what is refused when a channel is configured, and secrets in answers.

use super::*;

fn channel(kind: &str) -> Channel {
    Channel { name: "ops".into(), kind: kind.into(), ..Channel::default() }
}

#[test]
fn kinds_are_complete_and_slugs_unique() {
    for (at, kind) in CATALOG.iter().enumerate() {
        assert_eq!(CATALOG.iter().position(|other| other.id == kind.id), Some(at));
        assert!(!kind.about.is_empty() && kind.rate.0 > 0 && kind.rate.1 > 0, "{}", kind.id);
        // A bus is told by another event that it is over, which a repeat of is marked as one.
        let closes_once = kind.safety == Safety::Keyed || kind.id == event_bridge::KIND.id;
        assert!(kind.safety != Safety::Converge && (!kind.closes || closes_once), "{}", kind.id);
        for setting in kind.settings {
            assert!(!setting.about.is_empty(), "{}.{}", kind.id, setting.name);
        }
    }
    assert!(find("fax").is_none());
}

#[test]
fn the_rights_of_findings_reach_no_further_than_what_they_are_about() {
    use sakimori_respond::reach;
    use std::collections::BTreeSet;
    let used: BTreeSet<&str> =
        CATALOG.iter().filter_map(|kind| kind.findings).flat_map(|one| one.rights).copied().collect();
    assert_eq!(used, reach::FINDINGS.iter().copied().collect());
    assert!(used.iter().all(|right| reach::kinds(right).is_some()), "none of them on all that there is");
}

#[test]
fn what_is_missing_or_has_no_meaning_is_named() {
    let wrong = |channel: Channel| check(&channel).err().unwrap_or_default();
    let jira = Channel { url: "https://a.example".into(), secret: Some("s".into()), ..channel("jira") };
    let with = |name: &str, value: &str| {
        let mut channel = jira.clone();
        channel.settings.insert(name.into(), value.into());
        channel
    };
    assert!(check(&with("project", "SEC")).is_ok());
    assert!(wrong(jira.clone()).contains("settings.project is missing"));
    assert!(wrong(with("projcet", "SEC")).contains("known are: project, issue_type"));
    assert!(wrong(Channel { secret: None, ..with("project", "SEC") }).contains("secret_file is missing: API token"));
    assert!(wrong(Channel { url: String::new(), ..with("project", "SEC") }).contains("url is missing"));
    assert!(wrong(Channel { zone: "Mars".into(), ..with("project", "SEC") }).contains("Asia/Tokyo"));
    assert!(wrong(channel("fax")).contains("known are webhook, slack, teams"));
    assert!(wrong(channel("webhook")).contains("url is missing"));
    assert!(wrong(Channel { url: "https://a.example".into(), ..channel("sns") }).contains("has no url"));
    let both = Channel { secret_file: Some("/x".into()), ..with("project", "SEC") };
    assert!(wrong(both).contains("give one"));
}

#[test]
fn a_configuration_is_checked_as_a_whole_with_its_templates() {
    let dir = tempfile::tempdir().unwrap();
    let hook = |name: &str| Channel { name: name.into(), url: "https://a.example".into(), ..Channel::default() };
    let mut config = Config { notify: vec![hook("a"), hook("b")], ..Config::default() };
    assert_eq!(check_all(&config), Ok(()));
    config.content_dir = Some(dir.path().to_owned());
    std::fs::create_dir_all(dir.path().join("notify/ja")).unwrap();
    std::fs::write(dir.path().join("notify/ja/message.txt"), "x\n{% if %}").unwrap();
    assert!(check_all(&config).is_err_and(|reason| reason.starts_with("notify/ja/message.txt:2: ")));
    config.notify.push(hook("a"));
    assert!(check_all(&config).is_err_and(|reason| reason.contains("two of this name")));
}

#[test]
fn a_secret_is_taken_out_of_what_a_receiver_says() {
    let key = |text: &str| Key(Some(Secret::new(text.as_bytes().to_vec())));
    let hook = "https://hooks.slack.example/services/T000/B000/XXXXXXXXXXXXXXXXXXXXXXXX";
    for said in [hook, "no such hook: XXXXXXXXXXXXXXXXXXXXXXXX"] {
        let left = key(hook).taken_out(said);
        assert!(!left.contains("XXXX") && left.contains("[secret]"), "{left}");
    }
    assert_eq!(key("abcd").taken_out("token abcd is wrong"), "token [secret] is wrong");
    assert_eq!(key("a").taken_out("a b a"), "a b a", "one letter is in every answer");
    assert_eq!(Key::default().taken_out("x"), "x");
}
