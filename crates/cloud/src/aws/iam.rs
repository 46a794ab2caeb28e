//! AWS IAM: a user's access key is deactivated, and activated again.
//!
//! Where AWS differs from the simulator: a change is seen by all regions only after some seconds, and a session that was
//! made with the key before goes on until it ends.

use std::sync::Arc;

use aws_sdk_iam::Client;
use aws_sdk_iam::types::StatusType;
use sakimori_model::Order;
use sakimori_respond::actions::access_key_deactivate::{self, Former};
use sakimori_respond::ports::{BoxFuture, Effect, Look, PortError, Progress};

use super::Make;
use super::clients::Clients;
use super::problem::{code, problem};

/// `access_key_deactivate`.
pub(super) const DEACTIVATE_KEY: (&str, Make) =
    (access_key_deactivate::ID, |clients| Arc::new(DeactivateKey(Arc::clone(clients))));

/// Most pages of an account's users that are looked through for a key.
const MAX_PAGES: usize = 500;

struct DeactivateKey(Arc<Clients>);

impl DeactivateKey {
    /// Whose key this is: what AWS last saw of it, which names the user also where it was never used.
    async fn owner(client: &Client, key: &str) -> Result<Option<String>, PortError> {
        match client.get_access_key_last_used().access_key_id(key).send().await {
            Ok(answer) => Ok(answer.user_name().map(str::to_owned)),
            Err(error) if code(&error) == Some("NoSuchEntity") => Ok(None),
            Err(error) => Err(problem("iam:GetAccessKeyLastUsed", &error)),
        }
    }

    async fn status(client: &Client, user: &str, key: &str) -> Result<Option<StatusType>, PortError> {
        let mut marker = None;
        for _ in 0..MAX_PAGES {
            let page = client.list_access_keys().user_name(user).set_marker(marker).send().await;
            let page = match page {
                Err(error) if code(&error) == Some("NoSuchEntity") => return Ok(None),
                page => page.map_err(|error| problem("iam:ListAccessKeys", &error))?,
            };
            if let Some(found) = page.access_key_metadata().iter().find(|one| one.access_key_id() == Some(key)) {
                return Ok(found.status().cloned());
            }
            marker = page.marker().map(str::to_owned);
            if !page.is_truncated() || marker.is_none() {
                break;
            }
        }
        Ok(None)
    }

    async fn set(client: &Client, former: &Former, key: &str, status: StatusType) -> Result<Progress, PortError> {
        if Self::status(client, &former.user, key).await?.as_ref() != Some(&status) {
            let sent = client.update_access_key().user_name(&former.user).access_key_id(key).status(status).send();
            sent.await.map_err(|error| problem("iam:UpdateAccessKey", &error))?;
        }
        Ok(Progress::Done { remark: None })
    }
}

impl Effect for DeactivateKey {
    fn look<'a>(&'a self, order: &'a Order) -> BoxFuture<'a, Result<Look, PortError>> {
        Box::pin(async move {
            let client = Client::new(&self.0.of(order));
            let key = access_key_deactivate::key(order).map_err(PortError::permanent)?;
            let Some(user) = Self::owner(&client, key).await? else {
                return Ok(Look::NoEffect(format!("no user of this account has the access key {key}")));
            };
            match Self::status(&client, &user, key).await? {
                Some(StatusType::Active) if self.0.is_own(key).await => Ok(Look::Refused(format!(
                    "the manager itself asks with the access key {key}, and could not take it back"
                ))),
                Some(StatusType::Active) => Ok(Look::Ready {
                    would: vec![format!("deactivate the access key {key} of the user {user}")],
                    former: access_key_deactivate::former(&user),
                }),
                Some(status) => Ok(Look::NoEffect(format!("the access key {key} of {user} is {status} already"))),
                None => Ok(Look::NoEffect(format!("{user} has no access key {key} any more"))),
            }
        })
    }

    fn apply<'a>(&'a self, order: &'a Order, former: &'a str) -> BoxFuture<'a, Result<Progress, PortError>> {
        Box::pin(async move {
            let key = access_key_deactivate::key(order).map_err(PortError::permanent)?;
            let former = access_key_deactivate::read(former).map_err(PortError::permanent)?;
            Self::set(&Client::new(&self.0.of(order)), &former, key, StatusType::Inactive).await
        })
    }

    fn verify<'a>(&'a self, order: &'a Order, former: &'a str) -> BoxFuture<'a, Result<Option<String>, PortError>> {
        Box::pin(async move {
            let key = access_key_deactivate::key(order).map_err(PortError::permanent)?;
            let former = access_key_deactivate::read(former).map_err(PortError::permanent)?;
            let status = Self::status(&Client::new(&self.0.of(order)), &former.user, key).await?;
            Ok((status == Some(StatusType::Active)).then(|| format!("the access key {key} is still active")))
        })
    }

    fn undo<'a>(&'a self, order: &'a Order, former: &'a str) -> BoxFuture<'a, Result<Progress, PortError>> {
        Box::pin(async move {
            let key = access_key_deactivate::key(order).map_err(PortError::permanent)?;
            let former = access_key_deactivate::read(former).map_err(PortError::permanent)?;
            let client = Client::new(&self.0.of(order));
            if Self::status(&client, &former.user, key).await?.is_none() {
                let remark = format!("the access key {key} of {} was deleted meanwhile", former.user);
                return Ok(Progress::Done { remark: Some(remark) });
            }
            Self::set(&client, &former, key, StatusType::Active).await
        })
    }
}
