//! Engine: packets to flows to protocols to verdict, by rules in the Suricata 7 language.
//!
//! Pure: no thread, socket, file or clock. Packets with their time come in, verdicts and alerts go out; the same
//! code runs on a queue and on a capture file.
//!
//! - [`RuleSet`]: rules from text; what cannot be loaded is listed.
//! - [`Engine`]: judges frames one after the other.
//! - [`capture`]: frames of pcap and pcapng files.
//! - [`Settings`]: what a policy or an existing `suricata.yaml` says.
//! - [`event`]: an alert as an ECS event.
//! - [`explain`]: where the contents of a rule lie in what an alert keeps.
//! - [`keep`]: the packets of alerted flows as capture files.
//! - [`eve`]: alerts, transactions and flows as EVE JSON.
//! - [`testcases`]: conversations beside rules, and what is to come of them.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic))]

mod alert;
mod app;
pub mod capture;
mod decode;
mod detect;
mod engine;
pub mod eve;
pub mod event;
pub mod explain;
mod flow;
mod follow;
mod judge;
pub mod keep;
mod notice;
mod reader;
mod relief;
mod rules;
mod settings;
pub mod testcases;
mod verdict;
mod yaml;

pub use alert::{Alert, HttpSummary};
#[doc(hidden)]
pub use app::exercise;
pub use app::{AppProto, AppSettings, HttpSettings};
pub use decode::{DecodeSettings, DefragSettings, Overlap};
pub use detect::OutcomeSettings;
pub use engine::{Counters, Engine, Prepared};
pub use flow::{ExceptionPolicy, FlowSettings, StreamSettings, Urgent};
pub use notice::GENERATOR;
pub use rules::{
    Action, Files, LoadOptions, Network, Refused, Rule, RuleSet, Tag, TagMetric, TagOf, Target, Variables,
};
pub use settings::Settings;
pub use verdict::Verdict;
pub use yaml::{Given, SettingsError};
