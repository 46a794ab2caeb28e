//! Descriptors of this process: connections, files of the lake, of the journal and of the control state share one limit.
//!
//! Many systems let a process have 1,024 unless it asks for more; so the manager asks for all that it may have, and the
//! API gets a quarter at the most: a flood of its port must leave the agents theirs.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Where the kernel names no limit.
const ENDLESS: u64 = 1 << 20;

/// Raises the limit as far as it goes; returns it.
pub fn raise() -> u64 {
    let now = getrlimit(Resource::Nofile);
    if now.current != now.maximum {
        // A limit that cannot be raised stays as it is, and what is handed out is counted by it.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: now.maximum, maximum: now.maximum });
    }
    getrlimit(Resource::Nofile).current.unwrap_or(ENDLESS)
}

/// How many connections the API may hold, of those that are wanted.
pub fn for_api(wanted: usize, limit: u64) -> usize {
    wanted.min(usize::try_from(limit / 4).unwrap_or(usize::MAX)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_api_has_a_quarter_at_the_most() {
        assert_eq!((for_api(1_024, 1 << 20), for_api(1_024, 1_024), for_api(0, 1 << 20)), (1_024, 256, 1));
        let limit = raise();
        assert!(limit >= 64, "{limit}");
        assert_eq!(raise(), limit, "once is enough");
    }
}
