//! The Suricata 7 rule language: from text to rules that are ready to be evaluated.
//!
//! - [`RuleSet::load`] reads files; what cannot be loaded is listed with its line and reason.
//! - `keywords` is the catalog of words, `buffers` that of what can be looked at.

pub(crate) mod app_tests;
pub(crate) mod buffers;
mod builder;
pub(crate) mod content;
mod fast;
mod keywords;
mod kw_app;
mod kw_bytes;
mod kw_content;
mod kw_meta;
mod kw_packet;
mod kw_state;
mod load;
pub(crate) mod model;
pub(crate) mod number;
pub(crate) mod packet_tests;
mod patterns;
pub(crate) mod pcre;
pub(crate) mod ranges;
pub(crate) mod required;
pub(crate) mod sets;
pub(crate) mod state;
mod syntax;
pub(crate) mod threshold;
pub(crate) mod transform;
mod variables;

pub use load::{Files, LoadOptions, Refused, RuleSet};
pub use model::{Action, Rule, Target};
pub use ranges::Network;
pub use state::{Tag, TagMetric, TagOf};
pub use variables::Variables;

pub(crate) use syntax::{content_bytes, parts, quoted, rules};
