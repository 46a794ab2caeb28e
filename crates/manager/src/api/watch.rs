//! Who watches: feeds are answers that go on for as long as somebody reads them. Here is what all of them share: how many one
//! user or token may have at once, and when one is over. It ends with what opened it: with the session or token, and where a
//! browser asked for nothing else for so long that its session would let nobody in any more.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sakimori_store::control::{sessions, tokens};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Interval, MissedTickBehavior};

use super::App;
use super::access::Caller;
use super::problem::{self, Problem};

/// Most feeds of one user or token.
const OF_ONE: usize = 8;
/// How often it is looked whether a feed may go on.
const LOOK: Duration = Duration::from_secs(2);

/// Feeds by who has them.
#[derive(Clone, Debug, Default)]
pub struct Watchers(Arc<Mutex<HashMap<String, usize>>>);

/// One of them; dropped, it is over.
struct Watcher(Watchers, String);

impl Watchers {
    /// One more of this user; none where there are too many.
    fn add(&self, who: &str) -> Option<Watcher> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = all.entry(who.to_owned()).or_default();
        (*count < OF_ONE).then(|| {
            *count += 1;
            Watcher(self.clone(), who.to_owned())
        })
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let mut all = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = all.get_mut(&self.1) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                all.remove(&self.1);
            }
        }
    }
}

/// A feed that is open, and whose.
pub struct Watch {
    /// Who watches.
    pub caller: Caller,
    app: App,
    looks: Interval,
    _watcher: Watcher,
    _permit: OwnedSemaphorePermit,
}

impl Watch {
    /// Begins one.
    ///
    /// # Errors
    /// There are too many, of this caller or of all.
    pub fn begin(app: &App, caller: Caller) -> Result<Self, Problem> {
        let busy = || Problem::new(problem::EVENTS_BUSY).retry_after(10);
        let who = caller.user.as_deref().or(caller.token.as_deref()).unwrap_or(&caller.actor);
        let watcher = app.watchers.add(who);
        let watcher = watcher.ok_or_else(|| busy().detail(format!("you have {OF_ONE} feeds already; close a page")))?;
        let permit = Arc::clone(&app.feeds).try_acquire_owned().map_err(|_| busy())?;
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self { app: app.clone(), caller, looks, _watcher: watcher, _permit: permit })
    }

    /// Waits until it is time to look.
    pub async fn time_to_look(&mut self) {
        self.looks.tick().await;
    }

    /// Is what opened it still good?
    pub async fn may_go_on(&self) -> bool {
        let (now, idle) = self.app.now_and_idle();
        let (control, caller) = (self.app.shared.control.read(), &self.caller);
        if caller.ends.is_some_and(|ends| ends <= now) {
            return false;
        }
        let good = match (&caller.session, &caller.token) {
            (Some(session), _) => sessions::exists(control, &caller.home, &session.id, now, idle).await,
            (None, Some(token)) => tokens::exists(control, &caller.home, token, now).await,
            (None, None) => Ok(false),
        };
        // Where the database does not answer, the page would learn nothing either.
        good.unwrap_or(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_a_few_feeds_and_gets_them_back() {
        let watchers = Watchers::default();
        let mut open: Vec<Watcher> = (0..OF_ONE).map(|_| watchers.add("ann").unwrap()).collect();
        assert!(watchers.add("ann").is_none() && watchers.add("bob").is_some());
        open.pop();
        assert!(watchers.add("ann").is_some());
        drop(open);
        assert!(watchers.0.lock().unwrap().is_empty(), "nobody is remembered who is gone");
    }
}
