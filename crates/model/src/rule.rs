//! The envelope of a rule, whatever its language: who it is, what it needs, where it comes from.

use serde::{Deserialize, Serialize};

/// A text in the two languages of the product.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Text {
    /// English.
    pub en: String,
    /// Japanese.
    #[serde(default)]
    pub ja: String,
}

/// Where a detection rule runs (D9).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Its sources are local to a host and its grouping stays within it: in the agent's `logs` worker.
    Host,
    /// Everything else: in the manager.
    #[default]
    Wide,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth keeping.
    #[default]
    Informational,
    /// Worth a look some day.
    Low,
    /// Worth a look today.
    Medium,
    /// Worth a look now.
    High,
    /// Somebody's sleep is worth less.
    Critical,
}

impl Severity {
    /// ECS `event.severity`, 0 to 100.
    pub fn number(self) -> i64 {
        match self {
            Self::Informational => 10,
            Self::Low => 25,
            Self::Medium => 50,
            Self::High => 75,
            Self::Critical => 100,
        }
    }
}

/// The envelope.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleInfo {
    /// Stable slug.
    pub id: String,
    /// Grows with every change of meaning.
    pub revision: u32,
    /// Title in both languages.
    pub title: Text,
    /// `sigma`, later `yara`, `suricata`, …
    pub language: String,
    /// How bad it is.
    pub severity: Severity,
    /// Where it runs.
    #[serde(default)]
    pub scope: Scope,
    /// Links.
    #[serde(default)]
    pub references: Vec<String>,
    /// MITRE ATT&CK techniques, `T1110.001`.
    #[serde(default)]
    pub techniques: Vec<String>,
    /// SPDX.
    #[serde(default)]
    pub licence: String,
}
