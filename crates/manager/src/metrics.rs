//! The manager's own figures in Prometheus text form. No label value that an attacker chooses.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counters since the start.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Batches accepted from agents.
    pub batches: AtomicU64,
    /// Batches that were here already.
    pub batches_repeated: AtomicU64,
    /// Batches refused (out of order, damaged, of another agent).
    pub batches_refused: AtomicU64,
    /// Events accepted.
    pub events: AtomicU64,
    /// Alerts, from agents and the manager's own rules.
    pub alerts: AtomicU64,
    /// Flushes committed to the table.
    pub flushes: AtomicU64,
    /// Small files of the lake that were joined.
    pub lake_joined: AtomicU64,
    /// Events that retention took.
    pub lake_expired: AtomicU64,
    /// Files of the lake that were deleted.
    pub lake_deleted: AtomicU64,
    /// Updates sent to AWS WAF.
    pub waf_updates: AtomicU64,
    /// Messages delivered.
    pub messages: AtomicU64,
    /// Actions that were asked for and not written one by one.
    pub shed: AtomicU64,
    /// Actions that were over and went.
    pub retired: AtomicU64,
    /// Requests answered by the API.
    pub requests: AtomicU64,
    /// Connections of the API that were closed on for want of a seat.
    pub api_refused: AtomicU64,
    /// Connections of the agents' channel likewise.
    pub link_refused: AtomicU64,
}

impl Metrics {
    /// Adds to a counter.
    pub fn add(counter: &AtomicU64, count: u64) {
        counter.fetch_add(count, Ordering::Relaxed);
    }

    /// Text in Prometheus exposition form; `gauges` are values of now.
    pub fn render(&self, gauges: &[(&str, &str, f64)]) -> String {
        let counters: [(&str, &str, &AtomicU64); 16] = [
            ("ingest_batches_total", "batches accepted from agents", &self.batches),
            ("ingest_batches_repeated_total", "batches that were here already", &self.batches_repeated),
            ("ingest_batches_refused_total", "batches refused", &self.batches_refused),
            ("ingest_events_total", "events accepted", &self.events),
            ("detect_alerts_total", "alerts of agents and of the manager's rules", &self.alerts),
            ("lake_flushes_total", "flushes committed to the table", &self.flushes),
            ("lake_joined_files_total", "small files that were joined", &self.lake_joined),
            ("lake_expired_events_total", "events older than their retention that went", &self.lake_expired),
            ("lake_deleted_files_total", "files deleted that nothing reads", &self.lake_deleted),
            ("waf_updates_total", "updates sent to AWS WAF", &self.waf_updates),
            ("notify_messages_total", "messages delivered", &self.messages),
            ("actions_shed_total", "actions asked for beyond the rate, counted and not written", &self.shed),
            ("actions_retired_total", "actions that were over and went", &self.retired),
            ("api_requests_total", "requests answered", &self.requests),
            ("api_connections_refused_total", "connections to the API closed on for want of room", &self.api_refused),
            ("link_connections_refused_total", "connections to the agents' channel likewise", &self.link_refused),
        ];
        let mut out = String::new();
        for (name, help, counter) in counters {
            let value = counter.load(Ordering::Relaxed);
            let _ =
                writeln!(out, "# HELP sakimori_{name} {help}\n# TYPE sakimori_{name} counter\nsakimori_{name} {value}");
        }
        for (name, help, value) in gauges {
            let _ =
                writeln!(out, "# HELP sakimori_{name} {help}\n# TYPE sakimori_{name} gauge\nsakimori_{name} {value}");
        }
        out
    }
}
