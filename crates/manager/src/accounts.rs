//! Which effects there are in which cloud account: what carries out the actions that are neither a message nor an entry of
//! the WAF's sets.

use std::collections::BTreeMap;
use std::sync::Arc;

use sakimori_cloud::aws;
use sakimori_model::Order;
use sakimori_respond::actions::{ACCOUNT, Descriptor};
use sakimori_respond::ports::{Effect, PortError};

/// The effects of one account, by the slug of their action.
pub type Effects = BTreeMap<&'static str, Arc<dyn Effect>>;

/// The accounts of the configuration.
#[derive(Default)]
pub struct Accounts(BTreeMap<String, (aws::Account, Effects)>);

impl Accounts {
    /// Makes the clients of these accounts; nothing is called yet.
    ///
    /// # Errors
    /// An account that cannot be used as it is written.
    pub async fn open(accounts: &BTreeMap<String, aws::Account>) -> Result<Self, PortError> {
        let mut known = BTreeMap::new();
        for (name, account) in accounts {
            known.insert(name.clone(), (account.clone(), aws::effects(account).await?));
        }
        Ok(Self(known))
    }

    /// Accounts whose effects are these.
    pub fn of(accounts: impl IntoIterator<Item = (String, aws::Account, Effects)>) -> Self {
        Self(accounts.into_iter().map(|(name, account, effects)| (name, (account, effects))).collect())
    }

    /// Is none configured?
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What carries out this order: in the account that it names by our name or AWS's number, in the only one where it names
    /// none.
    ///
    /// # Errors
    /// There is none, with the remedy.
    pub fn effect(&self, order: &Order) -> Result<&Arc<dyn Effect>, String> {
        let named = order.inputs.get(ACCOUNT).filter(|name| !name.is_empty());
        let (_, effects) = match named {
            Some(named) => {
                let by_number = || self.0.values().find(|(account, _)| account.account_id.as_ref() == Some(named));
                let known = || self.0.keys().cloned().collect::<Vec<_>>().join(", ");
                self.0.get(named).or_else(by_number).ok_or_else(|| match self.0.is_empty() {
                    true => NONE.to_owned(),
                    false => format!(
                        "no account {named} is configured; known are {}; cloud.accounts.<name>.account_id ties one to AWS's \
                         number",
                        known()
                    ),
                })?
            }
            None if self.0.len() > 1 => {
                return Err("several accounts are configured, and neither event nor order names one".to_owned());
            }
            None => self.0.values().next().ok_or(NONE)?,
        };
        effects.get(order.action.as_str()).ok_or_else(|| format!("no account carries out {}", order.action))
    }
}

const NONE: &str = "cloud actions are off until cloud.accounts.<name> is configured";

/// Is this action carried out by an account's effect?
pub fn carries(known: &Descriptor) -> bool {
    known.runs == sakimori_respond::actions::Runs::Account
}
