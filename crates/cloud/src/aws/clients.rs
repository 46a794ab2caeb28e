//! The configuration of one account's clients, in the region that an order names. Clients are made from it for each call:
//! that is cheap, and connections and credentials are shared.

use aws_config::retry::RetryConfig;
use aws_config::{Region, SdkConfig};
use aws_sdk_iam::config::ProvideCredentials;
use sakimori_model::Order;
use sakimori_respond::actions::REGION;
use sakimori_respond::ports::PortError;

use super::web_acls::Pace;
use super::{Account, configuration};

/// What the clients of an account share.
#[derive(Debug)]
pub(crate) struct Clients {
    config: SdkConfig,
    account: Account,
    waf_pace: Pace,
}

impl Clients {
    /// Reads the configuration; nothing is called yet.
    ///
    /// # Errors
    /// An account that cannot be used as it is written.
    pub(crate) async fn new(account: &Account) -> Result<Self, PortError> {
        account.check()?;
        let config = configuration(account).await;
        Ok(Self { config, account: account.clone(), waf_pace: Pace::default() })
    }

    /// The account's number where it is configured: who must own a bucket that is changed.
    pub(super) fn owner(&self) -> Option<String> {
        self.account.account_id.clone()
    }

    /// Is this the access key with which the account is asked? One by which a role is taken on is not known here.
    pub(super) async fn is_own(&self, key: &str) -> bool {
        let provider = self.config.credentials_provider().filter(|_| self.account.role_arn.is_none());
        match provider {
            Some(provider) => provider.provide_credentials().await.is_ok_and(|own| own.access_key_id() == key),
            None => false,
        }
    }

    /// Is this service spoken to at another endpoint than AWS's own?
    pub(super) fn elsewhere(&self, service: &str) -> bool {
        self.account.elsewhere(service)
    }

    /// What all changes of AWS WAF in this account wait for.
    pub(super) fn waf_pace(&self) -> Pace {
        self.waf_pace.clone()
    }

    /// The configuration for this order: in its region, or the account's.
    pub(crate) fn of(&self, order: &Order) -> SdkConfig {
        match order.inputs.get(REGION).filter(|region| !region.is_empty()) {
            Some(region) => self.config.to_builder().region(Region::new(region.clone())).build(),
            None => self.config.clone(),
        }
    }

    /// As [`Self::of`], for calls that the SDK must not repeat by itself: what was carried out and whose answer was lost
    /// would be carried out twice. The driver tries again, and looks first.
    pub(crate) fn once(&self, order: &Order) -> SdkConfig {
        self.of(order).to_builder().retry_config(RetryConfig::disabled()).build()
    }
}
