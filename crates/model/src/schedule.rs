//! A schedule in the five fields of cron: minute, hour, day of the month, month, day of the week.
//!
//! A parser of our own, since the form is small and bounded, and what a crate for it would bring (seconds, years, a parser
//! generator) is neither wanted nor cheap in a program that runs as root. Lists, ranges and steps are read, and names of
//! months and weekdays. As with cron on Debian, a day counts where both of its fields say so if one of them begins with
//! `*`, else where either does.
//!
//! Times are local. What lies in an hour that is left out (clocks put forward) comes at the first moment after it; what
//! lies in an hour that comes twice (put back) comes once, the first time.

use std::fmt;
use std::str::FromStr;

use chrono::{Datelike, MappedLocalTime, NaiveDate, NaiveDateTime, TimeDelta, TimeZone, Timelike};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::time::Timestamp;

/// Longest text, in bytes.
const MAX_TEXT: usize = 200;
/// How far ahead the next time is looked for: 29 February on one weekday may be 40 years away.
const MAX_DAYS: usize = 366 * 41;
/// Longest hole in local time that is looked across, in minutes: zones have left out a day.
const MAX_HOLE: i64 = 2 * 24 * 60;

const MONTHS: &[&str] = &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: &[&str] = &["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
/// Days of each month, in a leap year.
const LENGTHS: [u32; 12] = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

/// When something is to be done, again and again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    text: String,
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Must both the day of the month and that of the week fit?
    both: bool,
}

/// A text that is no schedule.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}; write five fields like \"30 2 * * sun\": minute, hour, day of the month, month, day of the week")]
pub struct NotASchedule(String);

/// One field: its name, what its numbers are, and names for them.
struct Field {
    name: &'static str,
    least: u32,
    most: u32,
    names: &'static [&'static str],
}

const FIELDS: [Field; 5] = [
    Field { name: "minute", least: 0, most: 59, names: &[] },
    Field { name: "hour", least: 0, most: 23, names: &[] },
    Field { name: "day of the month", least: 1, most: 31, names: &[] },
    Field { name: "month", least: 1, most: 12, names: MONTHS },
    // 7 is Sunday too.
    Field { name: "day of the week", least: 0, most: 7, names: WEEKDAYS },
];

impl FromStr for Schedule {
    type Err = NotASchedule;

    fn from_str(text: &str) -> Result<Self, NotASchedule> {
        if text.len() > MAX_TEXT {
            return Err(NotASchedule(format!("it is longer than {MAX_TEXT} characters")));
        }
        let words: Vec<&str> = text.split_whitespace().collect();
        let [minute, hour, day, month, weekday] = words[..] else {
            return Err(NotASchedule(format!("it has {} fields", words.len())));
        };
        let [of_minute, of_hour, of_day, of_month, of_weekday] = &FIELDS;
        let mut weekdays = of_weekday.read(weekday)?;
        weekdays = (weekdays | weekdays >> 7) & 0x7f;
        let schedule = Self {
            text: words.join(" "),
            minutes: of_minute.read(minute)?,
            hours: of_hour.read(hour)?,
            days: of_day.read(day)?,
            months: of_month.read(month)?,
            weekdays,
            both: day.starts_with('*') || weekday.starts_with('*'),
        };
        let has_a_day = (1..)
            .zip(LENGTHS)
            .any(|(month, length)| has(schedule.months, month) && (1..=length).any(|day| has(schedule.days, day)));
        if schedule.both && !has_a_day {
            return Err(NotASchedule("no month of it has such a day".into()));
        }
        Ok(schedule)
    }
}

impl Field {
    /// The numbers of this field that a text names, as bits.
    fn read(&self, text: &str) -> Result<u64, NotASchedule> {
        let mut bits = 0;
        for part in text.split(',') {
            let (range, step) = match part.split_once('/') {
                None => (part, None),
                Some((range, step)) => (range, Some(step)),
            };
            let (first, last) = match range.split_once('-') {
                _ if range == "*" => (self.least, self.most),
                None => {
                    let one = self.number(range)?;
                    (one, one)
                }
                Some((first, last)) => (self.number(first)?, self.number(last)?),
            };
            if first > last {
                return Err(self.wrong(&format!("the range {range} ends before it begins")));
            }
            let step = match step {
                None => 1,
                Some(_) if first == last => return Err(self.wrong("a step follows * or a range, as in */10")),
                Some(step) => match digits(step) {
                    Some(step) if step > 0 && step <= self.most => step,
                    _ => return Err(self.wrong(&format!("a step is 1 to {}", self.most))),
                },
            };
            let mut number = first;
            while number <= last {
                bits |= 1 << number;
                number += step;
            }
        }
        Ok(bits)
    }

    fn number(&self, text: &str) -> Result<u32, NotASchedule> {
        let named = self.names.iter().position(|name| name.eq_ignore_ascii_case(text));
        let named = named.and_then(|at| u32::try_from(at).ok()).map(|at| at + self.least);
        match named.or_else(|| digits(text)) {
            Some(number) if (self.least..=self.most).contains(&number) => Ok(number),
            _ => {
                let text: String = text.chars().take(20).collect();
                Err(self.wrong(&format!("it is {} to {}, found {text:?}", self.least, self.most)))
            }
        }
    }

    fn wrong(&self, what: &str) -> NotASchedule {
        NotASchedule(format!("the {}: {what}", self.name))
    }
}

/// A number of one or two digits.
fn digits(text: &str) -> Option<u32> {
    let fits = (1..=2).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| fits)
}

fn has(bits: u64, number: u32) -> bool {
    bits.checked_shr(number).is_some_and(|bits| bits & 1 == 1)
}

impl Schedule {
    /// The first time of it after this moment, in this zone. `None` only where the calendar ends.
    pub fn next_after<Z: TimeZone>(&self, after: Timestamp, zone: &Z) -> Option<Timestamp> {
        let local = zone.from_utc_datetime(&after.to_chrono().naive_utc()).naive_local();
        let mut date = local.date();
        for number in 0..MAX_DAYS {
            if self.is_day(date) {
                // Of the first day, what is past already was before this moment or at it, see `moment`.
                let from = if number == 0 { local.hour() * 60 + local.minute() + 1 } else { 0 };
                for minute in (from..24 * 60).filter(|minute| self.is_minute(*minute)) {
                    let time = date.and_hms_opt(minute / 60, minute % 60, 0)?;
                    if let Some(found) = moment(time, zone).filter(|found| *found > after) {
                        return Some(found);
                    }
                }
            }
            date = date.succ_opt()?;
        }
        None
    }

    fn is_day(&self, date: NaiveDate) -> bool {
        let day = has(self.days, date.day());
        let weekday = has(self.weekdays, date.weekday().num_days_from_sunday());
        has(self.months, date.month()) && if self.both { day && weekday } else { day || weekday }
    }

    fn is_minute(&self, of_day: u32) -> bool {
        has(self.hours, of_day / 60) && has(self.minutes, of_day % 60)
    }
}

/// When this local time is: the first time where it comes twice, the first moment after the hole where it never comes. A
/// later local time is never an earlier moment.
fn moment<Z: TimeZone>(local: NaiveDateTime, zone: &Z) -> Option<Timestamp> {
    (0..=MAX_HOLE).find_map(|minutes| {
        match zone.from_local_datetime(&local.checked_add_signed(TimeDelta::minutes(minutes))?) {
            MappedLocalTime::Single(time) => Some(Timestamp::from(time)),
            MappedLocalTime::Ambiguous(one, other) => Some(Timestamp::from(one).min(Timestamp::from(other))),
            MappedLocalTime::None => None,
        }
    })
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for Schedule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Schedule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono_tz::Tz;
    use proptest::prelude::*;

    fn schedule(text: &str) -> Schedule {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text).expect("a time")
    }

    fn after(text: &str, moment: &str, zone: Tz) -> String {
        let next = schedule(text).next_after(at(moment), &zone).expect("it comes");
        next.to_chrono().with_timezone(&zone).to_rfc3339()
    }

    #[test]
    fn fields_are_numbers_names_lists_ranges_and_steps() {
        for (text, expected) in [
            ("0 3 * * *", "2026-11-27T03:00:00+00:00"),
            ("*/20 * * * *", "2026-11-26T12:20:00+00:00"),
            ("5-15/5 12,13 * * *", "2026-11-26T12:05:00+00:00"),
            ("0 0 1 JAN *", "2027-01-01T00:00:00+00:00"),
            ("0 0 * * 7", "2026-11-29T00:00:00+00:00"),
            ("0 0 * * mon-fri", "2026-11-27T00:00:00+00:00"),
            ("0 0 29 2 *", "2028-02-29T00:00:00+00:00"),
            // Either day, as neither field begins with a star.
            ("0 0 1 * sun", "2026-11-29T00:00:00+00:00"),
            // Both days.
            ("0 0 */10 * sun", "2027-01-31T00:00:00+00:00"),
        ] {
            assert_eq!(after(text, "2026-11-26T12:00:00Z", Tz::UTC), expected, "{text}");
        }
        assert_eq!(schedule(" 0  3 * * * ").to_string(), "0 3 * * *");
    }

    #[test]
    fn what_is_wrong_is_named_with_what_to_write() {
        for (text, said) in [
            ("", "0 fields"),
            ("@daily", "1 fields"),
            ("0 3 * * * *", "6 fields"),
            ("60 3 * * *", "minute: it is 0 to 59"),
            ("0 24 * * *", "hour: it is 0 to 23"),
            ("0 3 0 * *", "day of the month: it is 1 to 31"),
            ("0 3 * 13 *", "month: it is 1 to 12"),
            ("0 3 * * 8", "day of the week: it is 0 to 7"),
            ("0 3 * * someday", "found \"someday\""),
            ("0 3 31 2,4 *", "no month of it has such a day"),
            ("9-5 3 * * *", "ends before it begins"),
            ("5/10 3 * * *", "a step follows"),
            ("*/0 3 * * *", "a step is 1 to 59"),
            ("*/99 3 * * *", "a step is 1 to 59"),
            ("1, 3 * * *", "minute"),
            ("+1 3 * * *", "minute"),
        ] {
            let error = text.parse::<Schedule>().expect_err(text).to_string();
            assert!(error.contains(said) && error.contains("30 2 * * sun"), "{text}: {error}");
        }
        assert!("* ".repeat(200).parse::<Schedule>().is_err());
    }

    #[test]
    fn an_hour_that_is_left_out_or_comes_twice_costs_no_turn_and_doubles_none() {
        use chrono_tz::Europe::Berlin;
        // 2026-03-29: from 02:00 to 03:00.
        let spring = after("30 2 * * *", "2026-03-28T12:00:00Z", Berlin);
        assert_eq!(spring, "2026-03-29T03:00:00+02:00");
        assert_eq!(after("30 2 * * *", "2026-03-29T01:00:00Z", Berlin), "2026-03-30T02:30:00+02:00");
        // 2026-10-25: from 03:00 to 02:00.
        assert_eq!(after("30 2 * * *", "2026-10-24T12:00:00Z", Berlin), "2026-10-25T02:30:00+02:00");
        assert_eq!(after("30 2 * * *", "2026-10-25T00:30:00Z", Berlin), "2026-10-26T02:30:00+01:00");
        // Samoa had no 30 December 2011.
        let apia = after("0 12 30 12 *", "2011-12-29T23:00:00Z", chrono_tz::Pacific::Apia);
        assert_eq!(apia, "2011-12-31T00:00:00+14:00");
    }

    const ZONES: &[Tz] = &[
        Tz::UTC,
        Tz::Asia__Tokyo,
        Tz::Europe__Berlin,
        Tz::America__New_York,
        Tz::America__Sao_Paulo,
        Tz::Australia__Lord_Howe,
        Tz::Africa__Casablanca,
        Tz::Pacific__Apia,
        Tz::Asia__Kathmandu,
    ];

    /// The turns of a schedule by another way: minute by minute of real time, each local minute counted once, when the
    /// clock first reaches or passes it.
    fn turns(schedule: &Schedule, from: i64, days: i64, zone: Tz) -> Vec<i64> {
        let local = |minute: i64| {
            Timestamp::from_secs(minute * 60).to_chrono().with_timezone(&zone).naive_local().and_utc().timestamp() / 60
        };
        let mut reached = (from - 1_500..=from).map(local).max().expect("some");
        let mut found = Vec::new();
        for minute in from + 1..=from + days * 1_440 {
            let now = local(minute);
            let passed = (reached + 1..=now).any(|minute| {
                let time = chrono::DateTime::from_timestamp(minute * 60, 0).expect("a time").naive_utc();
                schedule.is_day(time.date()) && schedule.is_minute(time.hour() * 60 + time.minute())
            });
            if passed {
                found.push(minute * 60);
            }
            reached = reached.max(now);
        }
        found
    }

    fn field(least: u32, most: u32) -> impl Strategy<Value = String> {
        prop_oneof![
            2 => Just("*".to_owned()),
            2 => (least..=most).prop_map(|one| one.to_string()),
            1 => (least..most, 1..7_u32).prop_map(move |(first, step)| format!("{first}-{most}/{step}")),
            1 => (1..7_u32).prop_map(|step| format!("*/{step}")),
            1 => (least..=most, least..=most).prop_map(|(one, other)| format!("{one},{other}")),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]

        #[test]
        fn turns_are_those_of_a_clock_that_is_watched(
            fields in (field(0, 59), field(0, 23), field(1, 28), field(1, 12), field(0, 7)),
            // Around the changes of spring and autumn, where it matters, and anywhere.
            day in prop_oneof![0..12_000_i64, 0..32_i64],
            second in 0..86_400_i64,
            change in prop_oneof![Just(1_774_742_400_i64), Just(1_792_886_400), Just(1_772_953_200), Just(1_325_160_000), Just(826_000_000)],
            zone in prop::sample::select(ZONES),
        ) {
            let schedule = schedule(&format!("{} {} {} {} {}", fields.0, fields.1, fields.2, fields.3, fields.4));
            let start = if day < 32 { change - 172_800 + second } else { 820_000_000 + day * 86_400 + second };
            let expected = turns(&schedule, start.div_euclid(60), 4, zone);
            let mut found = Vec::new();
            let mut now = Timestamp::from_secs(start);
            let end = Timestamp::from_secs((start.div_euclid(60) + 4 * 1_440) * 60);
            while let Some(next) = schedule.next_after(now, &zone).filter(|next| *next <= end) {
                prop_assert!(next > now);
                found.push(next.micros() / 1_000_000);
                now = next;
            }
            prop_assert_eq!(found, expected, "{} in {}", schedule, zone);
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[-0-9a-z*/, @]{0,40}") {
            if let Ok(schedule) = text.parse::<Schedule>() {
                prop_assert!(schedule.next_after(Timestamp::from_secs(1_800_000_000), &Tz::UTC).is_some());
                prop_assert_eq!(schedule.to_string().parse::<Schedule>().expect("its own text"), schedule);
            }
        }
    }
}
