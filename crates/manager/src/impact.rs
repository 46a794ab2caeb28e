//! Whom a block of a network would hit: the share of good requests of the last hour that came from it.

use sakimori_model::{Network, Timestamp};
use sakimori_store::lake::{Interval, LakeError};
use sakimori_store::query;

use crate::shared::Shared;

/// How far back requests are counted, in seconds.
const BACK: i64 = 3_600;

/// Requests of the last hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Impact {
    /// All that came from the network.
    pub requests: u64,
    /// Of them, those that a server answered well (below 400).
    pub good: u64,
    /// All good ones, from anywhere.
    pub all_good: u64,
}

impl Impact {
    /// The share of all good requests that a block would hit, in percent.
    pub fn percent(self) -> f64 {
        if self.all_good == 0 {
            return 0.0;
        }
        // Both are far below what a double holds exactly.
        100.0 * self.good as f64 / self.all_good as f64
    }

    /// In a sentence.
    pub fn words(self) -> String {
        format!(
            "of the last hour's requests {} came from it, {} of them answered well: {:.1} % of all {} good ones",
            self.requests,
            self.good,
            self.percent(),
            self.all_good
        )
    }

    /// In Japanese.
    pub fn words_ja(self) -> String {
        format!(
            "直近 1 時間のリクエスト {} 件がこのネットワークから。うち正常応答 {} 件 (正常応答全 {} 件の {:.1} %)",
            self.requests,
            self.good,
            self.all_good,
            self.percent()
        )
    }
}

/// Counts them, among the access logs in the lake.
///
/// # Errors
/// The lake's.
pub async fn of_network(shared: &Shared, tenant: &str, network: &Network, now: Timestamp) -> Result<Impact, LakeError> {
    let interval = Interval { from: Some(now.plus_secs(-BACK)), to: None };
    let count = async |text: String| match query::parse(&text) {
        Ok(query) => shared.lake.count(tenant, &query, interval).await,
        Err(_) => Ok(0),
    };
    let (from, good) = (format!("source.ip:{}", network.to_cidr()), "http.response.status_code<400");
    Ok(Impact {
        requests: count(format!("event.action:http_request and {from}")).await?,
        good: count(format!("event.action:http_request and {from} and {good}")).await?,
        all_good: count(format!("event.action:http_request and {good}")).await?,
    })
}
