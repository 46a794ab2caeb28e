//! What came of a scan, for people and programs, and the exit code that says it.
//!
//! | code | says |
//! |---|---|
//! | 0 | everything was looked at and nothing found; what is larger than the limit, or not what its name says, is listed |
//! | 1 | something was found |
//! | 2 | nothing was found, but not everything could be judged: a file, a folder or a rule failed |

use std::path::Path;

use sakimori_malware::{Detection, RuleError, Skip, Verdict, kind};
use serde::Serialize;

use crate::tree::{Outcome, Totals};

/// Most entries of each list; the totals count all of them.
pub const MAX_LISTED: usize = 100_000;

/// A file that a rule matched.
#[derive(Clone, Debug, Serialize)]
pub struct Found {
    /// Its path.
    pub path: String,
    /// What was found.
    #[serde(flatten)]
    pub detection: Detection,
}

/// A file or folder with something to be said.
#[derive(Clone, Debug, Serialize)]
pub struct Missed {
    /// Its path.
    pub path: String,
    /// Why.
    pub reason: String,
}

/// All of it.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// Numbers.
    pub totals: Totals,
    /// What was found.
    pub found: Vec<Found>,
    /// What no rule matched, and whose content is not what its name says.
    pub disguised: Vec<Missed>,
    /// What is larger than the limit.
    pub too_large: Vec<Missed>,
    /// What should have been judged and could not be.
    pub failed: Vec<Missed>,
    /// Rules that could not be loaded.
    pub rule_errors: Vec<RuleError>,
}

impl Report {
    /// Takes in what came of one file; gives the entry if something was found.
    pub fn add(&mut self, outcome: &Outcome) -> Option<&Found> {
        let (path, verdict) = match outcome {
            Outcome::Judged { path, verdict, kind, .. } => {
                if let (Verdict::Clean, Some(kind)) = (verdict, kind)
                    && kind::belies(&path.to_string_lossy(), *kind)
                {
                    list(&mut self.disguised, path, format!("it is {} and is called something else", kind.name()));
                }
                (path, verdict)
            }
            Outcome::Unreadable(path, error) => {
                list(&mut self.failed, path, error.to_string());
                return None;
            }
        };
        match verdict {
            Verdict::Clean => None,
            Verdict::Skipped(skip @ Skip::TooLarge { .. }) => {
                list(&mut self.too_large, path, skip.to_string());
                None
            }
            Verdict::Skipped(skip) => {
                list(&mut self.failed, path, skip.to_string());
                None
            }
            Verdict::Malicious(detection) => {
                if self.found.len() < MAX_LISTED {
                    self.found.push(Found { path: path.display().to_string(), detection: detection.clone() });
                }
                self.found.last()
            }
        }
    }

    /// The exit code.
    pub fn exit_code(&self) -> u8 {
        if !self.found.is_empty() {
            1
        } else if !self.failed.is_empty() || !self.rule_errors.is_empty() || self.totals.stopped {
            2
        } else {
            0
        }
    }
}

fn list(to: &mut Vec<Missed>, path: &Path, reason: String) {
    if to.len() < MAX_LISTED {
        to.push(Missed { path: path.display().to_string(), reason });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sakimori_malware::Method;

    fn code(outcomes: &[Outcome]) -> u8 {
        let mut report = Report::default();
        for outcome in outcomes {
            report.add(outcome);
        }
        report.exit_code()
    }

    #[test]
    fn the_exit_code_says_clean_found_or_not_sure() {
        let judged = |verdict| Outcome::Judged { path: "/x".into(), verdict, kind: None, file: None };
        let unreadable = || Outcome::Unreadable("/x".into(), std::io::ErrorKind::PermissionDenied.into());
        let large = || judged(Verdict::Skipped(Skip::TooLarge { size: 2, most: 1 }));
        let found = judged(Verdict::Malicious(Detection {
            rule: "r".into(),
            title: "t".into(),
            family: String::new(),
            severity: Default::default(),
            method: Method::Yara,
            sha256: String::new(),
            also: Vec::new(),
        }));
        assert_eq!(code(&[judged(Verdict::Clean), large()]), 0);
        let mut report = Report::default();
        for path in ["/x/a.png", "/x/a"] {
            let kind = Some(kind::Kind::Elf);
            report.add(&Outcome::Judged { path: path.into(), verdict: Verdict::Clean, kind, file: None });
        }
        assert_eq!((report.disguised.len(), report.exit_code()), (1, 0), "flagged, and not found");
        assert_eq!(code(&[unreadable()]), 2);
        assert_eq!(code(&[judged(Verdict::Skipped(Skip::TimedOut { seconds: 1 }))]), 2);
        assert_eq!(code(&[unreadable(), found]), 1);
    }
}
