//! What every parser of ours must hold for any bytes, one function a parser. The programs in `fuzz_targets` hand them
//! what the fuzzer thinks of; `crates/bench/tests/corpora.rs` includes this file and hands them the corpora again, with
//! the stable compiler and no sanitizer, in every `make test`.

pub mod agent;
pub mod content;
pub mod detect;
pub mod host;
pub mod identity;
pub mod journal;
pub mod malware;
pub mod manager;
pub mod model;
pub mod network;
pub mod respond;
pub mod runtime;
pub mod store;
pub mod wire;

use std::borrow::Cow;

/// A function that takes any bytes, and panics where something does not hold.
pub type Target = fn(&[u8]);

/// Every target by the name of its program and corpus.
pub const TARGETS: &[(&str, Target)] = &[
    ("accounts", host::accounts),
    ("agent_config", agent::config),
    ("agent_messages", wire::agent_messages),
    ("arrival", detect::arrival),
    ("auth_line", detect::auth_line),
    ("batch_decode", wire::batch_decode),
    ("bundle_read", content::bundle_read),
    ("detector_restore", detect::detector_restore),
    ("event_json", model::event_json),
    ("forwarded", detect::forwarded),
    ("hash_list", malware::hash_list),
    ("id_token", identity::id_token),
    ("journal_entry", agent::journal_entry),
    ("journal_open", journal::journal_open),
    ("keeper_message", host::keeper_message),
    ("ledger_open", respond::ledger_open),
    ("line_split", agent::line_split),
    ("log_source", detect::log_source),
    ("message_compose", respond::message_compose),
    ("mounts_table", host::mounts_table),
    ("network_capture", network::capture),
    ("network_dns", network::dns),
    ("network_frames", network::frames),
    ("network_ftp", network::ftp),
    ("network_http1", network::http1),
    ("network_http2", network::http2),
    ("network_inline", network::inline),
    ("network_rules", network::rules),
    ("network_settings", network::settings),
    ("network_smtp", network::smtp),
    ("network_ssh", network::ssh),
    ("network_thresholds", network::thresholds),
    ("network_tls", network::tls),
    ("nginx_line", detect::nginx_line),
    ("passkey", identity::passkey),
    ("playbook_parse", respond::playbook_parse),
    ("policy_json", model::policy_json),
    ("process_stat", host::process_stat),
    ("public_key", content::public_key),
    ("quarantine_item", host::quarantine_item),
    ("query_parse", store::query_parse),
    ("rule_list", manager::rule_list),
    ("rule_load", detect::rule_load),
    ("scan_message", malware::scan_message),
    ("sealed_open", runtime::sealed_open),
    ("sealing_keys", runtime::sealing_keys),
    ("sns_envelope", detect::sns_envelope),
    ("syslog_head", detect::syslog_head),
    ("syslog_stream", detect::syslog_stream),
    ("token", wire::token),
    ("triage_package", wire::triage_package),
    ("triage_text", agent::triage_text),
    ("worker_message", wire::worker_message),
];

/// The text, where the bytes are one.
fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

/// A case whose first byte says whether the rest is the input, or what is packed in one.
fn whole_or_packed(bytes: &[u8], pack: impl Fn(&[u8]) -> Vec<u8>) -> Cow<'_, [u8]> {
    match bytes.split_first() {
        Some((kind, rest)) if kind & 1 == 1 => pack(rest).into(),
        Some((_, rest)) => rest.into(),
        None => bytes.into(),
    }
}

/// The moment at which everything here happens.
fn now() -> sakimori_model::Timestamp {
    sakimori_model::Timestamp::parse("2026-01-01T00:00:00Z").expect("a time")
}
