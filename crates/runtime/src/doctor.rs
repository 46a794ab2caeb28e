//! The form of a doctor's finding: what was looked at, what was found, what to do. Each room brings its
//! own checks; the command line prints them together.

use serde::{Deserialize, Serialize};

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// As it should be.
    Ok,
    /// Something does less than it could.
    Limited,
    /// Something does not work.
    Failing,
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Stable slug, `host/nftables`.
    pub id: String,
    /// How it came out.
    pub health: Health,
    /// What was found.
    pub found: String,
    /// What to do, where there is something to do.
    pub remedy: String,
}

impl Finding {
    /// All is well.
    pub fn ok(id: &str, found: impl Into<String>) -> Self {
        Self { id: id.into(), health: Health::Ok, found: found.into(), remedy: String::new() }
    }

    /// It does less than it could, or nothing.
    pub fn problem(id: &str, health: Health, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { id: id.into(), health, found: found.into(), remedy: remedy.into() }
    }
}

/// Is a program on the search path?
pub fn program(name: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|paths| std::env::split_paths(&paths).any(|folder| folder.join(name).is_file()))
}
