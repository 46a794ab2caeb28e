//! What tells this machine from a copy of its disk (`wire::machine`), read from the system. No file of the disk itself is
//! asked but machine-id, which an image that was prepared for copying does not have.

use std::path::Path;

use sakimori_wire::machine::Machine;

/// Longest fact that is read, in bytes.
const LONGEST: usize = 128;

/// Reads the facts; what this machine does not tell is empty.
pub fn read() -> Machine {
    let product = fact(Path::new("/sys/class/dmi/id/product_uuid")).to_ascii_lowercase();
    // EC2 writes the instance's id here; anybody else an asset's tag.
    let tag = fact(Path::new("/sys/class/dmi/id/board_asset_tag"));
    let instance = if tag.starts_with("i-") { tag } else { fact(Path::new("/run/cloud-init/.instance-id")) };
    Machine {
        machine_id: machine_id(&fact(Path::new("/etc/machine-id"))),
        product_uuid: if is_filler(&product) { String::new() } else { product },
        instance_id: instance,
    }
}

/// Of the running kernel; empty where it does not tell.
pub fn boot_id() -> String {
    fact(Path::new("/proc/sys/kernel/random/boot_id"))
}

fn fact(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.trim().chars().take(LONGEST).collect()
}

/// An image before its first boot has none, or the word for it.
fn machine_id(text: &str) -> String {
    let is_one = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_one { text.to_owned() } else { String::new() }
}

/// Boards without a UUID of their own say all the same digit, or a number that counts up.
fn is_filler(uuid: &str) -> bool {
    let digits: Vec<u8> = uuid.bytes().filter(|byte| byte.is_ascii_hexdigit()).collect();
    let same = digits.first().is_some_and(|first| digits.iter().all(|digit| digit == first));
    digits.len() != 32 || same || uuid.starts_with("03000200-0400-0500-0006-000700080009")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_says_nothing_is_nothing() {
        assert_eq!(machine_id("uninitialized"), "");
        assert_eq!(machine_id("0123456789abcdef0123456789abcdef"), "0123456789abcdef0123456789abcdef");
        for filler in
            ["", "not settable", "ffffffff-ffff-ffff-ffff-ffffffffffff", "00000000-0000-0000-0000-000000000000"]
        {
            assert!(is_filler(filler), "{filler}");
        }
        assert!(!is_filler("ec2f0a1b-1234-5678-9abc-def012345678"));
    }

    #[test]
    fn two_readings_are_of_one_machine() {
        assert_eq!(read().differs(&read()), None);
    }
}
