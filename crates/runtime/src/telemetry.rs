//! Logs by `tracing`, as text for people or JSON for machines. Logs are English and carry no secret.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Form of the log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Starts logging to standard error. `filter` is a level or a `tracing` filter; a filter that cannot be
/// read becomes `info`. Calling it twice keeps the first.
pub fn init(format: LogFormat, filter: &str) {
    let quiet = format!(
        "{filter},datafusion=warn,delta_kernel=warn,buoyant_kernel=warn,deltalake_core=warn,sqlx=warn,hyper=warn,h2=warn,aws_=warn"
    );
    let filter = EnvFilter::try_new(quiet).unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second call (tests, `up` starting a manager in process) must not fail.
    let _ = match format {
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).with_target(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
}
