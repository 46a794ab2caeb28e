//! Amazon S3: a bucket is closed to the public, or a statement of its policy denies it to all but its administrators; and
//! back.
//!
//! Where AWS differs from the simulator: a bucket is asked in its own region (the input `region`), and only where it belongs
//! to the account; settings count everywhere after some seconds. The account's own block of public access, which can close
//! all buckets at once, is not touched.

use std::sync::Arc;

use aws_sdk_s3::Client;
use aws_sdk_s3::types::PublicAccessBlockConfiguration;
use sakimori_model::Order;
use sakimori_respond::actions::bucket_close::{self, CLOSED, Flags, bucket};
use sakimori_respond::actions::bucket_deny::{self, Back};
use sakimori_respond::former::{self, input, own_name};
use sakimori_respond::ports::{Look, PortError, Progress};

use super::Make;
use super::caller::caller;
use super::clients::Clients;
use super::problem::{code, problem};
use super::steps::{Of, Steps, done, remarked};

/// `bucket_close`.
pub(super) const CLOSE: (&str, Make) = (bucket_close::ID, |clients| Arc::new(Of(Close(Arc::clone(clients)))));
/// `bucket_deny`.
pub(super) const DENY: (&str, Make) = (bucket_deny::ID, |clients| Arc::new(Of(Deny(Arc::clone(clients)))));

struct Close(Arc<Clients>);
struct Deny(Arc<Clients>);

/// A bucket that was asked for something that it may have or not.
enum Asked<T> {
    Has(T),
    HasNot,
    NoBucket,
}

/// A client that finds buckets by their path at endpoints other than AWS's own, which have no name for each.
fn client(clients: &Clients, order: &Order) -> Client {
    let config = clients.of(order);
    let by_path = clients.elsewhere("s3");
    Client::from_conf(aws_sdk_s3::config::Builder::from(&config).force_path_style(by_path).build())
}

fn gone(bucket: &str) -> String {
    format!("there is no bucket {bucket} in this account")
}

impl Close {
    async fn flags(&self, client: &Client, bucket: &str) -> Result<Asked<Flags>, PortError> {
        let sent = client.get_public_access_block().bucket(bucket).set_expected_bucket_owner(self.0.owner());
        let answer = match sent.send().await {
            Ok(answer) => answer,
            Err(error) if code(&error) == Some("NoSuchPublicAccessBlockConfiguration") => return Ok(Asked::HasNot),
            Err(error) if code(&error) == Some("NoSuchBucket") => return Ok(Asked::NoBucket),
            Err(error) => return Err(problem("s3:GetBucketPublicAccessBlock", &error)),
        };
        let Some(found) = answer.public_access_block_configuration else { return Ok(Asked::HasNot) };
        Ok(Asked::Has(Flags {
            block_acls: found.block_public_acls.unwrap_or(false),
            ignore_acls: found.ignore_public_acls.unwrap_or(false),
            block_policy: found.block_public_policy.unwrap_or(false),
            restrict: found.restrict_public_buckets.unwrap_or(false),
        }))
    }

    async fn put(&self, client: &Client, bucket: &str, flags: Flags) -> Result<Progress, PortError> {
        let config = PublicAccessBlockConfiguration::builder()
            .block_public_acls(flags.block_acls)
            .ignore_public_acls(flags.ignore_acls)
            .block_public_policy(flags.block_policy)
            .restrict_public_buckets(flags.restrict)
            .build();
        let put = client.put_public_access_block().bucket(bucket).set_expected_bucket_owner(self.0.owner());
        let sent = put.public_access_block_configuration(config).send().await;
        sent.map_err(|error| problem("s3:PutBucketPublicAccessBlock", &error))?;
        done()
    }
}

impl Steps for Close {
    async fn look(&self, order: &Order) -> Result<Look, PortError> {
        let bucket = bucket(order).map_err(PortError::permanent)?;
        let flags = match self.flags(&client(&self.0, order), bucket).await? {
            Asked::NoBucket => return Ok(Look::NoEffect(gone(bucket))),
            Asked::Has(CLOSED) => {
                return Ok(Look::NoEffect(format!("the bucket {bucket} is closed to the public already")));
            }
            Asked::Has(flags) => Some(flags),
            Asked::HasNot => None,
        };
        Ok(Look::Ready {
            would: vec![format!(
                "block public access of the bucket {bucket}: by policies and by lists of access, old and new"
            )],
            former: former::write(&bucket_close::Former { flags }),
        })
    }

    async fn apply(&self, order: &Order, _: &str) -> Result<Progress, PortError> {
        let bucket = bucket(order).map_err(PortError::permanent)?;
        let client = client(&self.0, order);
        match self.flags(&client, bucket).await? {
            Asked::Has(CLOSED) => done(),
            Asked::NoBucket => Err(PortError::permanent(gone(bucket))),
            _ => self.put(&client, bucket, CLOSED).await,
        }
    }

    async fn verify(&self, order: &Order, _: &str) -> Result<Option<String>, PortError> {
        let bucket = bucket(order).map_err(PortError::permanent)?;
        let closed = matches!(self.flags(&client(&self.0, order), bucket).await?, Asked::Has(CLOSED));
        Ok((!closed).then(|| format!("the bucket {bucket} is not closed to the public")))
    }

    async fn undo(&self, order: &Order, former: &str) -> Result<Progress, PortError> {
        let bucket = bucket(order).map_err(PortError::permanent)?;
        let former: bucket_close::Former = former::read(&order.action, former).map_err(PortError::permanent)?;
        let client = client(&self.0, order);
        let now = match self.flags(&client, bucket).await? {
            Asked::NoBucket => return remarked(format!("the bucket {bucket} was deleted meanwhile")),
            Asked::HasNot => None,
            Asked::Has(flags) => Some(flags),
        };
        match (now, former.flags) {
            // Written also where it is read as before already: the configuration of a bucket may be read late.
            (now, Some(flags)) if now == Some(CLOSED) || now == Some(flags) => self.put(&client, bucket, flags).await,
            (Some(CLOSED) | None, None) => {
                let delete = client.delete_public_access_block().bucket(bucket);
                let sent = delete.set_expected_bucket_owner(self.0.owner()).send().await;
                sent.map_err(|error| problem("s3:PutBucketPublicAccessBlock", &error))?;
                done()
            }
            _ => remarked(format!("somebody changed the block of public access of {bucket} meanwhile; that is kept")),
        }
    }
}

impl Deny {
    async fn policy(&self, client: &Client, bucket: &str) -> Result<Asked<String>, PortError> {
        let sent = client.get_bucket_policy().bucket(bucket).set_expected_bucket_owner(self.0.owner()).send().await;
        match sent {
            Ok(answer) => Ok(answer.policy.map_or(Asked::HasNot, Asked::Has)),
            Err(error) if code(&error) == Some("NoSuchBucketPolicy") => Ok(Asked::HasNot),
            Err(error) if code(&error) == Some("NoSuchBucket") => Ok(Asked::NoBucket),
            Err(error) => Err(problem("s3:GetBucketPolicy", &error)),
        }
    }

    async fn put(&self, client: &Client, bucket: &str, policy: &str) -> Result<(), PortError> {
        let put = client.put_bucket_policy().bucket(bucket).set_expected_bucket_owner(self.0.owner());
        let sent = put.policy(policy).send().await;
        sent.map(drop).map_err(|error| problem("s3:PutBucketPolicy", &error))
    }
}

impl Steps for Deny {
    async fn look(&self, order: &Order) -> Result<Look, PortError> {
        let bucket = bucket(order).map_err(PortError::permanent)?;
        let policy = match self.policy(&client(&self.0, order), bucket).await? {
            Asked::NoBucket => return Ok(Look::NoEffect(gone(bucket))),
            Asked::Has(policy) => Some(policy),
            Asked::HasNot => None,
        };
        // A policy's own names have letters and digits only.
        let sid = own_name("deny", order).replace('-', "");
        let (deny, administrators) = (input(order, bucket_deny::DENY), input(order, bucket_deny::ADMINISTRATORS));
        let caller = caller(&self.0.of(order)).await?;
        let statement =
            bucket_deny::statement(bucket, &sid, deny, administrators, &caller).map_err(PortError::permanent)?;
        if let Err(reason) = bucket_deny::with(policy.as_deref(), &statement) {
            return Ok(Look::Refused(reason));
        }
        let what = if deny == Some("all") { "everything in" } else { "reading" };
        let spared = statement.pointer("/Condition/StringNotLike/aws:PrincipalArn").map(ToString::to_string);
        Ok(Look::Ready {
            would: vec![format!(
                "deny {what} the bucket {bucket} to everybody but AWS's services and {}",
                spared.unwrap_or_default()
            )],
            former: former::write(&bucket_deny::Former { policy, statement }),
        })
    }

    async fn apply(&self, order: &Order, former: &str) -> Result<Progress, PortError> {
        let bucket = bucket(order).map_err(PortError::permanent)?;
        let former: bucket_deny::Former = former::read(&order.action, former).map_err(PortError::permanent)?;
        let client = client(&self.0, order);
        // Into the policy as it is now: what somebody changed since the look is kept.
        let now = match self.policy(&client, bucket).await? {
            Asked::NoBucket => return Err(PortError::permanent(gone(bucket))),
            Asked::Has(policy) => Some(policy),
            Asked::HasNot => None,
        };
        if !bucket_deny::holds(now.as_deref(), &former.statement) {
            let whole = bucket_deny::with(now.as_deref(), &former.statement).map_err(PortError::permanent)?;
            self.put(&client, bucket, &whole).await?;
        }
        done()
    }

    async fn verify(&self, order: &Order, former: &str) -> Result<Option<String>, PortError> {
        let bucket = bucket(order).map_err(PortError::permanent)?;
        let former: bucket_deny::Former = former::read(&order.action, former).map_err(PortError::permanent)?;
        let now = self.policy(&client(&self.0, order), bucket).await?;
        let holds = matches!(now, Asked::Has(policy) if bucket_deny::holds(Some(&policy), &former.statement));
        Ok((!holds).then(|| format!("the policy of the bucket {bucket} does not have the statement")))
    }

    async fn undo(&self, order: &Order, former: &str) -> Result<Progress, PortError> {
        let bucket = bucket(order).map_err(PortError::permanent)?;
        let former: bucket_deny::Former = former::read(&order.action, former).map_err(PortError::permanent)?;
        let client = client(&self.0, order);
        let now = match self.policy(&client, bucket).await? {
            Asked::NoBucket => return remarked(format!("the bucket {bucket} was deleted meanwhile")),
            Asked::Has(policy) => Some(policy),
            Asked::HasNot => None,
        };
        let kept = format!("somebody changed the policy of {bucket} meanwhile; that is kept");
        match bucket_deny::without(now.as_deref(), &former).map_err(PortError::permanent)? {
            Back::Nothing { as_before: true } => done(),
            Back::Nothing { as_before: false } => remarked(kept),
            Back::Put { policy, changed } => {
                self.put(&client, bucket, &policy).await?;
                if changed { remarked(kept) } else { done() }
            }
            Back::Delete => {
                let delete = client.delete_bucket_policy().bucket(bucket).set_expected_bucket_owner(self.0.owner());
                delete.send().await.map_err(|error| problem("s3:DeleteBucketPolicy", &error))?;
                done()
            }
        }
    }
}
