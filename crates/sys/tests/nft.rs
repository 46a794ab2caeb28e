//! Our nf_tables encoder against the real kernel, with `nft` as second reader where it is installed.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::Command;
use std::time::{Duration, Instant};

use sakimori_sys::lab::Lab;
use sakimori_sys::nft::{Element, Family, Nft, Renewal, Verdict, encode};

const TABLE: &str = "sakimori";

/// A lab with one namespace, or the reason why the test is skipped.
fn lab() -> Option<Lab> {
    if !sakimori_sys::harness::root() {
        return None;
    }
    let mut lab = Lab::new("sknft").unwrap();
    lab.add("a").unwrap();
    Some(lab)
}

fn set_up(nft: &mut Nft) {
    nft.apply(&[
        encode::new_table(TABLE),
        encode::new_chain(TABLE, "prerouting"),
        encode::new_set(TABLE, "block4_24", Family::V4, true, 1),
        encode::new_set(TABLE, "block6_128", Family::V6, true, 2),
        encode::new_set(TABLE, "allow4_32", Family::V4, false, 3),
        encode::new_rule(TABLE, "prerouting", "allow4_32", Family::V4, 32, Verdict::Accept),
        encode::new_rule(TABLE, "prerouting", "block4_24", Family::V4, 24, Verdict::Drop),
        encode::new_rule(TABLE, "prerouting", "block6_128", Family::V6, 128, Verdict::Drop),
    ])
    .unwrap();
}

fn v4(number: u32) -> IpAddr {
    Ipv4Addr::from_bits(0x0b00_0000 + number).into()
}

fn element(address: IpAddr, timeout_ms: u64) -> Element {
    Element { address, timeout_ms: Some(timeout_ms) }
}

#[test]
fn nft_reads_what_we_wrote() {
    let Some(lab) = lab() else { return };
    lab.inside("a", || {
        let mut nft = Nft::open().unwrap();
        assert!(!nft.has_table(TABLE).unwrap());
        set_up(&mut nft);
        set_up_again_is_no_error(&mut nft);
        assert!(nft.has_table(TABLE).unwrap());
        let sets = nft.sets(TABLE).unwrap();
        assert_eq!(sets.len(), 3);
        assert!(sets.iter().any(|set| set.name == "block6_128" && set.family == Some(Family::V6) && set.timeouts));
        nft.add(TABLE, "block4_24", &[element(v4(0x100), 3_600_000)]).unwrap();
        nft.add(TABLE, "block6_128", &[element("2001:db8::7".parse().unwrap(), 3_600_000)]).unwrap();
    })
    .unwrap();
    let output = lab.command("a", "nft").unwrap().args(["list", "ruleset"]).output().expect("package nftables");
    let text = String::from_utf8(output.stdout).unwrap();
    for part in [
        "table inet sakimori {",
        "type filter hook prerouting priority raw; policy accept;",
        "ip saddr @allow4_32 accept",
        "ip saddr & 255.255.255.0 == @block4_24 counter packets 0 bytes 0 drop",
        "ip6 saddr @block6_128 counter packets 0 bytes 0 drop",
        "flags timeout",
        "11.0.1.0 timeout 1h expires",
        "2001:db8::7 timeout 1h expires",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    lab.inside("a", || {
        let mut nft = Nft::open().unwrap();
        assert!(nft.delete_table(TABLE).unwrap());
        assert!(!nft.delete_table(TABLE).unwrap());
    })
    .unwrap();
}

fn set_up_again_is_no_error(nft: &mut Nft) {
    nft.apply(&[encode::new_table(TABLE), encode::new_chain(TABLE, "prerouting")]).unwrap();
}

#[test]
fn add_and_delete_are_idempotent_and_adding_renews_the_timeout() {
    let Some(lab) = lab() else { return };
    let mut ways = vec![Renewal::Replace];
    if Renewal::of_this_kernel() == Renewal::InPlace {
        ways.push(Renewal::InPlace);
    }
    for way in ways {
        lab.inside("a", || {
            let mut nft = Nft::with_renewal(way).unwrap();
            set_up(&mut nft);
            let set = "block4_24";
            for many in [1, 3, 500] {
                let short: Vec<_> = (0..many).map(|n| element(v4(n), 60_000)).collect();
                let long: Vec<_> = (0..many + 1).map(|n| element(v4(n), 7_200_000)).collect();
                nft.add(TABLE, set, &short).unwrap();
                nft.add(TABLE, set, &short).unwrap();
                nft.add(TABLE, set, &long).unwrap();
                let read = nft.elements(TABLE, set).unwrap();
                assert_eq!(read.len(), long.len(), "{way:?}");
                assert!(read.iter().all(|one| one.timeout_ms.unwrap() > 7_000_000), "{way:?} {:?}", read[0]);
                // The same timeout again counts from now on.
                std::thread::sleep(Duration::from_millis(60));
                nft.add(TABLE, set, &long).unwrap();
                let read = nft.elements(TABLE, set).unwrap();
                assert!(read.iter().all(|one| one.timeout_ms.unwrap() > 7_200_000 - 50), "{way:?} {:?}", read[0]);
                nft.add(TABLE, set, &short).unwrap();
                let shorter = nft.elements(TABLE, set).unwrap();
                assert_eq!(shorter.iter().filter(|one| one.timeout_ms.unwrap() <= 60_000).count(), short.len());
                let all: Vec<_> = (0..2 * many + 5).map(v4).collect();
                nft.delete(TABLE, set, &all).unwrap();
                nft.delete(TABLE, set, &all).unwrap();
                assert!(nft.elements(TABLE, set).unwrap().is_empty());
            }
            nft.add(TABLE, set, &[]).unwrap();
            nft.delete(TABLE, set, &[]).unwrap();
            nft.delete_table(TABLE).unwrap();
        })
        .unwrap();
    }
}

#[test]
fn an_error_names_what_failed_and_nothing_of_the_batch_stays() {
    let Some(lab) = lab() else { return };
    lab.inside("a", || {
        let mut nft = Nft::open().unwrap();
        let error = nft
            .apply(&[encode::new_table(TABLE), encode::new_rule(TABLE, "none", "none", Family::V4, 32, Verdict::Drop)])
            .unwrap_err();
        assert_eq!(error.errno(), Some(libc::ENOENT));
        let text = error.to_string();
        assert!(text.starts_with("cannot add the rule on set none to chain none"), "{text}");
        assert!(text.contains("message 2 of 2"), "{text}");
        assert!(!nft.has_table(TABLE).unwrap());
        let missing = nft.add(TABLE, "none", &[element(v4(1), 1_000)]).unwrap_err();
        assert_eq!(missing.errno(), Some(libc::ENOENT));
    })
    .unwrap();
}

#[test]
fn without_rights_the_error_says_so() {
    let Some(lab) = lab() else { return };
    let output = lab
        .command("a", "setpriv")
        .unwrap()
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "--ignored", "--nocapture", "unprivileged_probe"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("errno Some(1)"), "{text} {}", String::from_utf8_lossy(&output.stderr));
}

/// Run by the test above as another user.
#[test]
#[ignore = "run by without_rights_the_error_says_so"]
fn unprivileged_probe() {
    let error = Nft::open().unwrap().apply(&[encode::new_table(TABLE)]).unwrap_err();
    println!("errno {:?} {error}", error.errno());
}

#[test]
fn elements_expire_in_the_kernel() {
    let Some(lab) = lab() else { return };
    lab.inside("a", || {
        let mut nft = Nft::open().unwrap();
        set_up(&mut nft);
        nft.add(TABLE, "block4_24", &[element(v4(0), 200), element(v4(0x100), 3_600_000)]).unwrap();
        let deadline = Instant::now() + Duration::from_secs(30);
        while nft.elements(TABLE, "block4_24").unwrap().len() > 1 {
            assert!(Instant::now() < deadline, "it is still there");
            std::thread::sleep(Duration::from_millis(10));
        }
        // Deleting one that has expired beside one that has not.
        nft.delete(TABLE, "block4_24", &[v4(0), v4(0x100)]).unwrap();
        assert!(nft.elements(TABLE, "block4_24").unwrap().is_empty());
    })
    .unwrap();
}

/// The figures of DECISIONS D13; limits are the promise, with room for a slow machine.
#[test]
fn many_elements_go_in_and_out_fast() {
    let Some(lab) = lab() else { return };
    const MANY: u32 = 150_000;
    for family in [Family::V4, Family::V6] {
        lab.inside("a", || {
            let mut nft = Nft::open().unwrap();
            set_up(&mut nft);
            let set = if family == Family::V4 { "block4_24" } else { "block6_128" };
            let address = |n: u32| match family {
                Family::V4 => v4(n),
                Family::V6 => Ipv6Addr::from_bits((0x2001_0db8 << 96) + (u128::from(n) << 8)).into(),
            };
            let elements: Vec<_> = (0..MANY).map(|n| element(address(n), 3_600_000)).collect();
            let start = Instant::now();
            nft.add(TABLE, set, &elements).unwrap();
            let added = start.elapsed();
            let start = Instant::now();
            assert_eq!(nft.elements(TABLE, set).unwrap().len(), MANY as usize);
            let read = start.elapsed();
            let mut ones: Vec<_> = (0..21_u32)
                .map(|n| {
                    let start = Instant::now();
                    nft.add(TABLE, set, &[element(address(MANY + n), 3_600_000)]).unwrap();
                    start.elapsed()
                })
                .collect();
            ones.sort_unstable();
            let start = Instant::now();
            nft.add(TABLE, set, &elements).unwrap();
            let renewed = start.elapsed();
            let all: Vec<_> = (0..MANY + 21).map(address).collect();
            let start = Instant::now();
            nft.delete(TABLE, set, &all).unwrap();
            let deleted = start.elapsed();
            assert!(nft.elements(TABLE, set).unwrap().is_empty());
            println!("{family:?}: {MANY} added {added:?}, read {read:?}, renewed {renewed:?}, deleted {deleted:?}");
            println!("one more: median {:?}, worst {:?}", ones[10], ones[20]);
            assert!(added < Duration::from_secs(2), "{added:?}");
            assert!(deleted < Duration::from_secs(2), "{deleted:?}");
            assert!(ones[10] < Duration::from_millis(5), "{:?}", ones[10]);
            nft.delete_table(TABLE).unwrap();
        })
        .unwrap();
    }
}

#[test]
fn a_set_that_changes_all_the_time_is_read_whole() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let Some(lab) = lab() else { return };
    lab.inside("a", || {
        let mut nft = Nft::open().unwrap();
        set_up(&mut nft);
        let mut other = Nft::open().unwrap();
        let stop = AtomicBool::new(false);
        let failures = std::thread::scope(|scope| {
            scope.spawn(|| {
                for n in 1_000_000.. {
                    other.add(TABLE, "block4_24", &[element(v4(n), 3_600_000)]).unwrap();
                    std::thread::sleep(Duration::from_millis(200));
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                }
            });
            let mut failures = Vec::new();
            for round in 1..=10 {
                // Right after many were added the kernel moves them into a larger table.
                let fixed: Vec<_> = (0..round * 2_000).map(|n| element(v4(n), 3_600_000)).collect();
                match nft.add(TABLE, "block4_24", &fixed).and_then(|()| nft.elements(TABLE, "block4_24")) {
                    Err(error) => failures.push(error.to_string()),
                    Ok(read) => {
                        let found = read.iter().filter(|one| one.address < v4(1_000_000)).count();
                        if found != fixed.len() {
                            failures.push(format!("{found} of {}", fixed.len()));
                        }
                    }
                }
            }
            stop.store(true, Ordering::Relaxed);
            failures
        });
        assert_eq!(failures, Vec::<String>::new());
    })
    .unwrap();
}

#[test]
fn a_lab_leaves_nothing_behind() {
    let Some(lab) = lab() else { return };
    let path = lab.path("a");
    let full = lab.full_name("a");
    assert!(path.exists());
    let listed = Command::new("ip").args(["netns", "list"]).output().unwrap();
    assert!(String::from_utf8_lossy(&listed.stdout).contains(&full));
    let dead = "sknft-4194999-0-x";
    assert!(Command::new("ip").args(["netns", "add", dead]).status().unwrap().success());
    let other = Lab::new("sknft").unwrap();
    assert!(!std::path::Path::new("/run/netns").join(dead).exists(), "left by a dead process");
    drop(other);
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
        let _lab = lab;
        panic!("a test fails");
    }));
    assert!(panicked.is_err());
    assert!(!path.exists());
}
