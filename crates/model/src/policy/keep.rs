//! Packets of alerted flows that are kept on the host.

use serde::{Deserialize, Serialize};

/// Which flows' packets are kept, how much of each, and how much of all. Off where neither all alerts nor a group is
/// named. What is above a most is taken as the most.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KeepPackets {
    /// Of every flow that a rule alerts of.
    pub all: bool,
    /// Of flows that a rule of these groups alerts of.
    pub groups: Vec<String>,
    /// Bytes of each packet, from its IP header on; at most 65,535.
    pub snap_bytes: u32,
    /// Kibibytes of the ring of last packets, in each network worker, from which those before the alert come; at most
    /// 262,144.
    pub ring_kib: u32,
    /// Packets of one file; at most 100,000.
    pub packets: u32,
    /// Kibibytes of one file; at most 8,192.
    pub file_kib: u32,
    /// Seconds after the alert; at most 600.
    pub after_seconds: u32,
    /// Files of one hour; at most 10,000.
    pub files_per_hour: u32,
    /// Mebibytes of all files; the oldest go first. At most 102,400.
    pub total_mib: u32,
}

impl Default for KeepPackets {
    fn default() -> Self {
        Self {
            all: false,
            groups: Vec::new(),
            snap_bytes: 65_535,
            ring_kib: 8_192,
            packets: 1_000,
            file_kib: 1_024,
            after_seconds: 10,
            files_per_hour: 60,
            total_mib: 256,
        }
    }
}

impl KeepPackets {
    /// Is anything kept?
    pub fn is_on(&self) -> bool {
        self.all || !self.groups.is_empty()
    }

    /// Does an alert of a rule of this group ask for it?
    pub fn wants(&self, group: &str) -> bool {
        self.all || self.groups.iter().any(|one| one == group)
    }

    /// The same within the bounds that every setting has.
    #[must_use]
    pub fn bounded(&self) -> Self {
        Self {
            all: self.all,
            groups: self.groups.clone(),
            snap_bytes: self.snap_bytes.clamp(64, 65_535),
            ring_kib: self.ring_kib.min(262_144),
            packets: self.packets.clamp(1, 100_000),
            file_kib: self.file_kib.clamp(1, 8_192),
            after_seconds: self.after_seconds.min(600),
            files_per_hour: self.files_per_hour.min(10_000),
            total_mib: self.total_mib.min(102_400),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn off_unless_asked_for_and_never_without_bounds() {
        let usual = KeepPackets::default();
        assert!(!usual.is_on() && !usual.wants("sql-injection"));
        assert_eq!(usual.bounded(), usual);
        let some = KeepPackets { groups: vec!["exploits".into()], file_kib: u32::MAX, snap_bytes: 0, ..usual };
        assert!(some.is_on() && some.wants("exploits") && !some.wants("scanners"));
        assert_eq!((some.bounded().file_kib, some.bounded().snap_bytes), (8_192, 64));
    }
}
