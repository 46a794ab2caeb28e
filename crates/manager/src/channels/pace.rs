//! How often a channel is spoken to: so many messages at once, then so many a minute, and not at all while its receiver asked
//! to be left alone. Pure: time comes in.

use sakimori_model::Timestamp;

/// Longest rest that a receiver is given, in seconds, whatever it asks for.
const LONGEST: u64 = 3_600;

/// One channel's bucket.
#[derive(Clone, Debug)]
pub struct Pace {
    burst: i64,
    per_minute: i64,
    /// Millionths of a message.
    level: i64,
    at: Timestamp,
    rests_until: Option<Timestamp>,
}

impl Pace {
    /// A full bucket.
    pub fn new((burst, per_minute): (u32, u32), now: Timestamp) -> Self {
        let burst = i64::from(burst.max(1));
        Self { burst, per_minute: i64::from(per_minute.max(1)), level: burst * 1_000_000, at: now, rests_until: None }
    }

    /// May a message be sent now? It counts as sent then. Else the moment from which asking again is worth it.
    pub fn take(&mut self, now: Timestamp) -> Result<(), Timestamp> {
        if let Some(until) = self.rests_until.filter(|until| *until > now) {
            return Err(until);
        }
        // A clock that was set back gives nothing and takes nothing.
        let passed = now.since(self.at).max(0).min(86_400_000_000);
        let more = passed.saturating_mul(self.per_minute) / 60;
        if more > 0 || passed == 0 {
            self.level = (self.level + more).min(self.burst * 1_000_000);
            self.at = now;
        }
        if self.level < 1_000_000 {
            let missing = (1_000_000 - self.level).saturating_mul(60) / self.per_minute + 1;
            return Err(now.plus_micros(missing));
        }
        self.level -= 1_000_000;
        Ok(())
    }

    /// The receiver asked to be left alone for so many seconds.
    pub fn rest(&mut self, seconds: u64, now: Timestamp) {
        let until = now.plus_secs(i64::try_from(seconds.min(LONGEST)).unwrap_or_default());
        self.rests_until = Some(self.rests_until.map_or(until, |known| known.max(until)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_so_many_a_minute_and_none_while_it_rests() {
        let at = |seconds: i64| Timestamp::from_secs(1_000 + seconds);
        let mut pace = Pace::new((3, 60), at(0));
        let sent = |pace: &mut Pace, second: i64| (0..100).take_while(|_| pace.take(at(second)).is_ok()).count();
        assert_eq!(sent(&mut pace, 0), 3);
        let next = pace.take(at(0)).unwrap_err();
        assert!(next > at(0) && next <= at(2), "{next}");
        assert_eq!((sent(&mut pace, 2), sent(&mut pace, 3), sent(&mut pace, 500)), (2, 1, 3));
        pace.rest(30, at(600));
        pace.rest(5, at(600));
        assert_eq!(pace.take(at(629)), Err(at(630)));
        assert_eq!(sent(&mut pace, 630), 3);
        pace.rest(u64::MAX, at(700));
        assert_eq!(pace.take(at(701)), Err(at(700 + 3_600)));
        let mut back = Pace::new((1, 60), at(100));
        assert_eq!((sent(&mut back, 100), sent(&mut back, 50), sent(&mut back, 102)), (1, 0, 1));
    }
}
