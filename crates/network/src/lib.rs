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
//! - [`eve`]: alerts, transactions and flows as EVE JSON.
//! - [`testcases`]: conversations beside rules, and what is to come of them.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic))]

mod app;
pub mod capture;
mod decode;
mod detect;
mod engine;
pub mod eve;
pub mod event;
mod flow;
mod follow;
mod reader;
mod relief;
mod rules;
mod settings;
pub mod testcases;
mod yaml;

#[doc(hidden)]
pub use app::exercise;
pub use app::{AppProto, AppSettings, HttpSettings};
pub use decode::{DecodeSettings, DefragSettings, Overlap};
pub use detect::OutcomeSettings;
pub use engine::{Alert, Counters, Engine, Prepared, Verdict};
pub use flow::FlowSettings;
pub use flow::tcp::{ExceptionPolicy, StreamSettings, Urgent};
pub use rules::{
    Action, Files, LoadOptions, Network, Refused, Rule, RuleSet, Tag, TagMetric, TagOf, Target, Variables,
};
pub use settings::Settings;
pub use yaml::{Given, SettingsError};
