//! Which of root's rights this process has: a container's root, or a service's, lacks some.

/// The right to change networks and nftables.
pub const NET_ADMIN: u32 = 12;
/// The right to many things, permission events and namespaces among them.
pub const SYS_ADMIN: u32 = 21;

/// Is this capability, by its number in capabilities(7), in effect?
pub fn holds(number: u32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    number < 64 && mask & (1 << number) != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_process_holds_a_right_that_there_is_not() {
        assert!(!holds(63) && !holds(64) && !holds(u32::MAX));
    }
}
