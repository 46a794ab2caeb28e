//! How log sources are doing: how fast they speak, how late, how much of it cannot be read, and whether one went quiet. Pure.

/// Seconds of the span by which rates are told.
pub const RECENT: i64 = 3_600;
/// Seconds of the span before it, by which it is told what is usual.
pub const USUAL: i64 = 24 * 3_600;
/// Least events of the usual span of a source that can be called quiet: one that speaks rarely is not quiet.
const LEAST: u64 = 12;
/// A source is quiet after so many of its usual gaps.
const GAPS: f64 = 20.0;
/// And not before so many seconds.
const SOONEST: i64 = 600;

/// What was counted of a source on a host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Events of the recent span.
    pub recent: u64,
    /// Events of the span before it.
    pub usual: u64,
    /// Events of the recent span that the source's program could not read.
    pub unread: u64,
    /// Seconds since its last event; `None` where it never said anything in either span.
    pub silent_for: Option<i64>,
}

/// How it is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It speaks, or is not expected to.
    Well,
    /// Some of it cannot be read.
    Unread,
    /// It was talking and is silent.
    Quiet,
    /// Nothing is known of it.
    Unknown,
}

impl Health {
    /// As JSON has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Well => "well",
            Self::Unread => "unread",
            Self::Quiet => "quiet",
            Self::Unknown => "unknown",
        }
    }
}

/// Judges a source.
pub fn judge(counted: &Counted) -> Health {
    let Some(silent) = counted.silent_for else { return Health::Unknown };
    if counted.usual >= LEAST {
        let gap = USUAL as f64 / counted.usual as f64;
        if silent >= SOONEST && silent as f64 > gap * GAPS {
            return Health::Quiet;
        }
    }
    // One line in a hundred is a flaw of the source's program, or of who writes there.
    if counted.unread * 100 > counted.recent { Health::Unread } else { Health::Well }
}

/// Events a second of the recent span.
pub fn rate(counted: &Counted) -> f64 {
    counted.recent as f64 / RECENT as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quiet_is_who_was_talking() {
        let health = |recent, usual, unread, silent_for| judge(&Counted { recent, usual, unread, silent_for });
        assert_eq!(health(0, 0, 0, None), Health::Unknown);
        assert_eq!(health(60, 1_440, 0, Some(30)), Health::Well);
        // A line a minute: twenty gaps are twenty minutes.
        assert_eq!(health(40, 1_440, 0, Some(1_199)), Health::Well);
        assert_eq!(health(40, 1_440, 0, Some(1_201)), Health::Quiet);
        assert_eq!(health(0, 100_000, 0, Some(599)), Health::Well, "never before ten minutes");
        assert_eq!(health(0, 100_000, 0, Some(600)), Health::Quiet);
        assert_eq!(health(0, 11, 0, Some(86_000)), Health::Well, "it speaks rarely");
        assert_eq!(health(1_000, 24_000, 10, Some(1)), Health::Well);
        assert_eq!(health(1_000, 24_000, 11, Some(1)), Health::Unread);
        assert!((rate(&Counted { recent: 7_200, ..Counted::default() }) - 2.0).abs() < 1e-9);
    }
}
