//! Packets of alerted flows in a worker: which alerts ask for them, and the way of the files to the supervisor, one at a
//! time. A policy that keeps none costs one look a packet.

use sakimori_model::policy::KeepPackets;
use sakimori_model::{Event, Timestamp};
use sakimori_network::capture::Frame;
use sakimori_network::keep::{KeepLimits, Recorder};
use sakimori_network::{Alert, Engine};
use sakimori_wire::ipc_network::FromNetwork;
use serde_json::json;

use crate::modules::intrusion_prevention::PROBE_RULE;

/// Keeps packets, where the policy says so.
pub struct Keeping {
    lane: String,
    policy: KeepPackets,
    recorder: Option<Recorder>,
    /// A file is on its way.
    sent: bool,
    /// Shed by recorders that were replaced.
    before: u64,
}

impl Keeping {
    /// For the worker of a stream, `network.0`.
    pub fn new(stream: &str, policy: KeepPackets) -> Self {
        let lane: String = stream.chars().filter(char::is_ascii_digit).take(5).collect();
        let mut keeping = Self { lane, policy: KeepPackets::default(), recorder: None, sent: false, before: 0 };
        keeping.change(policy);
        keeping
    }

    /// What came with other rules. Files under way go where how much is kept has changed.
    pub fn change(&mut self, policy: KeepPackets) {
        let usual = KeepPackets { all: self.policy.all, groups: self.policy.groups.clone(), ..policy.clone() };
        let same = usual == self.policy && self.recorder.is_some() == policy.is_on();
        if !same {
            self.before = self.shed();
            self.recorder = policy.is_on().then(|| Recorder::new(limits(&policy), &self.lane));
        }
        self.policy = policy;
    }

    /// A packet that the engine has judged last.
    pub fn packet(&mut self, frame: &Frame<'_>, whole: u32, engine: &Engine) {
        if let Some(recorder) = &mut self.recorder {
            recorder.packet(frame, usize::try_from(whole).unwrap_or(frame.data.len()), engine.last_flow());
        }
    }

    /// An alert, of which the event says where the packets will be.
    pub fn alert(&mut self, alert: &Alert, event: &mut Event) {
        let (Some(recorder), Some(flow)) = (&mut self.recorder, alert.flow) else { return };
        if alert.rule.sid == PROBE_RULE || !self.policy.wants(&alert.rule.group) {
            return;
        }
        if let Some(name) = recorder.keep(alert.rule.sid, flow, alert.time) {
            event.set_path("sakimori.network.capture", json!(name));
        }
    }

    /// The next file, where the one before was taken.
    pub fn due(&mut self, now: impl FnOnce() -> Timestamp) -> Option<FromNetwork> {
        let recorder = self.recorder.as_mut().filter(|_| !self.sent)?;
        let kept = recorder.take(now().micros())?;
        self.sent = true;
        Some(FromNetwork::Packets { name: kept.name, bytes: kept.bytes })
    }

    /// The supervisor has the file that was sent.
    pub fn taken(&mut self) {
        self.sent = false;
    }

    /// Alerted flows whose packets were to be kept and were not.
    pub fn shed(&self) -> u64 {
        self.before + self.recorder.as_ref().map_or(0, |recorder| recorder.shed)
    }
}

fn limits(policy: &KeepPackets) -> KeepLimits {
    let size = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
    KeepLimits {
        snap: size(policy.snap_bytes),
        ring: size(policy.ring_kib) << 10,
        packets: size(policy.packets),
        bytes: size(policy.file_kib) << 10,
        after: i64::from(policy.after_seconds) * 1_000_000,
        files_per_hour: policy.files_per_hour,
    }
}
