//! An account: where and as whom to speak, and the configuration that all its clients share.
//!
//! Credentials come from AWS's own chain (environment, profile, web identity, container, instance role); with a role they
//! are those of the role, made anew before they end. Nothing secret is in an [`Account`], and none of it is logged.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::retry::RetryConfig;
use aws_config::sts::AssumeRoleProvider;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_runtime::env_config::file::{EnvConfigFileKind, EnvConfigFiles};
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use aws_smithy_http_client::{Builder, Connector};
use aws_smithy_runtime_api::client::http::{HttpConnectorSettings, SharedHttpClient};
use aws_types::origin::Origin;
use aws_types::sdk_config::SharedCredentialsProvider;
use aws_types::service_config::{LoadServiceConfig, ServiceConfigKey};
use sakimori_respond::ports::PortError;

/// Name of our sessions of a role, which AWS's own log shows.
const SESSION: &str = "sakimori";
/// Most attempts at one call, the first one counted. They are behind one another with growing pauses; the caller waits
/// longer before it tries again.
const ATTEMPTS: u32 = 4;
/// Longest pause between two attempts, and for one attempt, and for all of a call.
const PAUSE: Duration = Duration::from_secs(5);
const ATTEMPT: Duration = Duration::from_secs(10);
const CALL: Duration = Duration::from_secs(30);

/// Where and as whom to speak. Credentials come from AWS's own chain (environment, profile, instance role).
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Account {
    /// `ap-northeast-1`; for a CloudFront web ACL `us-east-1`.
    pub region: String,
    /// Another endpoint than AWS's own, for all services: a simulator.
    pub endpoint_url: Option<String>,
    /// Other endpoints for single services, by AWS's name of the service (`s3`, `wafv2`, `sts`, `auto-scaling`): VPC
    /// endpoints.
    pub endpoints: BTreeMap<String, String>,
    /// Profile of the shared configuration, where not the default.
    pub profile: Option<String>,
    /// A shared credentials file of AWS, which then counts alone.
    pub credentials_file: Option<PathBuf>,
    /// AWS's number of the account, by which events name it.
    pub account_id: Option<String>,
    /// The role in this account as which to act.
    pub role_arn: Option<String>,
    /// What its trust policy asks of us beside who we are.
    pub external_id: Option<String>,
    /// An HTTP proxy for everything, `http://proxy.example:3128`; where absent `HTTPS_PROXY` and `NO_PROXY` of the
    /// environment count.
    pub proxy: Option<String>,
}

impl Account {
    /// Is this service spoken to at another endpoint than AWS's own?
    pub(crate) fn elsewhere(&self, service: &str) -> bool {
        self.endpoint_url.is_some() || self.endpoints.keys().any(|name| plain(name) == service)
    }

    /// Is it written so that it can be used?
    ///
    /// # Errors
    /// What is wrong, and what would be right.
    pub fn check(&self) -> Result<(), PortError> {
        let wrong = |name: &str, says: &str| Err(PortError::permanent(format!("cloud.accounts.<name>.{name} {says}")));
        if self.region.is_empty() {
            return wrong("region", "is missing, like ap-northeast-1");
        }
        let role = |arn: &String| arn.split(':').count() != 6 || !arn.starts_with("arn:") || !arn.contains(":role/");
        if self.role_arn.as_ref().is_some_and(role) {
            return wrong("role_arn", "is no ARN of a role, like arn:aws:iam::123456789012:role/sakimori");
        }
        if self.external_id.is_some() && self.role_arn.is_none() {
            return wrong("external_id", "is for a role: write role_arn too");
        }
        let number = |text: &String| text.len() != 12 || !text.bytes().all(|b| b.is_ascii_digit());
        if self.account_id.as_ref().is_some_and(number) {
            return wrong("account_id", "is a number of twelve digits, in quotes");
        }
        let url = |url: &&String| !url.starts_with("http://") && !url.starts_with("https://");
        if self.endpoint_url.iter().chain(self.endpoints.values()).any(|one| url(&one)) {
            return wrong("endpoint_url", "and endpoints begin with https:// (or http://, which hides nothing)");
        }
        match self.proxy.as_ref().map(ProxyConfig::all) {
            Some(Err(_)) => wrong("proxy", "is no address of a proxy, like http://proxy.example:3128"),
            _ => Ok(()),
        }
    }
}

/// The partition of a region: `aws`, `aws-cn`, `aws-us-gov`, …
pub fn partition(region: &str) -> &'static str {
    const BY_PREFIX: &[(&str, &str)] = &[
        ("cn-", "aws-cn"),
        ("us-gov-", "aws-us-gov"),
        ("us-isob-", "aws-iso-b"),
        ("us-isof-", "aws-iso-f"),
        ("us-iso-", "aws-iso"),
        ("eu-isoe-", "aws-iso-e"),
        ("eusc-", "aws-eusc"),
    ];
    BY_PREFIX.iter().find(|(prefix, _)| region.starts_with(prefix)).map_or("aws", |(_, partition)| partition)
}

/// Configuration for this account's clients: bounded waits, retries by the SDK within its budget (a client that is throttled
/// runs out of retries, and does not add to the flood), the account's role.
pub async fn configuration(account: &Account) -> SdkConfig {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(5))
        .operation_attempt_timeout(ATTEMPT)
        .operation_timeout(CALL)
        .build();
    let http = http(account.proxy.clone());
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .http_client(http.clone())
        .timeout_config(timeouts)
        .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS).with_max_backoff(PAUSE))
        .region(Region::new(account.region.clone()));
    if let Some(endpoint) = &account.endpoint_url {
        loader = loader.endpoint_url(endpoint);
    }
    if let Some(profile) = &account.profile {
        loader = loader.profile_name(profile);
    }
    if let Some(file) = &account.credentials_file {
        let files = EnvConfigFiles::builder().with_file(EnvConfigFileKind::Credentials, file).build();
        let setting = ProviderConfig::without_region().with_http_client(http);
        let mut provider = ProfileFileCredentialsProvider::builder().configure(&setting).profile_files(files);
        if let Some(profile) = &account.profile {
            provider = provider.profile_name(profile);
        }
        loader = loader.credentials_provider(provider.build());
    }
    let mut config = loader.load().await;
    if !account.endpoints.is_empty() {
        let endpoints = account.endpoints.iter().map(|(name, url)| (plain(name), url.clone())).collect();
        let mut builder = config.into_builder().service_config(Endpoints(endpoints));
        // Else the SDK would not ask for a service's own where there is one for all.
        builder.insert_origin("endpoint_url", Origin::unknown());
        config = builder.build();
    }
    let Some(role) = &account.role_arn else { return config };
    let mut provider = AssumeRoleProvider::builder(role).session_name(SESSION).configure(&config);
    if let Some(id) = &account.external_id {
        provider = provider.external_id(id);
    }
    // Kept by the configuration's cache until shortly before they end.
    let provider = SharedCredentialsProvider::new(provider.build().await);
    config.into_builder().credentials_provider(provider).build()
}

fn http(proxy: Option<String>) -> SharedHttpClient {
    Builder::new().build_with_connector_fn(move |settings: Option<&HttpConnectorSettings>, _| {
        let proxy = proxy.as_ref().and_then(|url| ProxyConfig::all(url).ok()).unwrap_or_else(ProxyConfig::from_env);
        let mut connector = Connector::builder().tls_provider(Provider::Rustls(CryptoMode::Ring)).proxy_config(proxy);
        connector.set_connector_settings(settings.cloned());
        connector.build()
    })
}

/// Endpoints of single services; others are the account's, or AWS's own.
#[derive(Debug)]
struct Endpoints(BTreeMap<String, String>);

impl LoadServiceConfig for Endpoints {
    fn load_config(&self, key: ServiceConfigKey<'_>) -> Option<String> {
        if key.profile() != "endpoint_url" {
            return None;
        }
        self.0.get(&plain(key.service_id())).cloned()
    }
}

/// `Auto Scaling`, `auto-scaling` and `autoscaling` are one.
fn plain(service: &str) -> String {
    service.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account() -> Account {
        Account { region: "eu-west-1".into(), ..Account::default() }
    }

    #[test]
    fn what_cannot_work_is_said_with_what_would_be_right() {
        assert_eq!(account().check(), Ok(()));
        let says = |account: Account| account.check().unwrap_err().to_string();
        assert!(says(Account::default()).contains("region is missing"));
        let some = |text: &str| Some(text.to_owned());
        assert!(says(Account { role_arn: some("sakimori"), ..account() }).contains("arn:aws:iam"));
        assert!(says(Account { external_id: some("x"), ..account() }).contains("write role_arn"));
        assert!(says(Account { account_id: some("12345"), ..account() }).contains("twelve digits"));
        assert!(says(Account { endpoint_url: some("localhost:4566"), ..account() }).contains("https://"));
        assert!(says(Account { proxy: some("::"), ..account() }).contains("proxy"));
        let role = some("arn:aws-cn:iam::123456789012:role/path/sakimori");
        let all = Account { role_arn: role, external_id: some("x"), account_id: some("123456789012"), ..account() };
        assert_eq!(all.check(), Ok(()));
    }

    #[test]
    fn the_partition_is_the_regions() {
        for (region, is) in [("ap-northeast-1", "aws"), ("cn-north-1", "aws-cn"), ("us-gov-west-1", "aws-us-gov")] {
            assert_eq!(partition(region), is);
        }
        assert_eq!((partition("us-iso-east-1"), partition("us-isob-east-1")), ("aws-iso", "aws-iso-b"));
    }

    #[test]
    fn an_endpoint_is_of_its_service_alone_however_it_is_spelt() {
        let endpoints = Endpoints([(plain("auto-scaling"), "https://a".to_owned())].into());
        let key =
            |service| ServiceConfigKey::builder().service_id(service).profile("endpoint_url").env("X").build().unwrap();
        assert_eq!(endpoints.load_config(key("Auto Scaling")).as_deref(), Some("https://a"));
        assert_eq!(endpoints.load_config(key("S3")), None);
    }
}
