//! The table of routes: method, path, permission, handler. It is the only place that names them; the router, the
//! OpenAPI document with its security and the test of permissions are derived from it.

use axum::Router;
use axum::middleware::from_fn_with_state;

use super::route::{Route, delete, get, patch, post, put};
use super::*;
use crate::lint::Outcome;

/// Open to everybody.
const OPEN: &str = "";

/// All routes.
#[rustfmt::skip]
pub fn table() -> Vec<Route> {
    vec![
        get("/healthz", OPEN, health::alive).does("Is the process alive?").answers_text("text/plain"),
        get("/readyz", OPEN, health::ready).does("Can it do its work?").answers::<health::Readiness>(200).answers::<health::Readiness>(503),
        get("/metrics", OPEN, health::metrics).does("Figures in Prometheus form").answers_text("text/plain"),

        post("/api/v1/session", OPEN, session::open).does("Logs in").takes::<session::Login>().answers::<authenticate::Opened>(201),
        get("/api/v1/session", "session:read", session::get).does("Who am I, and what may I do?").answers::<session::Who>(200),
        delete("/api/v1/session", "session:end", session::end).does("Logs out").answers_nothing(),
        put("/api/v1/session/password", "session:password", session::set_password).does("Sets my password").takes::<session::OwnPassword>().answers_nothing(),

        put("/api/v1/session/language", "session:language", session::set_language).does("Sets my language").takes::<session::OwnLanguage>().answers::<session::OwnLanguage>(200),
        get("/api/v1/session/factors", "session:read", factors::own).does("How I may show who I am").answers::<factors::Factors>(200),
        post("/api/v1/session/totp", "session:factors", factors::begin_totp).does("Makes a secret for codes of a device; it is shown once").takes::<factors::Again>().answers::<factors::TotpBegun>(200),
        post("/api/v1/session/totp/confirm", "session:factors", factors::confirm_totp).does("Shows the first code; recovery codes are shown once").takes::<factors::Code>().answers::<factors::RecoveryCodes>(200),
        post("/api/v1/session/totp/remove", "session:factors", factors::remove_totp).does("Removes my codes of a device").takes::<factors::Again>().answers_nothing(),
        post("/api/v1/session/recovery-codes", "session:factors", factors::renew_codes).does("Makes new recovery codes; they are shown once").takes::<factors::Again>().answers::<factors::RecoveryCodes>(200),
        post("/api/v1/session/passkeys/options", "session:factors", passkeys::options).does("What a browser makes a passkey from").takes::<factors::Again>().answers::<passkeys::NewPasskeyOptions>(200),
        post("/api/v1/session/passkeys", "session:factors", passkeys::create).does("Keeps a passkey that a browser made").takes::<passkeys::NewPasskey>().answers::<passkeys::PasskeyView>(201),
        delete("/api/v1/session/passkeys/{id}", "session:factors", passkeys::delete).does("Removes one of my passkeys").answers_nothing(),
        get("/api/v1/sessions", "session:read", sessions::list).does("Where I am signed in").answers::<sessions::Sessions>(200),
        delete("/api/v1/sessions", "session:end", sessions::end_all).does("Signs me out everywhere").answers_nothing(),
        delete("/api/v1/sessions/{id}", "session:end", sessions::end).does("Signs me out there").answers_nothing(),

        get("/api/v1/sign-in", OPEN, sign_in::ways).does("Which ways there are to sign in").answers::<sign_in::SignInWays>(200),
        post("/api/v1/sign-in/passkey/options", OPEN, sign_in::passkey_options).does("What a browser signs in by a passkey from").answers::<sign_in::PasskeyChallenge>(200),
        post("/api/v1/sign-in/passkey", OPEN, sign_in::passkey).does("Signs a browser in by a passkey").takes::<sign_in::PasskeyAnswer>().answers::<authenticate::Opened>(201),
        get("/api/v1/sign-in/sso/{provider}", OPEN, sso::begin).does("Sends a browser to a provider of single sign-on").query::<sso::Begin>().redirects(),
        get("/api/v1/sign-in/sso/{provider}/callback", OPEN, sso::callback).does("Takes a browser back from its provider").query::<sso::End>().redirects(),

        get("/api/v1/users", "users:read", users::list).does("Lists users").query::<extract::PageQuery>().answers_page::<users::UserView>(),
        post("/api/v1/users", "users:write", users::create).does("Makes a user").takes::<users::NewUser>().answers::<users::UserView>(201),
        get("/api/v1/users/{id}", "users:read", users::get).does("Shows a user").answers::<users::UserView>(200),
        patch("/api/v1/users/{id}", "users:write", users::patch).does("Changes a user's role, or disables the user").takes::<users::UserPatch>().answers::<users::UserView>(200),
        put("/api/v1/users/{id}/password", "users:write", users::set_password).does("Sets a user's password").takes::<users::NewPassword>().answers_nothing(),
        delete("/api/v1/users/{id}", "users:write", users::delete).does("Deletes a user").answers_nothing(),

        get("/api/v1/users/{id}/factors", "users:read", factors::of_user).does("How a user may show who they are").answers::<factors::Factors>(200),
        delete("/api/v1/users/{id}/totp", "users:write", factors::reset_totp).does("Resets a user's codes of a device").answers_nothing(),
        delete("/api/v1/users/{id}/passkeys", "users:write", factors::reset_passkeys).does("Removes a user's passkeys").answers_nothing(),
        delete("/api/v1/users/{id}/sessions", "users:write", sessions::end_of_user).does("Signs a user out everywhere").answers_nothing(),

        get("/api/v1/tokens", "tokens:read", tokens::list).does("Lists API tokens").query::<extract::PageQuery>().answers_page::<tokens::TokenView>(),
        post("/api/v1/tokens", "tokens:write", tokens::create).does("Makes an API token").takes::<tokens::NewToken>().answers::<tokens::MadeToken>(201),
        delete("/api/v1/tokens/{id}", "tokens:write", tokens::delete).does("Deletes an API token").answers_nothing(),

        get("/api/v1/tenants", "tenants:read", tenants::list).does("Lists tenants").query::<extract::PageQuery>().answers_page::<tenants::TenantView>(),
        post("/api/v1/tenants", "tenants:write", tenants::create).does("Makes a tenant").takes::<tenants::NewTenant>().answers::<tenants::TenantView>(201),

        get("/api/v1/agents", "agents:read", agents::list).does("Lists agents").query::<extract::PageQuery>().answers_page::<agents::AgentView>(),
        get("/api/v1/agents/{id}", "agents:read", agents::get).does("Shows an agent").answers::<agents::AgentView>(200),
        get("/api/v1/agents/{id}/policy", "policies:read", policies::effective).does("What applies to an agent, and why").answers::<policies::EffectivePolicy>(200),
        get("/api/v1/agents/{id}/overview", "agents:read", servers::get).does("A host in one answer: modules, proof, policy, rules, quarantine, blocks, and what happened lately").answers::<servers::ServerView>(200),
        post("/api/v1/agents/{id}/scans", "actions:order", scans::begin).does("Orders a host to scan paths, or says what it would do").takes::<scans::NewScan>().answers::<actions::Planned>(200).answers::<actions::Planned>(202),
        get("/api/v1/agents/{id}/scans/{scan}", "actions:read", scans::get).does("How a scan by order stands, and what it found").answers::<scans::ScanView>(200),
        post("/api/v1/agents/{id}/revoke", "agents:revoke", agents::revoke).does("Revokes an agent").answers::<agents::AgentView>(200),
        delete("/api/v1/agents/{id}", "agents:delete", agents::delete).does("Forgets a revoked agent").answers_nothing(),

        get("/api/v1/proof", "agents:read", proof::hosts).does("Whether each host's modules are proven to work").query::<extract::PageQuery>().answers_page::<proof::HostProof>(),
        get("/api/v1/proof/channels", "agents:read", proof::channels).does("Whether messages arrive").answers::<proof::Channels>(200),

        get("/api/v1/enrolment-tokens", "enrolment-tokens:read", enrolment::list).does("Lists enrolment tokens").query::<extract::PageQuery>().answers_page::<enrolment::EnrolmentView>(),
        post("/api/v1/enrolment-tokens", "enrolment-tokens:write", enrolment::create).does("Makes an enrolment token, for one host or a group").takes::<enrolment::NewEnrolment>().answers::<enrolment::MadeEnrolment>(201),
        get("/api/v1/enrolment-tokens/{id}", "enrolment-tokens:read", enrolment::get).does("Shows an enrolment token and the hosts that joined by it").answers::<enrolment::EnrolmentStatus>(200),
        delete("/api/v1/enrolment-tokens/{id}", "enrolment-tokens:write", enrolment::delete).does("Takes an enrolment token back").answers_nothing(),

        get("/api/v1/policies/layers", "policies:read", policies::list).does("Lists the policy layers in force").answers::<policies::Layers>(200),
        put("/api/v1/policies/layers/{layer}", "policies:write", policies::put).does("Writes a policy layer").takes::<policies::NewLayer>().answers::<policies::PolicyLayer>(200),
        get("/api/v1/policies/layers/{layer}/history", "policies:read", policies::history).does("Former versions of a policy layer").query::<extract::PageQuery>().answers_page::<policies::PolicyLayer>(),

        get("/api/v1/policies/layers/{layer}/versions/{number}", "policies:read", policies::version).does("One version of a policy layer").answers::<policies::PolicyLayer>(200),
        get("/api/v1/policies/layers/{layer}/diff", "policies:read", policy_changes::diff).does("What two versions of a layer say otherwise, and whom that affects").query::<policy_changes::DiffQuery>().answers::<policy_changes::PolicyDifference>(200),
        post("/api/v1/policies/layers/{layer}/rollback", "policies:write", policies::rollback).does("Writes a layer as a former version was").takes::<policies::NewRollback>().answers::<policies::PolicyLayer>(200),
        post("/api/v1/policies/preview", "policies:read", policy_changes::preview).does("What a layer would change, and for whom, before it is written").takes::<policy_changes::NewPreview>().answers::<policy_changes::PolicyDifference>(200),
        get("/api/v1/policies/schema", "policies:read", policy_changes::schema).does("JSON Schema of policies, with titles, defaults and bounds").answers::<policy_changes::PolicySchema>(200),
        get("/api/v1/policies/rollouts", "policies:read", rollouts::list).does("Lists roll-outs in stages, newest first").query::<extract::PageQuery>().answers_page::<rollouts::RolloutView>(),
        post("/api/v1/policies/rollouts", "policies:write", rollouts::begin).does("Gives a layer to some hosts first").takes::<rollouts::NewRollout>().answers::<rollouts::RolloutView>(201),
        get("/api/v1/policies/rollouts/{id}", "policies:read", rollouts::get).does("How a roll-out stands, host by host").answers::<rollouts::RolloutView>(200),
        post("/api/v1/policies/rollouts/{id}/continue", "policies:write", rollouts::go_on).does("Lets all other hosts follow").takes::<rollouts::NewMove>().answers::<rollouts::RolloutView>(200),
        post("/api/v1/policies/rollouts/{id}/withdraw", "policies:write", rollouts::withdraw).does("Takes a roll-out back from its first hosts").takes::<rollouts::NewMove>().answers::<rollouts::RolloutView>(200),

        get("/api/v1/secrets", "secrets:read", secrets::list).does("Lists named secrets, never their values").query::<extract::PageQuery>().answers_page::<secrets::SecretView>(),
        put("/api/v1/secrets/{name}", "secrets:write", secrets::put).does("Sets or replaces a secret").takes_bytes(secrets::MOST).answers::<secrets::SecretView>(200),
        delete("/api/v1/secrets/{name}", "secrets:write", secrets::delete).does("Deletes a secret").answers_nothing(),
        get("/api/v1/sealing", "sealing:read", sealing::get).does("Which key seals secrets, and where it lies").answers::<sealing::SealingView>(200),
        post("/api/v1/sealing/rotate", "sealing:rotate", sealing::renew).does("Makes a new sealing key and seals everything anew").takes::<sealing::NewKey>().answers::<sealing::RotatedView>(200),

        get("/api/v1/events", "events:read", events::search).does("Searches events, newest first").query::<events::SearchQuery>().answers_page::<events::Document>(),
        get("/api/v1/events/count", "events:read", events::count).does("Counts events").query::<events::CountQuery>().answers::<events::Count>(200),
        post("/api/v1/events/sql", "events:read", events::sql).does("Runs one SELECT over events").takes::<events::Statement>().answers::<events::Rows>(200),
        get("/api/v1/events/balance", "events:read", events::balance).does("What came in, what is stored, what was lost").answers::<events::Balance>(200),
        get("/api/v1/events/tail", "events:read", events::tail).does("New events, as server-sent events").query::<events::TailQuery>().answers_text("text/event-stream"),
        get("/api/v1/events/search", "events:read", search::get).does("Rows of events for a table, with chosen fields").query::<search::RowSearch>().answers::<search::RowPage>(200),
        post("/api/v1/events/search", "events:read", search::post).does("The same for a search too long for an address").takes::<search::RowSearch>().answers::<search::RowPage>(200),
        get("/api/v1/events/histogram", "events:read", histogram::get).does("Counts events over time, also by a field").query::<histogram::HistogramQuery>().answers::<histogram::HistogramView>(200),
        get("/api/v1/events/values", "events:read", fields::values).does("The most frequent values of a field").query::<fields::ValueQuery>().answers::<fields::ValueList>(200),
        get("/api/v1/events/export", "events:read", export::get).does("What a search finds as a file").query::<export::ExportQuery>().answers_text("application/x-ndjson"),
        get("/api/v1/events/{id}", "events:read", event::get).does("Shows an event with its original").query::<event::EventQuery>().answers::<event::EventDetail>(200),
        get("/api/v1/events/{id}/related", "events:read", event::related).does("What happened around an event").query::<event::RelatedQuery>().answers::<event::Related>(200),
        get("/api/v1/fields", "events:read", fields::list).does("Fields of the catalog, for completion").query::<fields::FieldQuery>().answers::<fields::FieldList>(200),
        get("/api/v1/live", "events:read", live::get).does("News for an open page, as server-sent events: alert, action, execution, approval, agent, ingest, reset").answers_text("text/event-stream"),
        get("/api/v1/now", "events:read", now::get).does("The last hours in one look").query::<now::NowQuery>().answers::<now::Now>(200),

        get("/api/v1/searches", "searches:read", searches::list).does("Lists saved searches").query::<extract::PageQuery>().answers_page::<searches::SearchView>(),
        post("/api/v1/searches", "searches:write", searches::create).does("Saves a search").takes::<searches::NewSearch>().answers::<searches::SearchView>(201),
        get("/api/v1/searches/{id}", "searches:read", searches::get).does("Shows a saved search").answers::<searches::SearchView>(200),
        put("/api/v1/searches/{id}", "searches:write", searches::put).does("Changes a saved search").takes::<searches::NewSearch>().answers::<searches::SearchView>(200),
        delete("/api/v1/searches/{id}", "searches:write", searches::delete).does("Deletes a saved search").answers_nothing(),

        get("/api/v1/alerts", "alerts:read", alerts::list).does("Searches alerts, newest first").query::<events::SearchQuery>().answers_page::<alerts::AlertView>(),
        get("/api/v1/alerts/{id}", "alerts:read", alerts::get).does("Shows an alert").answers::<alerts::AlertView>(200),
        get("/api/v1/alerts/{id}/why", "alerts:read", why::get).does("Why an alert was raised, with the parts that matched").answers::<why::Why>(200),
        patch("/api/v1/alerts/{id}", "alerts:write", alerts::patch).does("Sets status and comment of an alert").takes::<alerts::AlertPatch>().answers::<alerts::AlertView>(200),

        get("/api/v1/actions", "actions:read", actions::list).does("Lists actions, newest first").query::<actions::ActionQuery>().answers_page::<actions::ActionView>(),
        post("/api/v1/actions", "actions:order", actions::order).does("Orders an action by hand, or says what it would do").takes::<actions::NewAction>().answers::<actions::Planned>(200).answers::<actions::Planned>(202),
        post("/api/v1/actions/undo", "actions:undo", actions::undo_all).does("Takes back all actions of a kind").takes::<actions::UndoFilter>().answers::<actions::Undone>(202),
        get("/api/v1/actions/shed", "actions:read", shed::list).does("What floods asked for beyond the rate").answers::<shed::ShedSpans>(200),
        get("/api/v1/actions/{id}", "actions:read", actions::get).does("Shows an action").answers::<actions::ActionView>(200),
        post("/api/v1/actions/{id}/undo", "actions:undo", actions::undo).does("Takes an action back").answers::<actions::ActionView>(202),

        post("/api/v1/actions/{id}/confirm", "actions:order", actions::confirm).does("Lets a provisional action of a host stay").answers::<actions::ActionView>(202),

        get("/api/v1/messages", "messages:read", messages::list).does("Lists messages to people, newest first").query::<messages::MessageQuery>().answers_page::<messages::MessageView>(),
        get("/api/v1/messages/{id}", "messages:read", messages::get).does("Shows a message, with every try").answers::<messages::MessageDetail>(200),
        post("/api/v1/messages/{id}/retry", "messages:send", messages::retry).does("Sends a dead letter again").answers::<messages::MessageView>(202),
        get("/api/v1/channels", "messages:read", messages::channels).does("Lists the channels of the configuration").answers::<messages::ChannelList>(200),
        post("/api/v1/channels/{name}/test", "messages:send", messages::test).does("Sends a test message").answers::<messages::MessageView>(202),

        get("/api/v1/orders", "actions:read", orders::list).does("Lists what waits for its host, and what it lacks").answers::<orders::WaitingOrders>(200),
        post("/api/v1/orders/{id}/signatures", "orders:sign", orders::sign).does("Adds an operator's signature to what waits").takes::<orders::NewSignature>().answers::<orders::WaitingOrder>(202),

        get("/api/v1/halt", "actions:read", halt::get).does("Are all automatic answers stopped?").answers::<halt::HaltView>(200),
        post("/api/v1/halt", "halt:write", halt::halt).does("Stops all automatic answers everywhere").takes::<halt::NewHalt>().answers::<halt::HaltView>(202),
        post("/api/v1/halt/resume", "halt:write", halt::resume).does("Lets automatic answers go on").takes::<halt::NewHalt>().answers::<halt::HaltView>(202),

        get("/api/v1/playbooks", "playbooks:read", playbooks::list).does("Lists playbooks").answers::<playbooks::Playbooks>(200),
        post("/api/v1/playbooks/check", "playbooks:read", playbooks::check).does("Checks the text of a playbook").takes::<playbooks::NewCheck>().answers::<playbooks::Checked>(200),
        get("/api/v1/playbooks/{id}/revisions", "playbooks:read", playbooks::revisions).does("The texts that a playbook has had").answers::<playbooks::Revisions>(200),
        post("/api/v1/playbooks/{id}/rehearse", "playbooks:read", playbooks::rehearse).does("What a playbook would have done about the alerts of the last days").takes::<playbooks::NewRehearsal>().answers::<playbooks::Rehearsal>(200),
        post("/api/v1/playbooks/{id}/run", "playbooks:run", playbooks::run).does("Begins a playbook by hand, or says what it would do").takes::<playbooks::NewRun>().answers::<playbooks::Run>(200).answers::<playbooks::Run>(202),

        get("/api/v1/executions", "executions:read", executions::list).does("Lists executions of playbooks, newest first").query::<executions::ExecutionQuery>().answers_page::<executions::ExecutionView>(),
        get("/api/v1/executions/{id}", "executions:read", executions::get).does("Shows an execution, step by step").answers::<executions::ExecutionDetail>(200),
        post("/api/v1/executions/{id}/answer", "executions:answer", executions::answer).does("Answers a question of an execution").takes::<executions::NewAnswer>().answers::<executions::ExecutionDetail>(202),
        post("/api/v1/executions/{id}/undo", "executions:undo", executions::undo).does("Takes back all that an execution did").answers::<executions::ExecutionDetail>(202),
        get("/answer/{token}", OPEN, executions::question).does("Shows the question of a link").answers_text("text/html"),
        post("/answer/{token}", OPEN, executions::choose).does("Answers the question of a link").answers_text("text/html"),

        get("/api/v1/cloud/accounts", "cloud:read", cloud::list).does("Lists cloud accounts").answers::<cloud::CloudAccounts>(200),
        post("/api/v1/cloud/check", "cloud:check", cloud::ask).does("What the manager's role in cloud accounts may do, and lacks").takes::<cloud::CloudQuestion>().answers::<cloud::CloudChecks>(200),

        get("/api/v1/exceptions", "exceptions:read", exceptions::list).does("Lists exceptions over alerts, with how often each was used").query::<exceptions::ExceptionQuery>().answers_page::<exceptions::ExceptionView>(),
        post("/api/v1/exceptions", "exceptions:write", exceptions::create).does("Makes an exception over alerts").takes::<exceptions::NewException>().answers::<exceptions::ExceptionView>(201),
        post("/api/v1/exceptions/preview", "exceptions:read", exceptions::preview).does("What an exception would have held back in the last week").takes::<exceptions::NewException>().answers::<exceptions::ExceptionPreview>(200),
        get("/api/v1/exceptions/{id}", "exceptions:read", exceptions::get).does("Shows an exception").answers::<exceptions::ExceptionView>(200),
        patch("/api/v1/exceptions/{id}", "exceptions:write", exceptions::patch).does("Changes reason, owner or end of an exception").takes::<exceptions::ExceptionPatch>().answers::<exceptions::ExceptionView>(200),
        delete("/api/v1/exceptions/{id}", "exceptions:write", exceptions::delete).does("Removes an exception").answers_nothing(),

        get("/api/v1/log-sources", "events:read", log_sources::list).does("How log sources do: rate, lag, failures, silence, books").answers::<log_sources::LogSources>(200),

        get("/api/v1/rules", "rules:read", rules::list).does("Lists rules of all languages, their state, and how often they fired").query::<rules::RuleQuery>().answers::<rules::Rules>(200),
        post("/api/v1/rules/lint", "rules:read", lint::lint).does("Checks the text of rules, programs, playbooks and policies").takes::<lint::NewLint>().answers::<Outcome>(200),
        get("/api/v1/rules/noisy", "rules:read", noisy::list).does("Rules that speak too often, each with an exception that would help").query::<noisy::NoisyQuery>().answers::<noisy::NoisyRules>(200),
        get("/api/v1/rules/titles", "rules:read", rules::titles).does("Titles of rules in Japanese, for alerts").answers::<rules::RuleTitles>(200),
        get("/api/v1/rules/{id}", "rules:read", rules::get).does("Shows a rule with its text and tests").answers::<rules::RuleDetail>(200),
        post("/api/v1/rules/{id}/test", "rules:read", lint::test).does("Runs the tests of a rule, or others on another text").takes::<lint::NewTest>().answers::<Outcome>(200),
        put("/api/v1/rules/{id}/state", "policies:write", rule_state::put).does("Switches a network rule in a policy layer").takes::<rule_state::NewRuleState>().answers::<rule_state::RuleSwitched>(200),
        get("/api/v1/rules/trials", "rules:read", trials::list).does("Network rules on trial, with what they would have stopped").query::<trials::TrialQuery>().answers::<trials::Trials>(200),
        get("/api/v1/bundles/current", "bundles:read", bundles::current).does("Shows the rule bundle in force").answers::<bundles::BundleView>(200),
        put("/api/v1/bundles/current", "bundles:write", bundles::upload).does("Takes a newer rule bundle").takes_bytes(bundles::MOST).answers::<bundles::BundleView>(200),

        get("/api/v1/bouncers", "bouncers:read", bouncers::list).does("Lists the programs that block what we decide").query::<extract::PageQuery>().answers_page::<bouncers::BouncerView>(),
        post("/api/v1/bouncers", "bouncers:write", bouncers::create).does("Makes a bouncer; its key is shown once").takes::<bouncers::NewBouncer>().answers::<bouncers::MadeBouncer>(201),
        delete("/api/v1/bouncers/{name}", "bouncers:write", bouncers::delete).does("Removes a bouncer").answers_nothing(),
        get("/v1/decisions", OPEN, decisions::list).does("Blocks in effect, in CrowdSec's form, by X-Api-Key").answers::<Vec<decisions::Decision>>(200),
        get("/v1/decisions/stream", OPEN, decisions::stream).does("What changed since it was asked last, in CrowdSec's form").answers::<decisions::Stream>(200),
        post("/v1/usage-metrics", OPEN, decisions::usage).does("Takes what bouncers tell of themselves").answers_nothing(),

        post("/api/v1/ingest/{way}", OPEN, ways::take).does("Takes what others send: webhooks and topics of SNS").takes_bytes(crate::ingest::webhook::MAX_BODY).answers::<ways::Taken>(200),

        post("/api/v1/backups", "backups:create", backups::create).does("Streams a backup of the whole installation").answers_text("application/x-tar"),

        get("/api/v1/audit", "audit:read", audit::list).does("Lists audit entries, newest first").query::<extract::PageQuery>().answers_page::<audit::AuditEntry>(),
        get("/api/v1/audit/verify", "audit:read", audit::verify).does("Is the audit log whole?").answers::<audit::Verified>(200),
    ]
}

/// The router over the table.
pub(super) fn router(app: &App) -> Router {
    let routes = table().into_iter().fold(Router::new(), |router, route| route.mount(router, app));
    routes
        .fallback(console::answer)
        .method_not_allowed_fallback(frame::no_method)
        .layer(from_fn_with_state(app.clone(), frame::frame))
        .with_state(app.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::access::PERMISSIONS;

    #[test]
    fn every_permission_is_asked_for_somewhere_and_no_route_is_there_twice() {
        let table = table();
        for permission in PERMISSIONS {
            assert!(table.iter().any(|route| route.permission == Some(permission)), "{}", permission.name);
        }
        for (at, route) in table.iter().enumerate() {
            let same = |other: &Route| other.path == route.path && other.method == route.method;
            assert_eq!(table.iter().position(same), Some(at), "{}", route.path);
        }
        let open: Vec<&str> = table.iter().filter(|route| route.permission.is_none()).map(|route| route.path).collect();
        assert_eq!(
            open,
            [
                "/healthz",
                "/readyz",
                "/metrics",
                "/api/v1/session",
                "/api/v1/sign-in",
                "/api/v1/sign-in/passkey/options",
                "/api/v1/sign-in/passkey",
                "/api/v1/sign-in/sso/{provider}",
                "/api/v1/sign-in/sso/{provider}/callback",
                "/answer/{token}",
                "/answer/{token}",
                "/v1/decisions",
                "/v1/decisions/stream",
                "/v1/usage-metrics",
                "/api/v1/ingest/{way}"
            ]
        );
    }
}
