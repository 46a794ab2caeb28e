//! The one HTTP client: rustls with ring, bounded waits, no redirects to elsewhere by itself.

use std::time::Duration;

/// Installs ring as the process's TLS provider; harmless when done before.
pub fn install_crypto() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// A client with time limits. Redirects are not followed: a webhook or API that moves is a change of
/// configuration.
///
/// # Errors
/// Where the TLS set-up fails.
pub fn client(timeout: Duration) -> Result<reqwest::Client, reqwest::Error> {
    install_crypto();
    builder(timeout).build()
}

/// The same as a builder, for a caller that adds a certificate of its own.
pub fn builder(timeout: Duration) -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .timeout(timeout)
        .connect_timeout(timeout.min(Duration::from_secs(10)))
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("sakimori/", env!("CARGO_PKG_VERSION")))
}
