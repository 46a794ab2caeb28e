//! `sakimori-agent ready`: for user data and health checks. It asks the running agent what is missing until this host is
//! protected as its newest policy and rules say, and waits for that as long as it may.

use std::io::Write;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;
use sakimori_wire::ipc::{Answer, Ask};

use crate::config::Config;
use crate::control;
use crate::show::{GOOD, PLAIN, WARN};

/// Between two questions.
const EVERY: Duration = Duration::from_millis(250);
/// Longest that one question may wait for its answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest that may be waited: a day.
const LONGEST: u64 = 86_400;

/// Reads a time: `120s`, `5m`, `1h`, or plain seconds.
///
/// # Errors
/// What would be right.
pub fn time(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|one: char| one.is_ascii_alphabetic());
    let unit = match text.get(digits.len()..).unwrap_or_default() {
        "" | "s" => Some(1),
        "m" => Some(60),
        "h" => Some(3_600),
        _ => None,
    };
    let seconds = unit.zip(digits.parse::<u64>().ok()).and_then(|(unit, number)| number.checked_mul(unit));
    let seconds = seconds.filter(|seconds| *seconds <= LONGEST);
    seconds.map(Duration::from_secs).ok_or_else(|| "expected a time up to a day, as 120s, 5m or 1h".to_owned())
}

/// Asks until it is ready or the time is over; says what is missing then.
///
/// # Errors
/// Where nothing can be written.
pub fn run(config: &Config, wait: Duration, json: bool) -> Result<ExitCode> {
    let until = Instant::now() + wait;
    let mut missing = ask(config);
    while !missing.is_empty() && Instant::now() < until {
        std::thread::sleep(EVERY);
        missing = ask(config);
    }
    let ready = missing.is_empty();
    let mut out = anstream::stdout().lock();
    if json {
        writeln!(out, "{}", serde_json::json!({ "ready": ready, "waits_for": missing }))?;
    } else if ready {
        writeln!(out, "{GOOD}ready{PLAIN}   the newest policy and rules are in effect")?;
    } else {
        for one in &missing {
            writeln!(out, "{WARN}not yet{PLAIN} {one}")?;
        }
    }
    Ok(if ready { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What is missing. An agent that does not run yet, or begins anew with its identity, is only not ready.
fn ask(config: &Config) -> Vec<String> {
    match control::ask_within(&config.control_socket(), &Ask::Status, PATIENCE) {
        Ok(Answer::Status(status)) => status.waits_for,
        Ok(_) => vec!["the agent answered something else".to_owned()],
        Err(error) => vec![format!("{error:#}")],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_a_unit_and_a_bound() {
        for (text, seconds) in [("0s", 0), ("120s", 120), ("5m", 300), ("24h", 86_400), ("7", 7)] {
            assert_eq!(time(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "s", "5d", "-1s", "25h", "99999999999999999999s", "1.5m", "5 m"] {
            assert!(time(text).is_err(), "{text}");
        }
    }
}
