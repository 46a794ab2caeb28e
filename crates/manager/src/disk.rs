//! Room on the disk: below a share of it nothing new is taken (D7), since a journal that ends at the last block
//! would take the control state with it, and compaction needs room to make some.

use std::time::{Duration, Instant};

use crate::shared::Shared;

/// Whatever the share is, so many bytes are needed.
const FLOOR: u64 = 256 << 20;
/// How often ingest looks.
const EVERY: Duration = Duration::from_secs(1);

/// Why nothing new is taken, where there is too little room.
pub fn no_room(shared: &Shared) -> Option<String> {
    let percent = u64::from(shared.config.lake.least_free_percent.min(100));
    match shared.lake.status() {
        Ok(status) => missing(status.disk_free, status.disk_size, percent),
        Err(error) => Some(error.to_string()),
    }
}

fn missing(free: u64, size: u64, percent: u64) -> Option<String> {
    let needed = (size / 100 * percent).max(FLOOR);
    (free < needed).then(|| {
        format!(
            "{} MiB are free below state_dir and {} are needed ({percent} % of the disk); free some, give it a larger \
             disk, or lower lake.retention_days or lake.least_free_percent",
            free >> 20,
            needed >> 20
        )
    })
}

/// Looks once a second, however many batches come.
#[derive(Debug, Default)]
pub struct Watch {
    looked: Option<Instant>,
    full: Option<String>,
}

impl Watch {
    /// As [`no_room`], at most a second old.
    pub fn full(&mut self, shared: &Shared) -> Option<&str> {
        if self.looked.is_none_or(|at| at.elapsed() >= EVERY) {
            self.looked = Some(Instant::now());
            let full = no_room(shared);
            match (&self.full, &full) {
                (None, Some(reason)) => tracing::error!(reason, "nothing new is taken"),
                (Some(_), None) => tracing::info!("there is room on the disk again"),
                _ => {}
            }
            self.full = full;
        }
        self.full.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_the_disk_stays_free() {
        let (gib, size) = (1_u64 << 30, 100_u64 << 30);
        assert_eq!(missing(10 * gib, size, 10), None);
        let reason = missing(10 * gib - 1, size, 10).unwrap();
        assert!(reason.starts_with("10239 MiB are free") && reason.contains("10240 are needed (10 %"), "{reason}");
        assert_eq!(missing(FLOOR, size, 0), None);
        assert!(missing(FLOOR - 1, size, 0).is_some(), "a little is needed always");
    }
}
