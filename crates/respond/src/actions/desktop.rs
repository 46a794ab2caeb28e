//! A virtual desktop (Amazon WorkSpaces) as a target, and which one an event means.
//!
//! The target is the desktop's id, `desktop/ws-0a1b2c3d4`, or what an event knows of it: `name:PC-1` (computer name),
//! `user:alice`, `address:10.0.0.4`, several with a comma between, which then all have to be right. Only what means exactly
//! one desktop is acted on: where it means several, a person has to say which one.

use std::fmt;
use std::net::IpAddr;

use sakimori_model::Order;

/// Kind of the target.
pub const KIND: &str = "desktop";
/// So many candidates are named.
const NAMED: usize = 10;

/// One desktop, as far as the search needs it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desktop {
    /// `ws-…`
    pub id: String,
    /// Computer name.
    pub name: String,
    /// User.
    pub user: String,
    /// Address in the customer's network.
    pub address: String,
    /// Directory that the user belongs to.
    pub directory: String,
    /// Is it there, or on its way out (terminated)?
    pub alive: bool,
}

impl fmt::Display for Desktop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, name, user, address, directory, .. } = self;
        write!(f, "{id} (computer {name}, user {user} of {directory}, address {address})")
    }
}

/// One thing that is known of a desktop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hint {
    /// Its id.
    Id(String),
    /// Its computer name.
    Name(String),
    /// Its user.
    User(String),
    /// Its address.
    Address(IpAddr),
}

impl Hint {
    fn fits(&self, desktop: &Desktop) -> bool {
        match self {
            Self::Id(id) => desktop.id == *id,
            Self::Name(name) => !desktop.name.is_empty() && host(&desktop.name) == host(name),
            Self::User(user) => !desktop.user.is_empty() && account(&desktop.user) == account(user),
            Self::Address(address) => desktop.address.parse() == Ok(*address),
        }
    }
}

/// A computer name without its domain; upper and lower case are the same.
fn host(name: &str) -> String {
    name.split('.').next().unwrap_or_default().to_lowercase()
}

/// A user without its domain.
fn account(user: &str) -> String {
    user.split('@').next().unwrap_or_default().to_lowercase()
}

/// Which desktop is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which<'a> {
    /// Exactly this one.
    One(&'a Desktop),
    /// None that is there.
    None,
    /// Any of several: the sentence that names them and says what a person can do.
    Several(String),
}

/// What an order knows of its desktop.
///
/// # Errors
/// It names something else, or says nothing that a desktop can be found by.
pub fn hints(order: &Order) -> Result<Vec<Hint>, String> {
    let action = &order.action;
    let name =
        order.target.name_of(KIND).ok_or_else(|| format!("{action} acts on a desktop, not on {}", order.target))?;
    name.split(',').map(|text| hint(text).map_err(|reason| format!("{action}: {reason}"))).collect()
}

fn hint(text: &str) -> Result<Hint, String> {
    let known = |value: &str| (!value.is_empty()).then(|| value.to_owned());
    let hint = match text.split_once(':') {
        Some(("name", value)) => known(value).filter(|value| !host(value).is_empty()).map(Hint::Name),
        Some(("user", value)) => known(value).filter(|value| !account(value).is_empty()).map(Hint::User),
        Some(("address", value)) => value.parse().ok().map(Hint::Address),
        Some(_) => None,
        None => text
            .strip_prefix("ws-")
            .filter(|rest| (8..=63).contains(&rest.len()) && rest.bytes().all(|byte| byte.is_ascii_alphanumeric()))
            .map(|_| Hint::Id(text.to_owned())),
    };
    hint.ok_or_else(|| {
        format!("{} names no desktop: say ws-…, name:PC-1, user:alice or address:10.0.0.4", super::short(text))
    })
}

/// Which of these desktops is meant: the one for which all hints are right.
pub fn which<'a>(hints: &[Hint], desktops: &'a [Desktop]) -> Which<'a> {
    if hints.is_empty() {
        return Which::None;
    }
    let fits = |desktop: &&Desktop| desktop.alive && hints.iter().all(|hint| hint.fits(desktop));
    let found: Vec<&Desktop> = desktops.iter().filter(fits).collect();
    match found.as_slice() {
        [] => Which::None,
        [one] => Which::One(one),
        several => {
            let named: Vec<String> = several.iter().take(NAMED).map(ToString::to_string).collect();
            let more = several.len().saturating_sub(NAMED);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            Which::Several(format!(
                "{} desktops fit, and a person has to say which one is meant, by giving its id as the target: {}{more}",
                several.len(),
                named.join("; ")
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sakimori_model::action::Target;

    fn desktop(id: &str, name: &str, user: &str, address: &str) -> Desktop {
        let text = |text: &str| text.to_owned();
        let (id, name, user, address) = (text(id), text(name), text(user), text(address));
        Desktop { id, name, user, address, directory: "d-1".into(), alive: true }
    }

    fn all() -> Vec<Desktop> {
        vec![
            desktop("ws-aaaaaaaa1", "PC-1", "alice", "10.0.0.4"),
            desktop("ws-aaaaaaaa2", "PC-2", "bob", "10.0.0.5"),
            desktop("ws-aaaaaaaa3", "PC-3", "Bob", "10.0.0.6"),
            Desktop { alive: false, ..desktop("ws-aaaaaaaa4", "PC-1", "carol", "10.0.0.4") },
            desktop("ws-aaaaaaaa5", "", "", ""),
        ]
    }

    fn ask(target: &str) -> Result<Vec<Hint>, String> {
        let mut order = crate::testing::order("a", "192.0.2.1");
        order.target = Target::resource(KIND, target);
        hints(&order)
    }

    fn id(target: &str) -> Option<String> {
        match which(&ask(target).unwrap(), &all()) {
            Which::One(one) => Some(one.id.clone()),
            _ => None,
        }
    }

    #[test]
    fn one_desktop_by_any_of_its_names() {
        for target in
            ["ws-aaaaaaaa1", "name:PC-1", "name:pc-1.corp.example", "user:Alice", "user:alice@corp", "address:10.0.0.4"]
        {
            assert_eq!(id(target).as_deref(), Some("ws-aaaaaaaa1"), "{target}");
        }
        assert_eq!(id("user:bob,address:10.0.0.6").as_deref(), Some("ws-aaaaaaaa3"), "both together mean one");
        assert_eq!(id("user:bob,name:PC-1"), None, "what contradicts itself means none");
        assert_eq!(id("user:carol"), None, "a terminated one is none");
        assert_eq!(id("name:PC-9"), None);
    }

    #[test]
    fn several_wait_for_a_person_and_are_named() {
        let Which::Several(reason) = which(&ask("user:bob").unwrap(), &all()).clone() else { panic!("two are Bob's") };
        for part in ["2 desktops", "ws-aaaaaaaa2", "ws-aaaaaaaa3", "PC-3", "10.0.0.6"] {
            assert!(reason.contains(part), "{reason}");
        }
        let many: Vec<Desktop> = (0..50).map(|n| desktop(&format!("ws-{n}"), "PC", "eve", "10.0.0.1")).collect();
        let Which::Several(reason) = which(&[Hint::User("eve".into())], &many) else { panic!("all are Eve's") };
        assert!(reason.contains("and 40 more") && reason.len() < 2_000, "{reason}");
    }

    #[test]
    fn what_names_no_desktop_is_refused() {
        for target in [
            "PC-1",
            "ws-",
            "ws-1",
            "name:",
            "name:.corp",
            "user:",
            "user:@corp",
            "address:300.0.0.1",
            "room:12",
            "ws-aaaaaaaa1,",
        ] {
            let reason = ask(target).unwrap_err();
            assert!(reason.contains("names no desktop"), "{target}: {reason}");
        }
        assert_eq!(which(&[], &all()), Which::None);
    }

    proptest! {
        #[test]
        fn never_a_desktop_that_a_hint_does_not_fit(
            names in prop::collection::vec(("[ab]{0,1}", "[ab]{0,1}", 0_u8..3, any::<bool>()), 0..12),
            name in prop::option::of("[ab]"), user in prop::option::of("[ab]"), address in prop::option::of(0_u8..3),
        ) {
            let desktops: Vec<Desktop> = names.iter().enumerate().map(|(at, (name, user, address, alive))| Desktop {
                alive: *alive,
                ..desktop(&format!("ws-{at}"), name, user, &format!("10.0.0.{address}"))
            }).collect();
            let hints: Vec<Hint> = name.clone().map(Hint::Name).into_iter()
                .chain(user.clone().map(Hint::User))
                .chain(address.map(|n| Hint::Address(IpAddr::from([10, 0, 0, n]))))
                .collect();
            let fitting = desktops.iter().filter(|one| one.alive
                && name.as_ref().is_none_or(|name| one.name == *name)
                && user.as_ref().is_none_or(|user| one.user == *user)
                && address.is_none_or(|n| one.address == format!("10.0.0.{n}"))).count();
            match which(&hints, &desktops) {
                Which::One(one) => prop_assert!(fitting == 1 && one.alive && !hints.is_empty()),
                Which::None => prop_assert!(fitting == 0 || hints.is_empty()),
                Which::Several(_) => prop_assert!(fitting > 1),
            }
        }
    }
}
