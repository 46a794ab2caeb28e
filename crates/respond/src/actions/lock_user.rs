//! `lock_user`: a local user of a host may not sign in any more, until it is taken back.
//!
//! The pure part is [`read`] and [`judge`]; the effect is a [`crate::ports::HostEffect`]; its life is [`crate::host`]. Two
//! things make the lock: the password's hash gets a mark before it that no password has, and the account is expired. The
//! first alone would leave ssh keys: `sshd` asks PAM's account step, or itself reads the expiry where it uses no PAM, and
//! both refuse an account that is expired. `cron` and `at` ask PAM too. Processes that run already do not: `end_sessions`
//! ends them, and that cannot be taken back.
//!
//! It does not end by itself: an account that opens again unasked is the way back in. The ledger never holds a hash of a
//! password, since what it holds goes to the manager; of the former fields it keeps whether the mark is ours, and the day.
//!
//! Never locked: whoever has the user id 0, the agent's own workers, the users of `response.lock_user.never_lock`, and the
//! last who can become root. That last one is judged by what the host's files say: an account that has not expired in one
//! of the groups `sudo`, `wheel` and `admin`, or root itself with a password that can be typed. Rules of sudoers for single
//! users are not read; name such users in `never_lock`.

use sakimori_model::Order;
use sakimori_model::policy::{LockUser, Mode};

use super::{Descriptor, Input, Runs, Safety, TargetKind, short};
use crate::guard::{Rate, Verdict};

/// Slug.
pub const ID: &str = "lock_user";
/// Kind of its target.
pub const KIND: &str = "user";
/// Name of the input that says that the user's processes end.
pub const END_SESSIONS: &str = "end_sessions";
/// Longest name of a user, in bytes (useradd(8)).
pub const MAX_NAME: usize = 32;

/// What it is.
pub const DESCRIPTOR: Descriptor = Descriptor {
    id: ID,
    title_en: "Lock a user of a host",
    title_ja: "ホストのユーザーをロック",
    config: &[
        ("response.lock_user.mode", "prevent acts, detect says what it would do"),
        ("response.lock_user.never_lock", "users that are never locked"),
        ("response.lock_user.most_per_minute", "most users in a minute; a rule gone wrong must not lock everybody out"),
    ],
    inputs: &[Input {
        name: END_SESSIONS,
        about: "true: the user's processes are ended, which cannot be taken back",
        most: 5,
    }],
    target: TargetKind::Resource(KIND),
    permissions: &["root on the host", "the host's mandate names it (alone.actions, alone.rules)"],
    safety: Safety::Converge,
    undo: Some(
        "takes the mark off the password's hash and puts the former day of expiry back; ended processes stay ended",
    ),
    expires: false,
    blast_radius: "one user of one host, until it is taken back",
    verification: "reads the user's line back; how many of his processes are left, where they were to end, is told",
    runs: Runs::Host,
};

/// The user that an order names, and whether his processes end.
///
/// # Errors
/// What is wrong with its target or its inputs.
pub fn read(order: &Order) -> Result<(&str, bool), String> {
    let Some(name) = order.target.name_of(KIND) else { return Err(format!("{ID} acts on a user, by name")) };
    let right = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.@+".contains(&byte);
    // A first minus would be an option to every program that gets the name.
    if name.is_empty() || name.len() > MAX_NAME || name.starts_with('-') || !name.bytes().all(right) {
        return Err(format!("{:?} is no name of a local user", short(name)));
    }
    if let Some(name) = order.inputs.keys().find(|name| *name != END_SESSIONS) {
        return Err(format!("{ID} has no input {}", short(name)));
    }
    match order.inputs.get(END_SESSIONS).map(String::as_str) {
        None | Some("false") => Ok((name, false)),
        Some("true") => Ok((name, true)),
        Some(_) => Err(format!("{END_SESSIONS} is true or false")),
    }
}

/// Why a policy never lets a user be locked; `None` where it may.
pub fn never(name: &str, policy: &LockUser) -> Option<String> {
    let named = policy.never_lock.iter().any(|one| one == name);
    named.then(|| format!("never locked: {name} is named by policy (response.lock_user.never_lock)"))
}

/// May this user be locked, as far as the order and the policy say? `rate` counts who was locked lately.
pub fn judge(order: &Order, policy: &LockUser, rate: &mut Rate, now: sakimori_model::Timestamp) -> Verdict {
    let name = match read(order) {
        Ok((name, _)) => name,
        Err(reason) => return Verdict::Refused(reason),
    };
    if let Some(reason) = never(name, policy) {
        return Verdict::Refused(reason);
    }
    if policy.mode == Mode::Detect {
        return Verdict::NoEffect(format!("detect mode: would lock {name}"));
    }
    if !rate.take(now, policy.most_per_minute) {
        return Verdict::Refused(format!("the most users a minute, {}, were locked", policy.most_per_minute));
    }
    Verdict::Allowed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::now;
    use proptest::prelude::*;
    use sakimori_model::action::Target;

    fn order(name: &str, inputs: &[(&str, &str)]) -> Order {
        let mut order = crate::testing::order("a", "192.0.2.1");
        (order.action, order.target) = (ID.to_owned(), Target::resource(KIND, name));
        order.inputs = inputs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        order
    }

    #[test]
    fn names_and_inputs_are_read_or_refused() {
        assert_eq!(read(&order("mallory", &[])), Ok(("mallory", false)));
        assert_eq!(read(&order("m.o-1_@+", &[(END_SESSIONS, "true")])), Ok(("m.o-1_@+", true)));
        let long = "x".repeat(MAX_NAME + 1);
        for name in ["", "-r", "a:b", "a/b", "a b", "a\nb", "ü", long.as_str()] {
            assert!(read(&order(name, &[])).is_err(), "{name:?}");
        }
        assert!(read(&order("a", &[(END_SESSIONS, "yes")])).is_err());
        assert!(read(&order("a", &[("shell", "id")])).is_err());
        assert!(read(&crate::testing::order("a", "192.0.2.1")).is_err());
    }

    #[test]
    fn the_policy_and_the_rate_have_their_say() {
        let policy = LockUser { never_lock: vec!["breakglass".into()], most_per_minute: 2, ..LockUser::default() };
        let mut rate = Rate::default();
        let verdict = judge(&order("breakglass", &[]), &policy, &mut rate, now(0));
        assert!(matches!(verdict, Verdict::Refused(reason) if reason.contains("never locked")));
        let detect = LockUser { mode: Mode::Detect, ..policy.clone() };
        assert!(matches!(judge(&order("m", &[]), &detect, &mut rate, now(0)), Verdict::NoEffect(_)));
        let locked = (0..9).filter(|_| judge(&order("m", &[]), &policy, &mut rate, now(0)) == Verdict::Allowed).count();
        assert_eq!(locked, 2);
    }

    proptest! {
        #[test]
        fn a_name_that_is_read_is_one_field_of_one_line(name in ".{0,40}", end in "true|false|.{0,5}") {
            if let Ok((name, _)) = read(&order(&name, &[(END_SESSIONS, end.as_str())])) {
                prop_assert!(!name.contains([':', '\n', '/', ',']) && !name.is_empty());
            }
        }
    }
}
