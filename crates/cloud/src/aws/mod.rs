//! AWS: how a client is made, and one file a service.

mod clients;
mod desktop;
mod disks_snapshot;
mod ec2;
mod iam;
mod instance_collect;
mod instance_detach;
mod instance_isolate;
mod instance_power;
mod instance_replace;
mod isolation;
mod port_close;
mod problem;
pub mod waf;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use sakimori_respond::ports::{Effect, PortError};

/// Where and as whom to speak. Credentials come from AWS's own chain (environment, profile, instance role).
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Account {
    /// `ap-northeast-1`; for a CloudFront web ACL `us-east-1`.
    pub region: String,
    /// Another endpoint than AWS's own: a simulator, a VPC endpoint.
    pub endpoint_url: Option<String>,
    /// Profile of the shared configuration, where not the default.
    pub profile: Option<String>,
    /// AWS's number of the account, by which events name it.
    pub account_id: Option<String>,
}

use clients::Clients;

/// All effects: the slug of the action and what makes its effect.
const CATALOG: &[(&str, Make)] = &[
    desktop::DESKTOP_ISOLATE,
    desktop::DESKTOP_STOP,
    disks_snapshot::DISKS_SNAPSHOT,
    iam::DEACTIVATE_KEY,
    instance_collect::INSTANCE_COLLECT,
    instance_detach::INSTANCE_DETACH,
    instance_isolate::INSTANCE_ISOLATE,
    instance_power::INSTANCE_STOP,
    instance_power::INSTANCE_TERMINATE,
    instance_replace::INSTANCE_REPLACE,
    port_close::PORT_CLOSE,
];

/// Makes an effect of an account.
type Make = fn(&Arc<Clients>) -> Arc<dyn Effect>;

/// What carries actions out in this account, by the slug of the action. Makes clients; nothing is called yet.
///
/// # Errors
/// An account that cannot be used as it is written.
pub async fn effects(account: &Account) -> Result<BTreeMap<&'static str, Arc<dyn Effect>>, PortError> {
    let clients = Clients::new(account).await?;
    let clients = Arc::new(clients);
    Ok(CATALOG.iter().map(|(action, make)| (*action, make(&clients))).collect())
}

/// The answer to who wants back what cannot be taken back.
pub(crate) fn irreversible(action: &str) -> PortError {
    PortError::permanent(format!("{action} cannot be taken back"))
}

/// Configuration for this account's clients: bounded waits, retries by the SDK.
pub async fn configuration(account: &Account) -> SdkConfig {
    let http = aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
    let timeouts = aws_config::timeout::TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(5))
        .operation_timeout(Duration::from_secs(30))
        .build();
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .http_client(http)
        .timeout_config(timeouts)
        .region(Region::new(account.region.clone()));
    if let Some(endpoint) = &account.endpoint_url {
        loader = loader.endpoint_url(endpoint);
    }
    if let Some(profile) = &account.profile {
        loader = loader.profile_name(profile);
    }
    loader.load().await
}
