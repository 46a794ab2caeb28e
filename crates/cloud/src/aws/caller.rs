//! Who we are in an account: `sts:GetCallerIdentity`, which needs no right and tells account, partition and role.

use aws_config::SdkConfig;
use aws_sdk_sts::Client;
use sakimori_respond::actions::bucket_deny::Caller;
use sakimori_respond::ports::PortError;

use super::problem::problem;

/// Asks.
///
/// # Errors
/// No credentials, no answer.
pub(crate) async fn caller(config: &SdkConfig) -> Result<Caller, PortError> {
    Caller::parse(&arn(config).await?).map_err(PortError::permanent)
}

/// The ARN as whom we act.
///
/// # Errors
/// No credentials, no answer.
pub(crate) async fn arn(config: &SdkConfig) -> Result<String, PortError> {
    let answer = Client::new(config).get_caller_identity().send().await;
    let answer = answer.map_err(|error| problem("sts:GetCallerIdentity", &error))?;
    answer.arn.ok_or_else(|| PortError::transient("sts:GetCallerIdentity: an answer without an ARN"))
}
