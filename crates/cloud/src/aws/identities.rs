//! AWS IAM: an inline policy of ours on a user or a role, which revokes sessions or denies everything; and it is taken off.
//!
//! Where AWS differs from the simulator: a policy is in force everywhere only after some seconds; roles of AWS's own services
//! cannot be changed. The identity as which the manager itself acts is refused: it could not take it back.

use std::sync::Arc;

use aws_sdk_iam::Client;
use aws_sdk_iam::error::{ProvideErrorMetadata, SdkError};
use sakimori_model::{Order, Timestamp};
use sakimori_respond::actions::identity::{self, Former, Identity, same_policy};
use sakimori_respond::actions::{identity_quarantine, sessions_revoke};
use sakimori_respond::former::{self, PREFIX, own_name};
use sakimori_respond::ports::{Look, PortError, Progress};

use super::Make;
use super::caller::caller;
use super::clients::Clients;
use super::problem::{code, problem};
use super::steps::{Of, Steps, done};

/// `sessions_revoke`.
pub(super) const REVOKE_SESSIONS: (&str, Make) =
    (sessions_revoke::ID, |clients| Arc::new(Of(PutPolicy { clients: Arc::clone(clients), what: What::Revoke })));
/// `identity_quarantine`.
pub(super) const QUARANTINE: (&str, Make) = (identity_quarantine::ID, |clients| {
    Arc::new(Of(PutPolicy { clients: Arc::clone(clients), what: What::Quarantine }))
});

#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Revoke,
    Quarantine,
}

struct PutPolicy {
    clients: Arc<Clients>,
    what: What,
}

/// The answer of a call, or none where the user, the role or the policy is not there.
fn found<T, E, R>(call: &str, sent: Result<T, SdkError<E, R>>) -> Result<Option<T>, PortError>
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
    R: std::fmt::Debug,
{
    match sent {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if code(&error) == Some("NoSuchEntity") => Ok(None),
        Err(error) => Err(problem(call, &error)),
    }
}

/// The path of a user or role; none where there is none.
async fn path(client: &Client, who: &Identity) -> Result<Option<String>, PortError> {
    match who {
        Identity::User(name) => {
            let answer = found("iam:GetUser", client.get_user().user_name(name).send().await)?;
            Ok(answer.and_then(|answer| answer.user.map(|user| user.path)))
        }
        Identity::Role(name) => {
            let answer = found("iam:GetRole", client.get_role().role_name(name).send().await)?;
            Ok(answer.and_then(|answer| answer.role.map(|role| role.path)))
        }
    }
}

/// Names of the inline policies. A user or role has few, so one page is all.
async fn names(client: &Client, who: &Identity) -> Result<Vec<String>, PortError> {
    Ok(match who {
        Identity::User(name) => {
            let sent = client.list_user_policies().user_name(name).max_items(1_000).send().await;
            found("iam:ListUserPolicies", sent)?.map(|answer| answer.policy_names).unwrap_or_default()
        }
        Identity::Role(name) => {
            let sent = client.list_role_policies().role_name(name).max_items(1_000).send().await;
            found("iam:ListRolePolicies", sent)?.map(|answer| answer.policy_names).unwrap_or_default()
        }
    })
}

/// What the inline policy of this name says; none where there is none.
async fn document(client: &Client, former: &Former) -> Result<Option<String>, PortError> {
    let encoded = match &former.identity {
        Identity::User(name) => {
            let sent = client.get_user_policy().user_name(name).policy_name(&former.policy).send().await;
            found("iam:GetUserPolicy", sent)?.map(|answer| answer.policy_document)
        }
        Identity::Role(name) => {
            let sent = client.get_role_policy().role_name(name).policy_name(&former.policy).send().await;
            found("iam:GetRolePolicy", sent)?.map(|answer| answer.policy_document)
        }
    };
    Ok(encoded.map(|text| decoded(&text)))
}

/// IAM answers with a policy as a part of a URL.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = (*first == b'%').then(|| after.get(..2).and_then(|two| std::str::from_utf8(two).ok())).flatten();
        match hex.and_then(|two| u8::from_str_radix(two, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

impl PutPolicy {
    fn words(&self, who: &Identity) -> Vec<String> {
        match (self.what, who) {
            (What::Quarantine, who) => vec![format!("deny {who} everything, by an inline policy")],
            (What::Revoke, Identity::Role(_)) => {
                vec![format!("deny everything to all sessions of {who} that began until now")]
            }
            (What::Revoke, Identity::User(_)) => vec![
                format!("deny everything to all temporary sessions of {who} that began until now"),
                format!(
                    "the access keys and the password of {who} go on working: access_key_deactivate and \
                         identity_quarantine are for those"
                ),
            ],
        }
    }
}

impl Steps for PutPolicy {
    async fn look(&self, order: &Order) -> Result<Look, PortError> {
        let config = self.clients.of(order);
        let client = Client::new(&config);
        let who = Identity::of(order).map_err(PortError::permanent)?;
        let Some(path) = path(&client, &who).await? else {
            return Ok(Look::NoEffect(format!(
                "there is no {} in this account",
                who.to_string().trim_start_matches("the ")
            )));
        };
        if path.starts_with("/aws-service-role/") {
            return Ok(Look::Refused(format!("{who} belongs to a service of AWS, which does not let it be changed")));
        }
        if caller(&config).await?.identity.as_ref() == Some(&who) {
            return Ok(Look::Refused(format!("the manager itself acts as {who}, and could not take it back")));
        }
        let (policy, document) = match self.what {
            What::Quarantine => (own_name(identity_quarantine::NAME, order), identity::deny_all()),
            What::Revoke => {
                let now =
                    config.time_source().map(|clock| clock.now()).ok_or_else(|| PortError::permanent("no clock"))?;
                let now = now.duration_since(std::time::UNIX_EPOCH).map(|since| since.as_secs()).unwrap_or_default();
                let now = Timestamp::from_secs(i64::try_from(now).unwrap_or(i64::MAX));
                (own_name("revoked", order), identity::deny_before(now))
            }
        };
        if self.what == What::Quarantine {
            let begins = format!("{PREFIX}{}-", identity_quarantine::NAME);
            if let Some(other) =
                names(&client, &who).await?.iter().find(|name| name.starts_with(&begins) && **name != policy)
            {
                return Ok(Look::NoEffect(format!("{who} is in quarantine already, by its inline policy {other}")));
            }
        }
        let former = former::write(&Former { identity: who.clone(), policy, document });
        Ok(Look::Ready { former, would: self.words(&who) })
    }

    async fn apply(&self, order: &Order, former: &str) -> Result<Progress, PortError> {
        let former: Former = former::read(&order.action, former).map_err(PortError::permanent)?;
        let client = Client::new(&self.clients.of(order));
        if document(&client, &former).await?.is_some_and(|now| same_policy(&now, &former.document)) {
            return done();
        }
        let Former { identity, policy, document } = &former;
        match identity {
            Identity::User(name) => {
                let put = client.put_user_policy().user_name(name).policy_name(policy).policy_document(document);
                put.send().await.map_err(|error| problem("iam:PutUserPolicy", &error))?;
            }
            Identity::Role(name) => {
                let put = client.put_role_policy().role_name(name).policy_name(policy).policy_document(document);
                put.send().await.map_err(|error| problem("iam:PutRolePolicy", &error))?;
            }
        }
        done()
    }

    async fn verify(&self, order: &Order, former: &str) -> Result<Option<String>, PortError> {
        let former: Former = former::read(&order.action, former).map_err(PortError::permanent)?;
        let now = document(&Client::new(&self.clients.of(order)), &former).await?;
        let holds = now.is_some_and(|now| same_policy(&now, &former.document));
        Ok((!holds).then(|| format!("{} has no inline policy {}", former.identity, former.policy)))
    }

    async fn undo(&self, order: &Order, former: &str) -> Result<Progress, PortError> {
        let Former { identity, policy, .. } = former::read(&order.action, former).map_err(PortError::permanent)?;
        let client = Client::new(&self.clients.of(order));
        // What is not there, neither policy nor identity, is what was wanted.
        match &identity {
            Identity::User(name) => {
                let sent = client.delete_user_policy().user_name(name).policy_name(&policy).send().await;
                found("iam:DeleteUserPolicy", sent)?;
            }
            Identity::Role(name) => {
                let sent = client.delete_role_policy().role_name(name).policy_name(&policy).send().await;
                found("iam:DeleteRolePolicy", sent)?;
            }
        }
        done()
    }
}

#[cfg(test)]
mod tests {
    use super::decoded;

    #[test]
    fn a_policy_comes_as_a_part_of_a_url() {
        assert_eq!(decoded("%7B%22a%22%3A%20%22%E3%81%82%22%7D"), r#"{"a": "あ"}"#);
        assert_eq!(decoded("a%zz%4"), "a%zz%4", "what is not encoded stays");
    }
}
