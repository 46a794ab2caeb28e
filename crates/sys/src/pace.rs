//! Whether to look for the next packet without sleep: while they come close together, being woken takes longer than
//! judging one. Where they come now and then, such as the acknowledgements of a long answer, looking again and again would
//! take the processor from those who send them.

use std::time::Duration;

/// How long a side looks again and again before it sleeps. It gives way to whoever else wants the processor.
pub const LINGER: Duration = Duration::from_micros(150);

/// How close together packets come: the mean of the last few waits for one.
#[derive(Debug)]
pub struct Pace(Duration);

impl Pace {
    /// A longer wait counts as one of this.
    const LONG: Duration = LINGER.saturating_mul(4);

    /// A packet came after so long a wait.
    pub fn waited(&mut self, so_long: Duration) {
        self.0 = (self.0 * 3 + so_long.min(Self::LONG)) / 4;
    }

    /// The next one is worth looking for without sleep.
    pub fn is_close(&self) -> bool {
        self.0 < LINGER
    }
}

impl Default for Pace {
    /// None came for long.
    fn default() -> Self {
        Self(Self::LONG)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_close_after_a_few_short_waits_and_no_more_after_one_long_wait_or_some_of_300_microseconds() {
        let after = |waits: &[u64]| {
            let mut pace = Pace::default();
            waits.iter().for_each(|wait| pace.waited(Duration::from_micros(*wait)));
            pace.is_close()
        };
        assert!(!after(&[]) && !after(&[20; 2]) && after(&[20; 8]));
        let then = |last: &[u64]| after(&[&[20; 50], last].concat());
        assert!(then(&[300]) && !then(&[60_000_000]) && !then(&[300; 4]));
        assert!(!after(&[300; 50]));
    }
}
