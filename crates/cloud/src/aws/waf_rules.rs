//! AWS WAFv2: a rule of ours in web ACLs, which counts or blocks clients above a rate, or requests of a shape; and it is taken
//! out again.
//!
//! A web ACL can only be written as a whole: it is read with its lock token, and everything in it goes back as it was, but for
//! our rule; a lost race reads again. The rule comes last, so that what the operator's own rules allow or block stays so.
//!
//! Where AWS differs from the simulator: a change reaches all edges only after some seconds, a rate is estimated and counts
//! within half a minute or so, capacity is charged. A part of a web ACL that AWS invents after this SDK was made cannot be
//! sent back: update Sakimori before such a part is used.

use std::sync::Arc;

use aws_sdk_wafv2::Client;
use aws_sdk_wafv2::config::Region;
use aws_sdk_wafv2::error::BuildError;
use aws_sdk_wafv2::primitives::Blob;
use aws_sdk_wafv2::types::{
    BlockAction, ByteMatchStatement, CountAction, FallbackBehavior, FieldToMatch, ForwardedIpConfig,
    PositionalConstraint, QueryString, RateBasedStatement, RateBasedStatementAggregateKeyType, Rule, RuleAction, Scope,
    SingleHeader, SingleQueryArgument, Statement, TextTransformation, TextTransformationType, UriPath,
    VisibilityConfig,
};
use sakimori_model::Order;
use sakimori_respond::actions::waf_rate_rule::{self, RateRule};
use sakimori_respond::actions::waf_shape_rule::{self, Match, Part, ShapeRule};
use sakimori_respond::actions::web_acl::{Aim, Former, Mode, aim, fits};
use sakimori_respond::former::{self, own_name};
use sakimori_respond::ports::{Look, PortError, Progress};

use super::Make;
use super::clients::Clients;
use super::problem::problem;
use super::steps::{Of, Steps, done, remarked};
use super::web_acls::{Current, Fronts, Pace, Stands, blocks, list, once, read};

/// `waf_rate_rule`.
pub(super) const RATE: (&str, Make) = (waf_rate_rule::ID, |clients| Arc::new(Of(PutRule::new(clients, Kind::Rate))));
/// `waf_shape_rule`.
pub(super) const SHAPE: (&str, Make) = (waf_shape_rule::ID, |clients| Arc::new(Of(PutRule::new(clients, Kind::Shape))));

/// How often a change is tried, after a lost race or a failure that may go away, before the caller hears of it.
const RACES: u32 = 8;
/// The region of everything in front of CloudFront.
const GLOBAL: &str = "us-east-1";

#[derive(Clone, Copy)]
enum Kind {
    Rate,
    Shape,
}

struct PutRule {
    clients: Arc<Clients>,
    kind: Kind,
    pace: Pace,
    fronts: Fronts,
}

/// What an order asks for: a rule without a place.
struct Wanted {
    statement: Statement,
    mode: Mode,
    cost: i64,
    words: String,
}

impl PutRule {
    fn new(clients: &Arc<Clients>, kind: Kind) -> Self {
        Self { clients: Arc::clone(clients), kind, pace: clients.waf_pace(), fronts: Fronts::default() }
    }

    fn wanted(&self, order: &Order) -> Result<Wanted, PortError> {
        let built =
            |built: Result<Statement, BuildError>| built.map_err(|error| PortError::permanent(error.to_string()));
        Ok(match self.kind {
            Kind::Rate => {
                let rule = RateRule::of(order).map_err(PortError::permanent)?;
                let statement = built(rate(&rule))?;
                Wanted { statement, mode: rule.mode, cost: rule.cost(), words: rule.words() }
            }
            Kind::Shape => {
                let rule = ShapeRule::of(order).map_err(PortError::permanent)?;
                let statement = built(shape(&rule))?;
                Wanted { statement, mode: rule.mode, cost: rule.cost(), words: rule.words() }
            }
        })
    }

    fn client(&self, order: &Order, aim: &Aim) -> (Client, Scope) {
        let config = self.clients.of(order);
        match aim.cloudfront {
            false => (Client::new(&config), Scope::Regional),
            true => (Client::new(&config.into_builder().region(Region::new(GLOBAL)).build()), Scope::Cloudfront),
        }
    }

    /// The web ACLs that are meant, each as it is now.
    async fn meant(&self, client: &Client, scope: &Scope, aim: &Aim) -> Result<Vec<Current>, PortError> {
        let sets = [format!("/ipset/{}-v4/", aim.ip_set), format!("/ipset/{}-v6/", aim.ip_set)];
        let ours = |arn: &str| sets.iter().any(|set| arn.contains(set));
        let mut found = Vec::new();
        for acl in list(client, scope).await? {
            let (Some(name), Some(id)) = (acl.name(), acl.id()) else { continue };
            if aim.name.as_ref().is_some_and(|wanted| wanted != name) {
                continue;
            }
            let Some(current) = read(client, scope, name, id).await? else { continue };
            if aim.name.is_some() || current.acl.rules().iter().any(|rule| blocks(rule, &ours)) {
                found.push(current);
            }
        }
        Ok(found)
    }

    /// Writes a web ACL with other rules until it is won or nothing is to be changed: `None` from `change`. Returns whether
    /// the web ACL is there.
    async fn change(
        &self,
        (client, scope): (&Client, &Scope),
        (name, id): (&str, &str),
        change: &(dyn Fn(&Current) -> Result<Option<Vec<Rule>>, PortError> + Send + Sync),
    ) -> Result<bool, PortError> {
        let mut last = None;
        for _ in 0..RACES {
            let Some(current) = read(client, scope, name, id).await? else { return Ok(false) };
            let Some(rules) = change(&current)? else { return Ok(true) };
            self.pace.wait().await;
            let Current { acl, lock_token } = current;
            let sent = client
                .update_web_acl()
                .name(name)
                .id(id)
                .scope(scope.clone())
                .lock_token(lock_token)
                .set_rules(Some(rules))
                .set_default_action(acl.default_action)
                .set_description(acl.description.filter(|text| !text.is_empty()))
                .set_visibility_config(acl.visibility_config)
                .set_data_protection_config(acl.data_protection_config)
                .set_custom_response_bodies(acl.custom_response_bodies)
                .set_captcha_config(acl.captcha_config)
                .set_challenge_config(acl.challenge_config)
                .set_token_domains(acl.token_domains)
                .set_association_config(acl.association_config)
                .set_on_source_d_do_s_protection_config(acl.on_source_d_do_s_protection_config)
                .set_application_config(acl.application_config)
                .set_monetization_config(acl.monetization_config)
                .customize()
                .config_override(once())
                .send()
                .await;
            match sent.map_err(|error| problem("wafv2:UpdateWebACL", &error)) {
                Ok(_) => return Ok(true),
                // A lost race, or no answer, in which case it may have been carried out: read again.
                Err(again) if again.is_transient() => last = Some(again),
                Err(error) => return Err(error),
            }
        }
        let last = last.map(|last| last.to_string()).unwrap_or_default();
        Err(PortError::transient(format!("the web ACL {name} could not be changed in {RACES} attempts: {last}")))
    }
}

impl Steps for PutRule {
    async fn look(&self, order: &Order) -> Result<Look, PortError> {
        let aim = aim(order).map_err(PortError::permanent)?;
        let wanted = self.wanted(order)?;
        let (client, scope) = self.client(order, &aim);
        let meant = self.meant(&client, &scope, &aim).await?;
        if meant.is_empty() {
            let reason = match &aim.name {
                Some(name) => format!("there is no web ACL {name} in this scope and region"),
                None => format!(
                    "no web ACL of this scope and region has a blocking rule that refers to the IP set {0}-v4 or {0}-v6",
                    aim.ip_set
                ),
            };
            return Ok(Look::NoEffect(reason));
        }
        let (mut would, mut web_acls, mut not) = (Vec::new(), Vec::new(), Vec::new());
        for Current { acl, .. } in &meant {
            let name = acl.name();
            let same = |rule: &&Rule| rule.statement() == Some(&wanted.statement) && mode(rule) == Some(wanted.mode);
            if let Some(rule) = acl.rules().iter().find(same) {
                not.push(format!("the rule {} of the web ACL {name} does the same already", rule.name()));
                continue;
            }
            let allows = |rule: &Rule| rule.action().is_some_and(|action| action.allow().is_some());
            if let Some(allowed_by) = former::input(order, waf_rate_rule::ALLOWED_BY)
                && !acl.rules().iter().any(|rule| rule.name() == allowed_by && allows(rule))
            {
                let reason =
                    format!("the web ACL {name} has no rule {allowed_by} that allows what is on the allow-list");
                return Ok(Look::Refused(reason));
            }
            if let Err(reason) = fits(acl.capacity(), wanted.cost) {
                return Ok(Look::Refused(format!("the web ACL {name} is full: {reason}")));
            }
            let unseen = match self.fronts.of(&client, &scope, acl.arn()).await {
                Stands::Nowhere => {
                    not.push(format!(
                        "the web ACL {name} stands in front of nothing: associate it with the load balancer first"
                    ));
                    continue;
                }
                Stands::Before(_) => String::new(),
                Stands::Unseen(why) => format!(" ({why})"),
            };
            would.push(format!("add a rule to the web ACL {name} that {}{unseen}", wanted.words));
            web_acls.push((name.to_owned(), acl.id().to_owned()));
        }
        if web_acls.is_empty() {
            return Ok(Look::NoEffect(not.join("; ")));
        }
        let former = former::write(&Former { rule: own_name(self.kind.name(), order), web_acls });
        Ok(Look::Ready { former, would })
    }

    async fn apply(&self, order: &Order, former: &str) -> Result<Progress, PortError> {
        let Former { rule, web_acls } = former::read(&order.action, former).map_err(PortError::permanent)?;
        let wanted = self.wanted(order)?;
        let (client, scope) = self.client(order, &aim(order).map_err(PortError::permanent)?);
        for (name, id) in &web_acls {
            let add = |current: &Current| {
                let rules = current.acl.rules();
                if rules.iter().any(|one| one.name() == rule) {
                    return Ok(None);
                }
                fits(current.acl.capacity(), wanted.cost)
                    .map_err(|reason| PortError::permanent(format!("the web ACL {name} is full: {reason}")))?;
                let last = rules.iter().map(Rule::priority).max().map_or(0, |last| last.saturating_add(1));
                let own = own(&rule, last, &wanted).map_err(|error| PortError::permanent(error.to_string()))?;
                Ok(Some(rules.iter().cloned().chain([own]).collect()))
            };
            if !self.change((&client, &scope), (name, id), &add).await? {
                return Err(PortError::permanent(format!("the web ACL {name} was deleted meanwhile")));
            }
        }
        done()
    }

    async fn verify(&self, order: &Order, former: &str) -> Result<Option<String>, PortError> {
        let Former { rule, web_acls } = former::read(&order.action, former).map_err(PortError::permanent)?;
        let wanted = self.wanted(order)?;
        let (client, scope) = self.client(order, &aim(order).map_err(PortError::permanent)?);
        for (name, id) in &web_acls {
            let current = read(&client, &scope, name, id).await?;
            let holds = |one: &Rule| one.name() == rule && mode(one) == Some(wanted.mode);
            if !current.is_some_and(|current| current.acl.rules().iter().any(holds)) {
                return Ok(Some(format!("the web ACL {name} has no rule {rule}")));
            }
        }
        Ok(None)
    }

    async fn undo(&self, order: &Order, former: &str) -> Result<Progress, PortError> {
        let Former { rule, web_acls } = former::read(&order.action, former).map_err(PortError::permanent)?;
        let (client, scope) = self.client(order, &aim(order).map_err(PortError::permanent)?);
        let mut gone = Vec::new();
        for (name, id) in &web_acls {
            let remove = |current: &Current| {
                let rules = current.acl.rules();
                let others: Vec<Rule> = rules.iter().filter(|one| one.name() != rule).cloned().collect();
                Ok((others.len() < rules.len()).then_some(others))
            };
            if !self.change((&client, &scope), (name, id), &remove).await? {
                gone.push(name.as_str());
            }
        }
        match gone.is_empty() {
            true => done(),
            false => remarked(format!("the web ACL {} was deleted meanwhile", gone.join(", "))),
        }
    }
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::Shape => "shape",
        }
    }
}

fn mode(rule: &Rule) -> Option<Mode> {
    let action = rule.action()?;
    match (action.block().is_some(), action.count().is_some()) {
        (true, _) => Some(Mode::Block),
        (_, true) => Some(Mode::Count),
        _ => None,
    }
}

fn own(name: &str, priority: i32, wanted: &Wanted) -> Result<Rule, BuildError> {
    let action = match wanted.mode {
        Mode::Count => RuleAction::builder().count(CountAction::builder().build()),
        Mode::Block => RuleAction::builder().block(BlockAction::builder().build()),
    };
    let seen = VisibilityConfig::builder().sampled_requests_enabled(true).cloud_watch_metrics_enabled(true);
    Rule::builder()
        .name(name)
        .priority(priority)
        .statement(wanted.statement.clone())
        .action(action.build())
        .visibility_config(seen.metric_name(name).build()?)
        .build()
}

fn transformation(priority: i32, kind: TextTransformationType) -> Result<TextTransformation, BuildError> {
    TextTransformation::builder().priority(priority).r#type(kind).build()
}

fn rate(rule: &RateRule) -> Result<Statement, BuildError> {
    let key = match rule.forwarded {
        true => RateBasedStatementAggregateKeyType::ForwardedIp,
        false => RateBasedStatementAggregateKeyType::Ip,
    };
    let mut rate =
        RateBasedStatement::builder().limit(rule.limit).evaluation_window_sec(rule.window).aggregate_key_type(key);
    if rule.forwarded {
        // Without the header, or with nonsense in it, no client is known: such a request is not counted.
        let header = ForwardedIpConfig::builder().header_name("X-Forwarded-For");
        rate = rate.forwarded_ip_config(header.fallback_behavior(FallbackBehavior::NoMatch).build()?);
    }
    if let Some(path) = &rule.path {
        let below = ByteMatchStatement::builder()
            .search_string(Blob::new(path.as_bytes()))
            .field_to_match(FieldToMatch::builder().uri_path(UriPath::builder().build()).build())
            .text_transformations(transformation(0, TextTransformationType::UrlDecode)?)
            .positional_constraint(PositionalConstraint::StartsWith)
            .build()?;
        rate = rate.scope_down_statement(Statement::builder().byte_match_statement(below).build());
    }
    Ok(Statement::builder().rate_based_statement(rate.build()?).build())
}

fn shape(rule: &ShapeRule) -> Result<Statement, BuildError> {
    let field = FieldToMatch::builder();
    let field = match &rule.part {
        Part::Path => field.uri_path(UriPath::builder().build()),
        Part::Query => field.query_string(QueryString::builder().build()),
        Part::Parameter(name) => field.single_query_argument(SingleQueryArgument::builder().name(name).build()?),
        Part::Header(name) => field.single_header(SingleHeader::builder().name(name).build()?),
    };
    let how = match rule.compare {
        Match::Contains => PositionalConstraint::Contains,
        Match::Exact => PositionalConstraint::Exactly,
        Match::Starts => PositionalConstraint::StartsWith,
        Match::Ends => PositionalConstraint::EndsWith,
    };
    let mut bytes = ByteMatchStatement::builder()
        .search_string(Blob::new(rule.text.as_bytes()))
        .field_to_match(field.build())
        .positional_constraint(how);
    let decodes = rule.decodes();
    if decodes {
        bytes = bytes.text_transformations(transformation(0, TextTransformationType::UrlDecode)?);
    }
    let lower = transformation(i32::from(decodes), TextTransformationType::Lowercase)?;
    Ok(Statement::builder().byte_match_statement(bytes.text_transformations(lower).build()?).build())
}
