//! Replays captures for the parity script: one line of JSON a job, `sid:count` pairs a line out.
use std::collections::BTreeMap;
use std::io::BufRead;
use std::path::Path;
use std::sync::Arc;

use sakimori_network::{Engine, RuleSet, Settings, capture};

fn main() {
    for line in std::io::stdin().lock().lines() {
        let job: serde_json::Value = serde_json::from_str(&line.unwrap()).unwrap();
        let dir = job["dir"].as_str().unwrap().to_owned();
        let text = |key: &str| job[key].as_str().map(str::to_owned);
        let mut settings = Settings::default();
        if job["ips"] == true {
            settings.prevent();
        }
        let yaml = text("config").and_then(|path| std::fs::read_to_string(path).ok()).unwrap_or_default();
        let set: Vec<(String, String)> = job["set"].as_array().unwrap().iter().map(|pair| { let (a, b) = pair.as_str().unwrap().split_once('=').unwrap(); (a.into(), b.into()) }).collect();
        let given = settings.apply_yaml(&yaml, &set).unwrap_or_default();
        if job["knone"] == true {
            settings.decode.checksums = true;
            settings.stream.checksums = false;
        }
        let read = |path: &str| -> Option<String> {
            std::fs::read(Path::new(&dir).join(path)).ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        };
        settings.load.classification = std::fs::read_to_string("/etc/suricata/classification.config").unwrap_or_default();
        if let Some(path) = given.threshold_file { settings.load.thresholds = read(&path).unwrap_or_default(); }
        let rules = text("rules").map(|path| String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()).unwrap_or_default();
        let set = RuleSet::load(&[("rules", &rules)], &settings.load, &read);
        for refused in &set.refused { eprintln!("{}: line {}: {}", job["case"], refused.line, refused.reason); }
        let set = Arc::new(set);
        let mut engine = Engine::new(settings, set);
        let file = std::fs::read(text("pcap").unwrap()).unwrap_or_default();
        let mut alerts = Vec::new();
        let mut number = 0;
        if let Ok(frames) = capture::frames(&file) {
            for frame in frames.flatten() { number += 1; engine.frame(&frame, number, &mut alerts); }
        }
        engine.finish(&mut alerts);
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for alert in &alerts {
            let key = if alert.rule.gid == 1 { alert.rule.sid.to_string() } else { format!("{}/{}", alert.rule.gid, alert.rule.sid) };
            *counts.entry(key).or_default() += 1;
        }
        let list: Vec<String> = counts.iter().map(|(sid, count)| format!("{sid}:{count}")).collect();
        println!("{}\t{}", job["case"].as_str().unwrap(), list.join(" "));
        if std::env::var("SHOW").is_ok() { for alert in &alerts { println!("  sid {} packet {} {} tx {:?}", alert.rule.sid, alert.packet, if alert.to_server {"->"} else {"<-"}, alert.tx); } }
    }
}
