//! Open windows as bytes, for a restart: after it, the events that came since are fed again.
//!
//! The form belongs to one version of the engine ([`ENGINE`]); another one's is refused, and the caller replays
//! the longest window instead (D8). Windows of a rule that is gone, or that was changed (it or one that it
//! counts), are dropped and counted; those of all others go on.

use serde::{Deserialize, Serialize};

use crate::detector::Detector;
use crate::options::Counters;
use crate::window::Window;

/// Version of windows and of what they mean.
pub const ENGINE: u32 = 2;
/// What a snapshot begins with.
const MAGIC: &[u8; 4] = b"SKDW";

/// A snapshot that cannot be taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// It was written by another version of the engine.
    #[error("restore detection state: it is of engine version {found}, this is {ENGINE}; replay the events instead")]
    Incompatible {
        /// Of the snapshot.
        found: u32,
    },
    /// It is none, or is damaged.
    #[error("restore detection state: it is damaged ({0}); replay the events instead")]
    Damaged(String),
}

#[derive(Serialize)]
struct Written<'a> {
    correlations: Vec<WrittenCorrelation<'a>>,
    totals: [u64; 5],
}

#[derive(Serialize)]
struct WrittenCorrelation<'a> {
    id: &'a str,
    definition: [u8; 32],
    added: u64,
    tenants: Vec<(&'a str, Vec<(&'a str, &'a Window)>)>,
}

#[derive(Deserialize)]
struct Read {
    correlations: Vec<ReadCorrelation>,
    totals: [u64; 5],
}

#[derive(Deserialize)]
struct ReadCorrelation {
    id: String,
    definition: [u8; 32],
    added: u64,
    tenants: Vec<(String, Vec<(String, Window)>)>,
}

impl Detector {
    /// The open windows. Two detectors that were fed the same give the same bytes.
    pub fn snapshot(&self) -> Vec<u8> {
        let Counters { events, evaluated, alerts, evicted_groups, dropped_groups, .. } = self.counters;
        let written = Written {
            correlations: self
                .correlations
                .iter()
                .map(|one| WrittenCorrelation {
                    id: &one.meta.info.id,
                    definition: one.definition,
                    added: one.added() as u64,
                    tenants: one.windows(),
                })
                .collect(),
            totals: [events, evaluated, alerts, evicted_groups, dropped_groups],
        };
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&ENGINE.to_be_bytes());
        postcard::to_extend(&written, bytes).expect("windows hold nothing that cannot be written")
    }

    /// Takes the windows of a snapshot in the place of its own.
    ///
    /// # Errors
    /// [`RestoreError`]; nothing is changed then.
    pub fn restore(&mut self, bytes: &[u8]) -> Result<(), RestoreError> {
        let damaged = |reason: &str| RestoreError::Damaged(reason.to_owned());
        let rest = bytes.strip_prefix(MAGIC).ok_or_else(|| damaged("it is no snapshot"))?;
        let (version, rest) = rest.split_first_chunk::<4>().ok_or_else(|| damaged("it is cut off"))?;
        let found = u32::from_be_bytes(*version);
        if found != ENGINE {
            return Err(RestoreError::Incompatible { found });
        }
        let read: Read = postcard::from_bytes(rest).map_err(|error| RestoreError::Damaged(error.to_string()))?;
        let [events, evaluated, alerts, evicted_groups, dropped_groups] = read.totals;
        self.counters = Counters { events, evaluated, alerts, evicted_groups, dropped_groups, open_groups: 0 };
        for correlation in &mut self.correlations {
            correlation.set_windows(Vec::new(), 0);
        }
        for one in read.correlations {
            let own = self.correlations.iter_mut().find(|own| own.meta.info.id == one.id);
            match own.filter(|own| own.definition == one.definition) {
                Some(own) => own.set_windows(one.tenants, usize::try_from(one.added).unwrap_or(usize::MAX)),
                None => {
                    self.counters.dropped_groups +=
                        one.tenants.iter().map(|(_, groups)| groups.len() as u64).sum::<u64>()
                }
            }
        }
        Ok(())
    }
}
