//! Compiled patterns: each when it is first asked for, and so many of them in a process.
//!
//! A pattern is text until then, since most are never asked: a literal of theirs has to be found first. Compiled, one takes
//! a hundred kilobytes and, while it is at work, a cache. Who sends what has the literals of thousands of rules must not
//! have them all kept, so the pool lets those go that were not asked for longest: in a ring, each that was asked since the
//! last round is passed over once (the clock of page replacement; Corbató 1968). They are compiled again when they are
//! asked again.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// Most compiled patterns of a process: several times those that traffic asks for.
const MOST: usize = 1_024;

static POOL: Pool = Pool::new(MOST);

/// A pattern that can be compiled, and is when it is asked for.
#[derive(Debug)]
pub(crate) struct OnDemand<R> {
    pattern: String,
    compile: fn(&str) -> Option<R>,
    compiled: Mutex<Option<Arc<R>>>,
    /// Since the pool last came by.
    asked: AtomicBool,
}

impl<R: std::fmt::Debug + Send + Sync + 'static> OnDemand<R> {
    pub(crate) fn new(pattern: &str, compile: fn(&str) -> Option<R>) -> Arc<Self> {
        let (compiled, asked) = (Mutex::new(None), AtomicBool::new(false));
        Arc::new(Self { pattern: pattern.to_owned(), compile, compiled, asked })
    }

    /// The compiled pattern; nothing where it cannot be, which its rule was told when it was loaded.
    pub(crate) fn regex(self: &Arc<Self>) -> Option<Arc<R>> {
        self.regex_in(&POOL)
    }

    /// Is it in memory?
    #[cfg(test)]
    pub(crate) fn is_compiled(&self) -> bool {
        lock(&self.compiled).is_some()
    }

    fn regex_in(self: &Arc<Self>, pool: &Pool) -> Option<Arc<R>> {
        self.asked.store(true, Ordering::Relaxed);
        let mut compiled = lock(&self.compiled);
        if let Some(regex) = &*compiled {
            return Some(Arc::clone(regex));
        }
        let regex = Arc::new((self.compile)(&self.pattern)?);
        *compiled = Some(Arc::clone(&regex));
        // The pool locks patterns: this one's lock is not held while it does.
        drop(compiled);
        let held: Arc<dyn Held> = self.clone();
        pool.add(Arc::downgrade(&held));
        Some(regex)
    }
}

/// What the pool knows of a pattern.
trait Held: std::fmt::Debug + Send + Sync {
    /// Lets the compiled form go, unless it was asked for since the last time.
    fn let_go(&self) -> bool;
}

impl<R: std::fmt::Debug + Send + Sync> Held for OnDemand<R> {
    fn let_go(&self) -> bool {
        let idle = !self.asked.swap(false, Ordering::Relaxed);
        if idle {
            *lock(&self.compiled) = None;
        }
        idle
    }
}

/// Those that are compiled now.
#[derive(Debug)]
struct Pool {
    most: usize,
    ring: Mutex<VecDeque<Weak<dyn Held>>>,
}

impl Pool {
    const fn new(most: usize) -> Self {
        Self { most, ring: Mutex::new(VecDeque::new()) }
    }

    fn add(&self, pattern: Weak<dyn Held>) {
        let mut ring = lock(&self.ring);
        ring.push_back(pattern);
        if ring.len() > self.most {
            // Those of rules that are no longer in use.
            ring.retain(|pattern| pattern.strong_count() > 0);
        }
        while ring.len() > self.most {
            let Some(pattern) = ring.pop_front() else { break };
            if pattern.upgrade().is_some_and(|pattern| !pattern.let_go()) {
                ring.push_back(pattern);
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_are_kept_and_those_that_are_asked_again_stay() {
        let pool = Pool::new(4);
        let patterns: Vec<_> =
            (0..40).map(|number| OnDemand::new(&number.to_string(), |text| text.parse().ok())).collect();
        for (number, pattern) in (0_u32..).zip(&patterns) {
            assert_eq!(pattern.regex_in(&pool).as_deref(), Some(&number));
            assert_eq!(patterns[0].regex_in(&pool).as_deref(), Some(&0));
            let kept = patterns.iter().filter(|pattern| pattern.is_compiled()).count();
            assert!(kept <= 4 && patterns[0].is_compiled(), "{kept} after {number}");
        }
        assert_eq!(patterns[7].regex_in(&pool).as_deref(), Some(&7), "one that was let go is compiled again");
    }

    #[test]
    fn rules_that_went_make_room_first() {
        let pool = Pool::new(2);
        let parse: fn(&str) -> Option<u32> = |text| text.parse().ok();
        let stays = OnDemand::new("1", parse);
        stays.regex_in(&pool);
        for _ in 0..10 {
            OnDemand::new("2", parse).regex_in(&pool);
        }
        assert!(stays.is_compiled());
        assert_eq!(OnDemand::new("x", parse).regex_in(&pool), None);
    }
}
