//! The head of a syslog line, taken apart without regular expressions and without a clock.
//!
//! ```text
//! <38>Nov 24 10:00:00 web-1 sshd[2101]: message            RFC 3164, which has no year
//! 2026-11-24T10:00:00.123456+09:00 web-1 sshd[2101]: …     rsyslog's and systemd's own form
//! <38>1 2026-11-24T10:00:00Z web-1 sshd 2101 - - …         RFC 5424
//! ```
//!
//! A year that is not said is chosen so that the time lies not more than a day after the moment at which the line
//! was read. A time without a zone is in the zone that the caller names. Where there is no head, all is message.

use chrono::{NaiveDate, Offset, TimeZone};
use chrono_tz::Tz;
use sakimori_model::Timestamp;

/// Longest tag and host name.
const MAX_WORD: usize = 255;
const DAY: i64 = 86_400_000_000;
/// Within this span of local time, from its beginning, the offset of a zone is taken to be one: all
/// changes happen at a multiple of it.
const SPAN: i64 = 15 * 60 * 1_000_000;

/// What the head says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head<'a> {
    /// Facility and severity, 0 to 191.
    pub priority: Option<u8>,
    /// When.
    pub time: Option<Timestamp>,
    /// Who wrote it, by his own word.
    pub host: Option<&'a str>,
    /// The tag without the pid.
    pub program: Option<&'a str>,
    /// Process id.
    pub pid: Option<i64>,
    /// All that follows.
    pub message: &'a str,
}

/// Local times of one zone to UTC; remembers the offset that was in force last.
#[derive(Clone, Debug)]
pub struct Zone {
    tz: Tz,
    known: Option<(i64, i64)>,
}

impl Zone {
    /// Of an IANA zone.
    pub fn new(tz: Tz) -> Self {
        Self { tz, known: None }
    }

    /// Which one.
    pub fn tz(&self) -> Tz {
        self.tz
    }

    /// UTC of a local time in microseconds as if it were UTC. Of a time that came twice (clocks were put back)
    /// the one nearer to `near`; a time that never came (put forward) is read with the offset before the change.
    fn utc_of(&mut self, local: i64, near: Timestamp) -> i64 {
        if self.tz == Tz::UTC {
            return local;
        }
        let span = local.div_euclid(SPAN);
        if let Some((known, offset)) = self.known
            && known == span
        {
            return local.saturating_sub(offset);
        }
        let wall = |micros: i64| Timestamp::from_micros(micros).to_chrono().naive_utc();
        let micros = |offset: chrono_tz::TzOffset| i64::from(offset.fix().local_minus_utc()) * 1_000_000;
        match self.tz.offset_from_local_datetime(&wall(local)) {
            chrono::LocalResult::Single(offset) => {
                let offset = micros(offset);
                self.known = Some((span, offset));
                local.saturating_sub(offset)
            }
            chrono::LocalResult::Ambiguous(one, other) => {
                let (one, other) = (local.saturating_sub(micros(one)), local.saturating_sub(micros(other)));
                let far = |utc: i64| utc.saturating_sub(near.micros()).unsigned_abs();
                if far(one) <= far(other) { one } else { other }
            }
            chrono::LocalResult::None => {
                let before = self.tz.offset_from_utc_datetime(&wall(local.saturating_sub(DAY)));
                local.saturating_sub(micros(before))
            }
        }
    }

    /// Local time of a moment, as microseconds.
    fn local(&self, utc: Timestamp) -> i64 {
        if self.tz == Tz::UTC {
            return utc.micros();
        }
        let offset = self.tz.offset_from_utc_datetime(&utc.to_chrono().naive_utc()).fix().local_minus_utc();
        utc.micros().saturating_add(i64::from(offset) * 1_000_000)
    }
}

/// Takes a line apart.
pub fn parse<'a>(line: &'a str, received: Timestamp, zone: &mut Zone) -> Head<'a> {
    let (priority, rest) = priority(line);
    if priority.is_some()
        && let Some(head) = rfc5424(rest, received, zone)
    {
        return Head { priority, ..head };
    }
    match time(rest, received, zone) {
        Some((time, rest)) => {
            let (host, rest) = word(rest);
            let (program, pid, message) = tag(rest);
            Head { priority, time: Some(time), host: host.filter(|host| *host != "-"), program, pid, message }
        }
        None => Head { priority, message: rest, ..Head::default() },
    }
}

/// The tag of a line, for recognising it: the time is not looked at closely.
pub fn program(line: &str) -> Option<&str> {
    let mut zone = Zone::new(Tz::UTC);
    parse(line, Timestamp::from_secs(4_000_000_000), &mut zone).program
}

/// `<38>`.
fn priority(line: &str) -> (Option<u8>, &str) {
    let found = line.strip_prefix('<').and_then(|rest| rest.split_once('>')).and_then(|(number, rest)| {
        let number = number.parse::<u8>().ok().filter(|number| *number <= 191)?;
        Some((number, rest))
    });
    found.map_or((None, line), |(number, rest)| (Some(number), rest))
}

/// `1 TIME HOST APP PROCID MSGID SD MESSAGE`; `-` stands for nothing.
fn rfc5424<'a>(line: &'a str, received: Timestamp, zone: &mut Zone) -> Option<Head<'a>> {
    let rest = line.strip_prefix("1 ")?;
    let mut parts = rest.splitn(6, ' ');
    let moment = parts.next()?;
    let nothing = |part: &'a str| Some(part).filter(|part| *part != "-" && part.len() <= MAX_WORD);
    let (host, program, pid) = (nothing(parts.next()?), nothing(parts.next()?), nothing(parts.next()?));
    let _message_id = parts.next()?;
    let rest = parts.next()?;
    let time = match moment {
        "-" => None,
        text => Some(iso(text, received, zone).filter(|(_, rest)| rest.is_empty())?.0),
    };
    let message = structured(rest)?;
    let message = message.strip_prefix('\u{feff}').unwrap_or(message);
    Some(Head { priority: None, time, host, program, pid: pid.and_then(|pid| pid.parse().ok()), message })
}

/// What follows the structured data: `-`, or `[id name="value" …]…` where `]` may be escaped in a value.
fn structured(text: &str) -> Option<&str> {
    if let Some(rest) = text.strip_prefix('-') {
        return rest.is_empty().then_some("").or_else(|| rest.strip_prefix(' '));
    }
    let (mut quoted, mut escaped, mut open) = (false, false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' if open => quoted = !quoted,
            b'[' if !quoted && !open => open = true,
            b']' if !quoted && open => open = false,
            b' ' if !open => return text.get(at + 1..),
            _ if !open => return None,
            _ => {}
        }
    }
    (!open).then_some("")
}

/// The time at the beginning and what follows the space after it.
fn time<'a>(text: &'a str, received: Timestamp, zone: &mut Zone) -> Option<(Timestamp, &'a str)> {
    let (time, rest) =
        if text.as_bytes().first()?.is_ascii_digit() { iso(text, received, zone)? } else { bsd(text, received, zone)? };
    Some((time, rest.strip_prefix(' ').unwrap_or(rest)))
}

/// `Nov 24 10:00:00`, `Nov  4 10:00:00`, with fractions of a second perhaps.
fn bsd<'a>(text: &'a str, received: Timestamp, zone: &mut Zone) -> Option<(Timestamp, &'a str)> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let name = text.get(..3)?;
    let month = 1 + u32::try_from(MONTHS.iter().position(|month| *month == name)?).ok()?;
    let rest = text.get(3..)?.strip_prefix(' ')?;
    let rest = rest.strip_prefix(' ').unwrap_or(rest);
    let (day, rest) = rest.split_once(' ').filter(|(day, _)| day.len() <= 2)?;
    let day = day.parse::<u32>().ok()?;
    let (within, rest) = clock(rest)?;
    let limit = received.plus_micros(DAY);
    let latest = i32::try_from(year_of(zone.local(limit))).ok()?;
    // At most eight years lie between two 29ths of February.
    (0..=8).find_map(|back| {
        let date = NaiveDate::from_ymd_opt(latest - back, month, day)?;
        let utc = zone.utc_of(midnight(date).saturating_add(within), received);
        (utc <= limit.micros()).then_some((Timestamp::from_micros(utc), rest))
    })
}

/// `2026-11-24T10:00:00.123456+09:00`, also with a space for the T, `,` for the point, `Z`, `+0900`, or no zone.
fn iso<'a>(text: &'a str, received: Timestamp, zone: &mut Zone) -> Option<(Timestamp, &'a str)> {
    let number = |from: usize, to: usize| -> Option<u32> {
        let digits = text.get(from..to)?;
        digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
    };
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let bytes = text.as_bytes();
    let separator = bytes.get(10)?;
    if bytes.get(4)? != &b'-' || bytes.get(7)? != &b'-' || !(*separator == b'T' || *separator == b' ') {
        return None;
    }
    let date = NaiveDate::from_ymd_opt(i32::try_from(year).ok()?, month, day)?;
    let (within, rest) = clock(text.get(11..)?)?;
    let local = midnight(date).saturating_add(within);
    if let Some(rest) = rest.strip_prefix('Z') {
        return Some((Timestamp::from_micros(local), rest));
    }
    let sign = match rest.as_bytes().first() {
        Some(b'+') => 1,
        Some(b'-') => -1,
        _ => return Some((Timestamp::from_micros(zone.utc_of(local, received)), rest)),
    };
    let hours = rest.get(1..3)?.parse::<i64>().ok().filter(|hours| *hours <= 24)?;
    let rest = rest.get(3..)?;
    let rest = rest.strip_prefix(':').unwrap_or(rest);
    let minutes = rest.get(..2)?.parse::<i64>().ok().filter(|minutes| *minutes < 60)?;
    let offset = sign * (hours * 60 + minutes) * 60_000_000;
    Some((Timestamp::from_micros(local.saturating_sub(offset)), rest.get(2..)?))
}

/// `10:00:00` with a fraction perhaps, as microseconds of the day; a leap second is the second after it.
fn clock(text: &str) -> Option<(i64, &str)> {
    let bytes = text.as_bytes();
    let two = |at: usize| -> Option<i64> {
        let (tens, ones) = (bytes.get(at)?, bytes.get(at + 1)?);
        (tens.is_ascii_digit() && ones.is_ascii_digit()).then(|| i64::from(tens - b'0') * 10 + i64::from(ones - b'0'))
    };
    let (hours, minutes, seconds) = (two(0)?, two(3)?, two(6)?);
    if bytes.get(2)? != &b':' || bytes.get(5)? != &b':' || hours > 23 || minutes > 59 || seconds > 60 {
        return None;
    }
    let mut rest = text.get(8..)?;
    let mut micros = 0;
    if let Some(fraction) = rest.strip_prefix(['.', ',']) {
        let digits = fraction.bytes().take_while(u8::is_ascii_digit).count();
        if digits == 0 {
            return None;
        }
        for at in 0..6 {
            let digit = fraction.as_bytes().get(at).filter(|_| at < digits).map_or(0, |byte| i64::from(byte - b'0'));
            micros = micros * 10 + digit;
        }
        rest = fraction.get(digits..)?;
    }
    Some((((hours * 60 + minutes) * 60 + seconds) * 1_000_000 + micros, rest))
}

fn midnight(date: NaiveDate) -> i64 {
    let epoch = NaiveDate::from_ymd_opt(1970, 1, 1).expect("a date");
    date.signed_duration_since(epoch).num_days() * DAY
}

fn year_of(local: i64) -> i64 {
    use chrono::Datelike;
    i64::from(Timestamp::from_micros(local).to_chrono().year())
}

/// The next word and what follows the space after it.
fn word(text: &str) -> (Option<&str>, &str) {
    match text.split_once(' ') {
        Some((word, rest)) if !word.is_empty() && word.len() <= MAX_WORD => (Some(word), rest),
        _ => (None, text),
    }
}

/// `sshd[2101]: message`, `sudo: message`; without a tag all is message.
fn tag(text: &str) -> (Option<&str>, Option<i64>, &str) {
    let none = (None, None, text);
    let end = text.bytes().take(MAX_WORD).position(|byte| matches!(byte, b'[' | b':' | b' '));
    let Some(end) = end.filter(|end| *end > 0) else { return none };
    let (Some(name), Some(rest)) = (text.get(..end), text.get(end..)) else { return none };
    let (pid, rest) = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((pid, rest)) => match pid.parse::<i64>() {
            Ok(pid) => (Some(pid), rest),
            Err(_) => return none,
        },
        None => (None, rest),
    };
    match rest.strip_prefix(':') {
        Some(rest) => (Some(name), pid, rest.strip_prefix(' ').unwrap_or(rest)),
        None => none,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text).unwrap()
    }

    fn head<'a>(line: &'a str, received: &str, zone: &str) -> Head<'a> {
        parse(line, at(received), &mut Zone::new(zone.parse().unwrap()))
    }

    #[test]
    fn the_common_form_is_taken_apart() {
        let found = head("<38>Nov 24 10:00:00 web-1 sshd[2101]: Failed x", "2026-11-24T10:00:01Z", "UTC");
        assert_eq!(
            found,
            Head {
                priority: Some(38),
                time: Some(at("2026-11-24T10:00:00Z")),
                host: Some("web-1"),
                program: Some("sshd"),
                pid: Some(2101),
                message: "Failed x",
            }
        );
        let found = head("Nov  4 10:00:00 web-1 sudo:   aiko : x", "2026-11-24T10:00:01Z", "UTC");
        assert_eq!((found.program, found.pid, found.message), (Some("sudo"), None, "  aiko : x"));
        let found = head("Nov 24 10:00:00 web-1 sshd(pam_unix)[7]: x", "2026-11-24T10:00:01Z", "UTC");
        assert_eq!((found.program, found.pid), (Some("sshd(pam_unix)"), Some(7)));
        let found = head("Nov 24 10:00:00 web-1 last message repeated 3 times", "2026-11-24T10:00:01Z", "UTC");
        assert_eq!((found.program, found.message), (None, "last message repeated 3 times"));
    }

    #[test]
    fn the_year_is_the_one_that_is_not_in_the_future() {
        let time = |line, received| head(line, received, "UTC").time.unwrap().to_string();
        assert_eq!(time("Dec 31 23:59:59 h a: x", "2027-01-01T00:00:05Z"), "2026-12-31T23:59:59.000000Z");
        assert_eq!(time("Jan  1 00:00:01 h a: x", "2026-12-31T23:59:50Z"), "2027-01-01T00:00:01.000000Z");
        assert_eq!(time("Nov 26 10:00:00 h a: x", "2026-11-24T10:00:00Z"), "2025-11-26T10:00:00.000000Z");
        assert_eq!(time("Feb 29 10:00:00 h a: x", "2026-03-01T00:00:00Z"), "2024-02-29T10:00:00.000000Z");
        assert_eq!(head("Feb 30 10:00:00 h a: x", "2026-03-01T00:00:00Z", "UTC").time, None);
    }

    #[test]
    fn times_without_a_zone_are_in_the_named_one() {
        let time = |line, received, zone| head(line, received, zone).time.unwrap().to_string();
        let tokyo = time("Nov 24 10:00:00 h a: x", "2026-11-24T02:00:00Z", "Asia/Tokyo");
        assert_eq!(tokyo, "2026-11-24T01:00:00.000000Z");
        // Clocks are put back at 03:00 on 25 October 2026: 02:30 comes twice.
        let first = time("Oct 25 02:30:00 h a: x", "2026-10-25T00:30:01Z", "Europe/Berlin");
        let second = time("Oct 25 02:30:00 h a: x", "2026-10-25T01:30:01Z", "Europe/Berlin");
        assert_eq!((first.as_str(), second.as_str()), ("2026-10-25T00:30:00.000000Z", "2026-10-25T01:30:00.000000Z"));
        // Put forward at 02:00 on 29 March 2026: 02:30 never comes.
        let never = time("Mar 29 02:30:00 h a: x", "2026-03-29T01:30:01Z", "Europe/Berlin");
        assert_eq!(never, "2026-03-29T01:30:00.000000Z");
    }

    #[test]
    fn a_remembered_offset_ends_with_its_span() {
        let mut zone = Zone::new(Tz::Europe__Berlin);
        let received = at("2026-10-25T05:00:00Z");
        let one = parse("Oct 25 01:59:59 h a: x", received, &mut zone).time.unwrap();
        let two = parse("Oct 25 03:00:00 h a: x", received, &mut zone).time.unwrap();
        assert_eq!((one, two), (at("2026-10-24T23:59:59Z"), at("2026-10-25T02:00:00Z")));
    }

    #[test]
    fn iso_times_carry_their_own_zone() {
        let time = |line| head(line, "2026-11-24T10:00:01Z", "Asia/Tokyo").time.map(|time| time.to_string());
        assert_eq!(time("2026-11-24T10:00:00.5+09:00 h a: x").unwrap(), "2026-11-24T01:00:00.500000Z");
        assert_eq!(time("2026-11-24T10:00:00.123456789Z h a: x").unwrap(), "2026-11-24T10:00:00.123456Z");
        assert_eq!(time("2026-11-24 10:00:00,25 h a: x").unwrap(), "2026-11-24T01:00:00.250000Z");
        assert_eq!(time("2026-11-24T10:00:00-0330 h a: x").unwrap(), "2026-11-24T13:30:00.000000Z");
        assert_eq!(time("2026-13-24T10:00:00Z h a: x"), None);
        assert_eq!(time("2026-11-24T25:00:00Z h a: x"), None);
    }

    #[test]
    fn rfc_5424_is_taken_apart() {
        let line = "<165>1 2026-11-24T10:00:00.003Z web-1 sshd 2101 ID47 [a@1 k=\"]\\\"\" b=\"c\"][d] \u{feff}hello";
        let found = head(line, "2026-11-24T10:00:01Z", "UTC");
        assert_eq!(found.time, Some(at("2026-11-24T10:00:00.003Z")));
        assert_eq!((found.host, found.program, found.pid), (Some("web-1"), Some("sshd"), Some(2101)));
        assert_eq!(found.message, "hello");
        let found = head("<165>1 - - - - - -", "2026-11-24T10:00:01Z", "UTC");
        assert_eq!((found.time, found.host, found.program, found.message), (None, None, None, ""));
    }

    #[test]
    fn a_tag_inside_the_message_is_no_tag() {
        let found = head("Nov 24 10:00:00 web-1 x y sshd[1]: z", "2026-11-24T10:00:01Z", "UTC");
        assert_eq!((found.program, found.message), (None, "x y sshd[1]: z"));
        let found = head("no head at all", "2026-11-24T10:00:01Z", "UTC");
        assert_eq!((found.time, found.message), (None, "no head at all"));
    }

    proptest! {
        #[test]
        fn nothing_makes_it_fail(line in ".{0,120}", received in any::<i64>(), zone in 0..chrono_tz::TZ_VARIANTS.len()) {
            let mut zone = Zone::new(chrono_tz::TZ_VARIANTS[zone]);
            let found = parse(&line, Timestamp::from_micros(received), &mut zone);
            prop_assert!(line.ends_with(found.message));
        }

        #[test]
        fn odd_heads_make_it_fail_neither(
            line in "(<[0-9]{0,4}>)?(1 )?(Feb|Nov|2026-0[0-9]-[0-9]{2}T)? ?[0-9]{0,2} [0-9:.]{0,12}[+Z]?[0-9:]{0,6} [a-z]{0,3}[\\[:]?[0-9]{0,20}\\]?:? ?.{0,20}",
            received in 0i64..4_000_000_000_000_000,
        ) {
            let mut zone = Zone::new(Tz::America__New_York);
            let received = Timestamp::from_micros(received);
            let found = parse(&line, received, &mut zone);
            prop_assert!(line.ends_with(found.message));
        }
    }
}
