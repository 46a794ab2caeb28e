//! What of scans is told: events with their figures, and the answers to who asks.

use std::sync::mpsc::Sender;

use anyhow::Result;
use sakimori_model::policy::Scan;
use sakimori_model::{Event, Value, field};
use sakimori_wire::ipc::Answer;
use sakimori_wire::scans::{ScanAsk, ScanStatus};
use serde_json::json;

use super::kept::{MANUAL, Request};
use crate::supervisor::Supervisor;

impl Supervisor {
    /// Says something about a scan, with its figures.
    pub(super) fn say_of(&mut self, action: &'static str, scan: &ScanStatus, message: String) {
        self.say(action, message, |event| figures(event, scan));
    }

    /// What came of a scan.
    pub(super) fn say_end(&mut self, scan: &ScanStatus) {
        let action = match scan.state.as_str() {
            "finished" => "scan-finished",
            "cancelled" => "scan-cancelled",
            _ => "scan-failed",
        };
        self.say_of(action, scan, in_words(scan));
    }

    /// Answers on the control socket.
    pub(in crate::supervisor) fn answer_scan(&mut self, ask: ScanAsk, reply: &Sender<Answer>) -> Result<()> {
        let outcome = match ask {
            ScanAsk::Status => Ok(String::new()),
            ScanAsk::Start { name, paths, exclude, cpu_percent, report_only, by } => {
                let known = self.policy.policy.modules.antimalware.scans.as_slice();
                let scan = match name {
                    Some(name) => named(known, &name),
                    None => by_hand(&paths, &exclude, cpu_percent, report_only),
                };
                scan.and_then(|scan| self.ask_for(Request::of(&scan, &by)))
            }
            ScanAsk::Pause => self.pause_scan(),
            ScanAsk::Resume => self.resume_scan(),
            ScanAsk::Cancel { id } => self.cancel_scan(id.as_deref(), "a person at the host cancelled it"),
        };
        let _ = reply.send(match outcome {
            Ok(said) => Answer::Scans { scans: Box::new(self.scans.status(self.now())), said },
            Err(reason) => Answer::Failed { reason },
        });
        self.step_scans()
    }
}

/// What came of a scan, in one sentence.
pub(super) fn in_words(scan: &ScanStatus) -> String {
    let counts = &scan.counts;
    let left_out = counts.too_large + counts.failed + counts.unreadable;
    let bundles: Vec<String> = scan.bundles.iter().map(ToString::to_string).collect();
    let mut message = format!(
        "scan {} {}: {} files, {} MiB, {} found, {left_out} not judged, {} left out, with rule bundle {}, in {} s",
        scan.name,
        scan.state,
        counts.files,
        counts.bytes >> 20,
        counts.found,
        counts.excluded,
        bundles.join(" and then "),
        scan.worked_seconds,
    );
    if scan.paused_seconds > 0 {
        message += &format!(" and {} s of pauses", scan.paused_seconds);
    }
    if !scan.detail.is_empty() {
        message += &format!("; {}", scan.detail);
    }
    message
}

fn named(known: &[Scan], name: &str) -> Result<Scan, String> {
    known.iter().find(|scan| scan.name == name).cloned().ok_or_else(|| {
        let names: Vec<&str> = known.iter().map(|scan| scan.name.as_str()).collect();
        match names.is_empty() {
            true => {
                format!("the policy names no scan; write one into modules.antimalware.scans, or name paths ({name})")
            }
            false => format!("the policy names no scan {name}; it names {}", names.join(", ")),
        }
    })
}

/// A scan as a person asks for it, by the same rules as one of the policy.
fn by_hand(paths: &[String], exclude: &[String], cpu_percent: Option<u32>, report_only: bool) -> Result<Scan, String> {
    let mut scan = json!({
        "name": MANUAL, "paths": paths, "exclude": { "paths": exclude }, "network": false,
        "action": if report_only { "report" } else { "quarantine" },
    });
    if let (Some(percent), Some(scan)) = (cpu_percent, scan.as_object_mut()) {
        scan.insert("cpu_percent".into(), percent.into());
    }
    serde_json::from_value(scan)
        .map_err(|error| error.to_string().replace(&format!("modules.antimalware.scans.{MANUAL}."), ""))
}

fn figures(event: &mut Event, scan: &ScanStatus) {
    let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    let list = |texts: &[String]| Value::List(texts.iter().map(|text| text.clone().into()).collect());
    event.set(field::SAKIMORI_MODULE, "antimalware");
    event.set(field::SAKIMORI_SCAN_ID, scan.id.clone());
    event.set(field::SAKIMORI_SCAN_NAME, scan.name.clone());
    event.set(field::SAKIMORI_SCAN_BY, scan.by.clone());
    event.set(field::SAKIMORI_SCAN_PATHS, list(&scan.paths));
    event.set(field::SAKIMORI_SCAN_STATE, scan.state.clone());
    event.set(field::SAKIMORI_SCAN_BUNDLES, Value::List(scan.bundles.iter().map(|one| number(*one).into()).collect()));
    if let Some(newest) = scan.bundles.last() {
        event.set(field::SAKIMORI_DETECT_BUNDLE, number(*newest));
    }
    event.set(field::EVENT_START, scan.began);
    let counts = &scan.counts;
    for (name, value) in [
        (field::SAKIMORI_SCAN_FILES, counts.files),
        (field::SAKIMORI_SCAN_BYTES, counts.bytes),
        (field::SAKIMORI_SCAN_FOUND, counts.found),
        (field::SAKIMORI_SCAN_DISGUISED, counts.disguised),
        (field::SAKIMORI_SCAN_EXCLUDED, counts.excluded),
        (field::SAKIMORI_SCAN_ELSEWHERE, counts.elsewhere),
        (field::SAKIMORI_SCAN_TOO_LARGE, counts.too_large),
        (field::SAKIMORI_SCAN_FAILED, counts.failed),
        (field::SAKIMORI_SCAN_UNREADABLE, counts.unreadable),
        (field::SAKIMORI_SCAN_PAUSED_SECONDS, scan.paused_seconds),
        (field::SAKIMORI_SCAN_CONTINUED, scan.continued),
    ] {
        event.set(name, number(value));
    }
    if let Some(ended) = scan.ended {
        event.set(field::EVENT_END, ended);
        // ECS counts nanoseconds.
        event.set(field::EVENT_DURATION, ended.since(scan.began).max(0).saturating_mul(1_000));
        event.set(field::EVENT_OUTCOME, if scan.state == "failed" { "failure" } else { "success" });
    }
    if !scan.detail.is_empty() {
        event.set(field::EVENT_REASON, scan.detail.clone());
    }
}
