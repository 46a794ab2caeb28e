//! What the configuration says about signing in: how long sessions last, who needs a second factor, which providers are
//! trusted and what their accounts may do here.

use std::collections::BTreeMap;
use std::path::PathBuf;

use sakimori_identity::oidc::{self, Account};
use sakimori_store::control::ALL_TENANTS;
use sakimori_store::control::users::Role;
use serde::Deserialize;

/// Most providers.
const MOST_PROVIDERS: usize = 16;
/// Most grants of a provider.
const MOST_GRANTS: usize = 256;

/// Signing in.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SignIn {
    /// Hours after which a session ends, whatever is done in it.
    pub hours: u32,
    /// Minutes without a request after which a browser's session ends.
    pub idle_minutes: u32,
    /// Roles whose passwords are not enough: they need a code, a passkey or a provider as well.
    pub second_factor: Vec<String>,
    /// The same for users of single tenants, by their id; `*` is for users over all.
    pub second_factor_by_tenant: BTreeMap<String, Vec<String>>,
    /// Providers of single sign-on.
    pub oidc: Vec<Provider>,
}

impl Default for SignIn {
    fn default() -> Self {
        Self {
            hours: 12,
            idle_minutes: 60,
            second_factor: Vec::new(),
            second_factor_by_tenant: BTreeMap::new(),
            oidc: Vec::new(),
        }
    }
}

/// A provider of OpenID Connect.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Provider {
    /// Names it in addresses and in the audit log: lower-case letters, digits and hyphens. It stays as it is: users are
    /// bound to it.
    pub id: String,
    /// What the sign-in page calls it.
    pub title: String,
    /// Its issuer, as its tokens say it.
    pub issuer: String,
    /// What it calls this manager.
    pub client_id: String,
    /// File that holds the client's secret; a public client has none.
    pub secret_file: Option<PathBuf>,
    /// Or the secret that it is, as `sakimori secrets set` made it: its name, after `tenant/` where that is not `default`.
    pub secret: Option<String>,
    /// Scopes beside `openid`.
    pub scopes: Vec<String>,
    /// The claim that new users are called by.
    pub name_claim: String,
    /// The claim with somebody's groups.
    pub groups_claim: String,
    /// Are users made at their first sign-in? Otherwise they are refused.
    pub create: bool,
    /// Certificates that the provider is trusted by, PEM, instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Who may do what: the first that fits counts, and whom none fits is refused.
    pub grants: Vec<Grant>,
}

/// What somebody of a group, or of an e-mail domain, may do here.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Grant {
    /// The group.
    pub group: Option<String>,
    /// Or the domain of an e-mail address that the provider says is verified.
    pub email_domain: Option<String>,
    /// `viewer`, `operator` or `admin`.
    pub role: String,
    /// The tenant; `*` for all.
    pub tenant: String,
}

impl SignIn {
    /// Does a password alone not do for users of this role and tenant?
    pub fn needs_factor(&self, tenant: &str, role: Role) -> bool {
        let named = self.second_factor_by_tenant.get(tenant).unwrap_or(&self.second_factor);
        named.iter().any(|name| name == role.name())
    }

    /// The provider of this id.
    pub fn provider(&self, id: &str) -> Option<&Provider> {
        self.oidc.iter().find(|provider| provider.id == id)
    }

    /// Is it right in itself? `public_url` is where people reach the manager.
    ///
    /// # Errors
    /// What is wrong, by the name of the setting.
    pub fn check(&self, public_url: Option<&str>) -> Result<(), String> {
        if !(1..=24 * 31).contains(&self.hours) {
            return Err("sign_in.hours: expected 1 to 744".into());
        }
        if !(1..=24 * 60).contains(&self.idle_minutes) {
            return Err("sign_in.idle_minutes: expected 1 to 1440".into());
        }
        let roles = self.second_factor.iter().chain(self.second_factor_by_tenant.values().flatten());
        for role in roles {
            if Role::parse(role).is_none() {
                return Err(format!("sign_in.second_factor: expected viewer, operator or admin, found {role:?}"));
            }
        }
        if self.oidc.len() > MOST_PROVIDERS {
            return Err(format!("sign_in.oidc: at most {MOST_PROVIDERS} providers"));
        }
        if !self.oidc.is_empty() && public_url.is_none() {
            return Err("sign_in.oidc needs api.public_url: providers send people back to it".into());
        }
        for (at, provider) in self.oidc.iter().enumerate() {
            provider.check().map_err(|reason| format!("sign_in.oidc {:?}: {reason}", provider.id))?;
            if self.oidc.iter().take(at).any(|other| other.id == provider.id) {
                return Err(format!("sign_in.oidc {:?}: this id is there twice", provider.id));
            }
        }
        Ok(())
    }
}

impl Provider {
    fn check(&self) -> Result<(), String> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if !(1..=32).contains(&self.id.len()) || !self.id.bytes().all(plain) {
            return Err("id: expected 1 to 32 lower-case letters, digits and hyphens".into());
        }
        if self.client_id.is_empty() {
            return Err("client_id is missing".into());
        }
        if self.secret.is_some() && self.secret_file.is_some() {
            return Err("secret and secret_file: give one of them".into());
        }
        oidc::check_issuer(&self.issuer).map_err(|reason| format!("issuer: {reason}"))?;
        if self.grants.is_empty() || self.grants.len() > MOST_GRANTS {
            return Err(format!("grants: expected 1 to {MOST_GRANTS}, since nobody may sign in without one"));
        }
        for grant in &self.grants {
            let domain = grant.email_domain.as_deref();
            if domain.is_some_and(|domain| domain.is_empty() || domain.contains('@')) {
                return Err("grants: email_domain is the part behind the @".into());
            }
            if grant.group.is_some() == domain.is_some() || grant.group.as_deref() == Some("") {
                return Err("grants: each has a group or an email_domain".into());
            }
            if Role::parse(&grant.role).is_none() {
                return Err(format!("grants: expected the role viewer, operator or admin, found {:?}", grant.role));
            }
            if grant.tenant.is_empty() {
                return Err(format!("grants: name the tenant; {ALL_TENANTS:?} is for all of them"));
            }
        }
        Ok(())
    }

    /// What an account may do here: the first grant that fits.
    pub fn grant(&self, account: &Account) -> Option<&Grant> {
        let claim = if self.groups_claim.is_empty() { "groups" } else { &self.groups_claim };
        self.grants.iter().find(|grant| match (&grant.group, &grant.email_domain) {
            (Some(group), _) => account.is_in(claim, group),
            (None, Some(domain)) => account.is_of_domain(domain),
            (None, None) => false,
        })
    }

    /// What a new user of this account is called; none where no claim can be a name.
    pub fn name(&self, account: &Account) -> Option<String> {
        let claim = if self.name_claim.is_empty() { "preferred_username" } else { &self.name_claim };
        let named = account.text(claim).or_else(|| account.verified_email());
        named.filter(|name| is_name(name)).map(str::to_owned)
    }

    /// Its name for people.
    pub fn title(&self) -> &str {
        if self.title.is_empty() { &self.id } else { &self.title }
    }
}

/// Can a user be called so: 1 to 64 letters, digits and `.`, `_`, `-`, `@`?
pub fn is_name(name: &str) -> bool {
    let right = |byte: u8| byte.is_ascii_alphanumeric() || b"._-@".contains(&byte);
    (1..=64).contains(&name.len()) && name.bytes().all(right)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> SignIn {
        toml::from_str(text).unwrap()
    }

    const GOOD: &str = "[[oidc]]\nid = \"corp\"\nissuer = \"https://id.example\"\nclient_id = \"x\"\n\
                        grants = [{ group = \"ops\", role = \"operator\", tenant = \"default\" }]\n";

    #[test]
    fn a_tenants_own_list_of_roles_counts_alone() {
        let settings =
            read("second_factor = [\"admin\"]\n[second_factor_by_tenant]\nacme = [\"operator\"]\nfree = []\n");
        assert!(settings.needs_factor("default", Role::Admin) && !settings.needs_factor("default", Role::Operator));
        assert!(settings.needs_factor("acme", Role::Operator) && !settings.needs_factor("acme", Role::Admin));
        assert!(!settings.needs_factor("free", Role::Admin));
        settings.check(None).unwrap();
    }

    #[test]
    fn what_is_wrong_is_named() {
        let here = Some("https://sakimori.example");
        read(GOOD).check(here).unwrap();
        assert!(read(GOOD).check(None).unwrap_err().contains("api.public_url"));
        for (from, to, word) in [
            ("\"corp\"", "\"Corp\"", "id:"),
            ("\"x\"", "\"\"", "client_id"),
            ("https://id", "http://id", "issuer"),
            ("group = \"ops\", ", "", "group or an email_domain"),
            ("group = \"ops\"", "group = \"\"", "group or an email_domain"),
            ("group = \"ops\"", "email_domain = \"a@b\"", "behind the @"),
            ("\"operator\"", "\"root\"", "root"),
            ("\"default\"", "\"\"", "tenant"),
        ] {
            let error = read(&GOOD.replace(from, to)).check(here).unwrap_err();
            assert!(error.contains(word) && error.contains("sign_in.oidc"), "{error}");
        }
        assert!(read(&GOOD.repeat(2)).check(here).unwrap_err().contains("twice"));
        assert!(read("idle_minutes = 0").check(None).is_err() && read("hours = 0").check(None).is_err());
        assert!(read("second_factor = [\"x\"]").check(None).unwrap_err().contains("second_factor"));
    }
}
