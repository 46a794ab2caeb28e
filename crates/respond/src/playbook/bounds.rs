//! What bounds a playbook: how much it may hit in a time, and the hours in which it keeps quiet.

use chrono::{NaiveTime, TimeZone};
use sakimori_model::Timestamp;
use sakimori_model::rule::Text;

use super::step::{Ask, Otherwise};

/// How much a playbook may hit: its blast radius.
#[derive(Clone, Debug)]
pub struct Limits {
    /// So many actions, messages apart, within the time.
    pub most: Option<u32>,
    /// So many of a hundred hosts of the tenant, at least one.
    pub share: Option<u32>,
    /// The time, in seconds.
    pub within_seconds: u64,
    /// Who is asked about one more; where nobody is, it is refused.
    pub ask: Option<Ask>,
}

impl Limits {
    /// May one more be done, after so many, with so many hosts? Else which limit forbids it.
    ///
    /// # Errors
    /// The limit, in a sentence.
    pub fn allow(&self, done: usize, hosts: usize) -> Result<(), String> {
        let within = self.within_seconds;
        if let Some(most) = self.most
            && done >= usize::try_from(most).unwrap_or(usize::MAX)
        {
            return Err(format!(
                "it would be number {} within {within} seconds; the playbook's limit is {most}",
                done + 1
            ));
        }
        if let Some(share) = self.share {
            let most = (hosts * usize::try_from(share).unwrap_or(100) / 100).max(1);
            if done >= most {
                return Err(format!(
                    "it would be number {} within {within} seconds; the playbook's limit is {share} % of {hosts} hosts",
                    done + 1
                ));
            }
        }
        Ok(())
    }
}

/// Hours in which a playbook does not act by itself.
#[derive(Clone, Debug)]
pub struct QuietHours {
    /// They begin, local time.
    pub from: NaiveTime,
    /// They end, local time; before `from` where they last over midnight.
    pub to: NaiveTime,
    /// Where the times are local.
    pub zone: chrono_tz::Tz,
    /// What is done instead.
    pub then: Quiet,
}

/// What is done in quiet hours.
#[derive(Clone, Debug)]
pub enum Quiet {
    /// It begins when they end.
    Wait,
    /// Nothing.
    Skip,
    /// People are asked.
    Ask(Ask),
}

impl QuietHours {
    /// When the quiet hours end that this moment lies in; `None` outside of them.
    pub fn until(&self, now: Timestamp) -> Option<Timestamp> {
        let local = self.zone.from_utc_datetime(&now.to_chrono().naive_utc()).naive_local();
        let (time, over_midnight) = (local.time(), self.to <= self.from);
        let inside = match over_midnight {
            true => time >= self.from || time < self.to,
            false => time >= self.from && time < self.to,
        };
        if !inside {
            return None;
        }
        let day = if over_midnight && time >= self.from { local.date().succ_opt()? } else { local.date() };
        let mut end = day.and_time(self.to);
        // In an hour that clocks leave out: the first moment after it.
        for _ in 0..(26 * 4) {
            if let Some(end) = self.zone.from_local_datetime(&end).latest() {
                return Some(Timestamp::from_micros(end.timestamp_micros()));
            }
            end += chrono::TimeDelta::minutes(15);
        }
        None
    }
}

/// The question about one more than a limit allows, or about acting in quiet hours.
pub(super) fn question(channel: String, within_seconds: u64, en: &str, ja: &str) -> Ask {
    let text = Text { en: en.to_owned(), ja: ja.to_owned() };
    Ask { channel, within_seconds, otherwise: Otherwise::Deny, persons: 1, text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse::<chrono::DateTime<chrono::Utc>>().unwrap().into()
    }

    #[test]
    fn quiet_hours_last_over_midnight_and_over_a_change_of_clocks() {
        let time = |text: &str| NaiveTime::parse_from_str(text, "%H:%M").unwrap();
        let hours = |from, to, zone| QuietHours { from: time(from), to: time(to), zone, then: Quiet::Skip };
        let tokyo = hours("22:00", "07:00", chrono_tz::Asia::Tokyo);
        assert_eq!(tokyo.until(at("2026-11-26T12:59:59Z")), None);
        assert_eq!(tokyo.until(at("2026-11-26T13:00:00Z")), Some(at("2026-11-26T22:00:00Z")));
        assert_eq!(tokyo.until(at("2026-11-26T21:59:00Z")), Some(at("2026-11-26T22:00:00Z")));
        assert_eq!(tokyo.until(at("2026-11-26T22:00:00Z")), None);
        // 02:30 is left out in the night of 29 March 2026 there.
        let berlin = hours("01:00", "02:30", chrono_tz::Europe::Berlin);
        assert_eq!(berlin.until(at("2026-03-29T00:30:00Z")), Some(at("2026-03-29T01:00:00Z")));
        let noon = hours("12:00", "13:00", chrono_tz::UTC);
        assert_eq!((noon.until(at("2026-01-01T11:59:00Z")), noon.until(at("2026-01-01T13:00:00Z"))), (None, None));
    }

    #[test]
    fn limits_count_and_share() {
        let limits = |most, share| Limits { most, share, within_seconds: 3600, ask: None };
        assert!(limits(Some(2), None).allow(1, 0).is_ok());
        assert!(limits(Some(2), None).allow(2, 0).unwrap_err().contains("number 3"));
        assert!(limits(None, Some(20)).allow(1, 10).is_ok());
        assert!(limits(None, Some(20)).allow(2, 10).is_err());
        assert!(limits(None, Some(20)).allow(0, 1).is_ok(), "one is always allowed");
    }
}
