//! AWS Security Hub: takes findings in its own format (ASFF), and is told which of them are over.
//!
//! `BatchImportFindings` knows a finding by product and id: the same one again changes it, so that a repeat changes nothing. It
//! cannot set what people set there, the workflow: `BatchUpdateFindings` does. Both tell of each finding whether it was taken.
//!
//! Where AWS differs from the simulator: a finding is deleted 90 days after its last change, and what was imported a moment ago may
//! not be there yet for an update.

use std::collections::HashMap;

use aws_sdk_securityhub::Client;
use aws_sdk_securityhub::types::{
    AwsSecurityFinding, AwsSecurityFindingIdentifier, NoteUpdate, RecordState, Resource, Severity, SeverityLabel,
    WorkflowStatus, WorkflowUpdate,
};
use sakimori_model::Timestamp;
use sakimori_respond::ports::PortError;
use tokio::sync::OnceCell;

use super::problem::problem;
use super::{Account, configuration, partition};

/// What it needs.
pub const PERMISSIONS: &[&str] = &["securityhub:BatchImportFindings", "securityhub:BatchUpdateFindings"];
/// Longest title, in characters.
pub const MOST_TITLE: usize = 256;
/// Longest description, in characters.
pub const MOST_DESCRIPTION: usize = 1_024;
/// Longest note, in characters.
pub const MOST_NOTE: usize = 512;
/// Longest value of a product field, in characters.
pub const MOST_FIELD: usize = 2_048;

/// Security Hub of an account and region.
#[derive(Debug)]
pub struct Hub {
    account: Account,
    number: String,
    product: String,
    client: OnceCell<Client>,
}

/// A finding.
#[derive(Clone, Debug)]
pub struct Finding {
    /// Its id: the same for every repeat.
    pub id: String,
    /// Which rule found it.
    pub generator: String,
    /// One line, not empty.
    pub title: String,
    /// What there is to say, not empty.
    pub description: String,
    /// `INFORMATIONAL`, `LOW`, `MEDIUM`, `HIGH` or `CRITICAL`.
    pub severity: &'static str,
    /// Of AWS's taxonomy: `TTPs/Initial Access`.
    pub kind: &'static str,
    /// When it was found.
    pub created: Timestamp,
    /// When it changed last.
    pub updated: Timestamp,
    /// Type and id of what it is about: `AwsEc2Instance` and its ARN, or `Other` and a name.
    pub resource: (&'static str, String),
    /// What else is known, by names of our own.
    pub fields: Vec<(String, String)>,
    /// Shown to nobody: a test.
    pub archived: bool,
}

impl Hub {
    /// Security Hub in this account; nothing is called yet. Findings are those of the account's own product.
    ///
    /// # Errors
    /// The account's number is not configured, which findings have to name.
    pub fn new(account: Account) -> Result<Self, String> {
        let number =
            account.account_id.clone().ok_or("cloud.accounts.<name>.account_id is missing: findings name it")?;
        let region = &account.region;
        let product = format!("arn:{}:securityhub:{region}:{number}:product/{number}/default", partition(region));
        Ok(Self { account, number, product, client: OnceCell::new() })
    }

    /// The ARN of an instance of the account and region that are known of it; of this account's where one is not.
    pub fn instance(&self, account: &str, region: &str, id: &str) -> String {
        let is_number = account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit());
        let number = if is_number { account } else { &self.number };
        let region = if region.is_empty() { &self.account.region } else { region };
        format!("arn:{}:ec2:{region}:{number}:instance/{id}", partition(region))
    }

    async fn client(&self) -> &Client {
        self.client.get_or_init(|| async { Client::new(&configuration(&self.account).await) }).await
    }

    fn form(&self, finding: &Finding) -> AwsSecurityFinding {
        let (kind, id) = &finding.resource;
        let resource = Resource::builder().r#type(*kind).id(id).region(&self.account.region).build();
        let label = SeverityLabel::from(finding.severity);
        let state = if finding.archived { RecordState::Archived } else { RecordState::Active };
        let fields: HashMap<String, String> = finding.fields.iter().cloned().collect();
        AwsSecurityFinding::builder()
            .schema_version("2018-10-08")
            .id(&finding.id)
            .product_arn(&self.product)
            .product_name("Sakimori")
            .company_name("Sakimori")
            .region(&self.account.region)
            .generator_id(&finding.generator)
            .aws_account_id(&self.number)
            .types(finding.kind)
            .created_at(finding.created.to_string())
            .updated_at(finding.updated.to_string())
            .severity(Severity::builder().label(label).build())
            .title(&finding.title)
            .description(&finding.description)
            .set_product_fields((!fields.is_empty()).then_some(fields))
            .resources(resource)
            .record_state(state)
            .build()
    }

    /// Imports a finding, or changes the one of this id.
    ///
    /// # Errors
    /// What AWS said of it.
    pub async fn import(&self, finding: &Finding) -> Result<(), PortError> {
        let call = "securityhub:BatchImportFindings";
        let sent = self.client().await.batch_import_findings().findings(self.form(finding)).send().await;
        let answer = sent.map_err(|error| problem(call, &error))?;
        match answer.failed_findings().first() {
            None => Ok(()),
            Some(failed) => {
                let (code, message) = (failed.error_code().unwrap_or_default(), failed.error_message());
                Err(said(call, code, message.unwrap_or_default()))
            }
        }
    }

    /// Sets a finding's workflow to RESOLVED, with a note.
    ///
    /// # Errors
    /// What AWS said of it.
    pub async fn resolve(&self, id: &str, note: &str, by: &str) -> Result<(), PortError> {
        let call = "securityhub:BatchUpdateFindings";
        let wrong = |error: &dyn std::fmt::Display| PortError::permanent(format!("{call}: {error}"));
        let one = AwsSecurityFindingIdentifier::builder().id(id).product_arn(&self.product);
        let note = NoteUpdate::builder().text(note).updated_by(by).build();
        let update = self.client().await.batch_update_findings().finding_identifiers(one.build());
        let update = update.note(note).workflow(WorkflowUpdate::builder().status(WorkflowStatus::Resolved).build());
        let answer = update.send().await.map_err(|error| problem(call, &error))?;
        match answer.unprocessed_findings().first() {
            None if answer.processed_findings().is_empty() => Err(wrong(&"it said nothing of the finding")),
            None => Ok(()),
            Some(failed) => {
                let (code, message) = (failed.error_code().unwrap_or_default(), failed.error_message());
                Err(said(call, code, message.unwrap_or_default()))
            }
        }
    }
}

/// What was said of a single finding. One that is not there may have been imported a moment ago.
fn said(call: &str, code: &str, message: &str) -> PortError {
    let reason = format!("{call}: {code} {message}");
    match code {
        "InternalFailure" | "InternalException" | "ConcurrentUpdateError" | "FindingNotFound" | "Throttling" => {
            PortError::transient(reason)
        }
        _ => PortError::permanent(reason),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_are_of_the_accounts_own_product_in_its_partition() {
        let account = Account { region: "cn-north-1".into(), account_id: Some("1".repeat(12)), ..Account::default() };
        let hub = Hub::new(account.clone()).unwrap();
        assert_eq!(hub.product, "arn:aws-cn:securityhub:cn-north-1:111111111111:product/111111111111/default");
        assert_eq!(hub.instance("", "", "i-1"), "arn:aws-cn:ec2:cn-north-1:111111111111:instance/i-1");
        let other = hub.instance("222222222222", "us-east-1", "i-1");
        assert_eq!(other, "arn:aws:ec2:us-east-1:222222222222:instance/i-1", "of another account than the findings");
        assert!(hub.instance("no number :/", "us-east-1", "i-1").contains(":111111111111:"));
        assert!(Hub::new(Account { account_id: None, ..account }).unwrap_err().contains("account_id"));
    }
}
