//! Quarantine as root sees it; what is before and after is read by calls of its own, not by the code that is
//! tested.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::fs::{File, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;
use sakimori_host::quarantine::{self, Bounds, Cause, Quarantine, QuarantineError};
use sakimori_model::Timestamp;
use sakimori_sys::harness;

struct Lab {
    folder: tempfile::TempDir,
    store: Quarantine,
}

fn lab() -> Lab {
    lab_with(Bounds::default())
}

fn lab_with(bounds: Bounds) -> Lab {
    let folder = tempfile::tempdir().unwrap();
    let store = Quarantine::open(&folder.path().join("store"), bounds).unwrap();
    Lab { folder, store }
}

impl Lab {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    fn take(&self, path: &Path) -> Result<String, QuarantineError> {
        let cause = Cause { rule: "eicar-test-file".into(), title: "EICAR".into(), action: "a1".into() };
        let taken = self.store.take(&File::open(path).unwrap(), &cause, Timestamp::from_secs(1_700_000_000))?;
        Ok(taken.item.id)
    }
}

/// Everything about a file but the times that no call can set.
fn seen(path: &Path) -> String {
    let stat = path.symlink_metadata().unwrap();
    let owner = (stat.uid(), stat.gid(), format!("{:o}", stat.mode()), stat.size());
    let times = (stat.atime(), stat.atime_nsec(), stat.mtime(), stat.mtime_nsec());
    let mut names = vec![0_u8; 65_536];
    let size = rustix::fs::llistxattr(path, names.as_mut_slice()).unwrap_or(0);
    let mut attributes: Vec<(String, String)> = names[..size]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
        .map(|name| {
            let mut value = vec![0_u8; 65_536];
            let size = rustix::fs::lgetxattr(path, name, value.as_mut_slice()).unwrap();
            (String::from_utf8_lossy(name).into_owned(), format!("{:x?}", &value[..size]))
        })
        .collect();
    attributes.sort();
    format!("{owner:?} {times:?} {attributes:?}")
}

fn attribute(path: &Path, name: &str, value: &[u8]) -> bool {
    rustix::fs::setxattr(path, name, value, rustix::fs::XattrFlags::empty()).is_ok()
}

/// Opened where its root lies deeper than here, as in a container, a file has a path that is none here.
#[test]
fn a_file_is_found_by_the_end_of_a_path_that_another_namespace_gives_it() {
    if !harness::needs(rustix::process::geteuid().is_root(), "root") {
        return;
    }
    let lab = lab();
    let folder = lab.path("mnt");
    std::fs::create_dir(&folder).unwrap();
    let evil = lab.file("mnt/evil", b"evil");
    let file = File::open(&evil).unwrap();
    let (told, cover) = (lab.folder.path().to_owned(), lab.path("cover"));
    std::fs::create_dir(&cover).unwrap();
    // The mounts are this thread's alone.
    let taken = std::thread::scope(|scope| {
        let in_its_namespace = || {
            harness::private_mounts().unwrap();
            rustix::mount::mount_bind(&folder, "/mnt").unwrap();
            rustix::mount::mount_bind(&cover, &told).unwrap();
            let reached = quarantine::path_of(&file);
            let cause = Cause { rule: "eicar-test-file".into(), title: "EICAR".into(), action: "a1".into() };
            (reached, lab.store.take(&file, &cause, Timestamp::from_secs(1_700_000_000)).unwrap())
        };
        scope.spawn(in_its_namespace).join().unwrap()
    });
    assert_eq!((taken.0, taken.1.item.path.as_str()), (Some("/mnt/evil".into()), "/mnt/evil"));
    assert!(!evil.exists(), "the very file is gone");
    assert_eq!(quarantine::path_of(&file), None);
}

#[test]
fn a_file_comes_back_byte_and_metadata_identical() {
    if !harness::root() {
        return;
    }
    let lab = lab();
    let path = lab.file("evil.sh", b"#!/bin/sh\necho harmless\n");
    std::os::unix::fs::chown(&path, Some(1_234), Some(4_321)).unwrap();
    std::fs::set_permissions(&path, Permissions::from_mode(0o6751)).unwrap();
    assert!(attribute(&path, "user.comment", b"\x00binary\xff"));
    // cap_net_raw+ep, as setcap writes it.
    let capability = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    assert!(attribute(&path, "security.capability", &capability));
    let file = File::open(&path).unwrap();
    let times = std::fs::FileTimes::new()
        .set_accessed(std::time::UNIX_EPOCH + std::time::Duration::new(1_500_000_000, 123_456_789))
        .set_modified(std::time::UNIX_EPOCH + std::time::Duration::new(1_400_000_000, 987_654_321));
    file.set_times(times).unwrap();
    let before = seen(&path);
    assert!(
        before.contains("123456789") && before.contains("987654321") && before.contains("user.comment"),
        "{before}"
    );

    let id = lab.take(&path).unwrap();
    assert!(!path.exists());
    let item = lab.store.item(&id).unwrap();
    assert_eq!((item.path.as_str(), item.size, item.uid, item.mode), (path.to_str().unwrap(), 24, 1_234, 0o6751));
    assert_eq!(item.cause.rule, "eicar-test-file");
    assert_eq!(lab.store.restore(&id, None).unwrap(), path);
    assert_eq!(seen(&path), before);
    assert_eq!(std::fs::read(&path).unwrap(), b"#!/bin/sh\necho harmless\n");
    assert!(lab.store.list().unwrap().is_empty());
}

#[test]
fn what_lies_in_the_store_is_inert_and_roots_alone() {
    let lab = lab();
    let content = b"#!/bin/sh\n".repeat(50_000);
    let id = lab.take(&lab.file("evil", &content)).unwrap();
    let stored = lab.path("store").join(format!("{id}.item"));
    assert_eq!(std::fs::metadata(&stored).unwrap().mode() & 0o7777, 0o400);
    assert_eq!(std::fs::metadata(lab.path("store")).unwrap().mode() & 0o7777, 0o700);
    let bytes = std::fs::read(&stored).unwrap();
    assert!(!bytes.windows(6).any(|part| part == b"#!/bin"), "the content cannot be recognised");
    assert!(bytes.starts_with(b"SAKIQUAR"));
    let other = lab.path("elsewhere");
    assert_eq!(lab.store.restore(&id, Some(&other)).unwrap(), other);
    assert_eq!(std::fs::read(&other).unwrap(), content);
}

#[test]
fn an_immutable_file_is_taken_and_comes_back_immutable() {
    let lab = lab();
    let path = lab.file("evil", b"x");
    let flags = |path: &Path| rustix::fs::ioctl_getflags(File::open(path).unwrap());
    let immutable = rustix::fs::IFlags::IMMUTABLE;
    let Ok(own) = flags(&path) else { return println!("no inode flags on this file system: not tested") };
    if rustix::fs::ioctl_setflags(File::open(&path).unwrap(), own | immutable).is_err() {
        return println!("no right to set inode flags: not tested");
    }
    assert!(std::fs::remove_file(&path).is_err());
    let id = lab.take(&path).unwrap();
    assert!(!path.exists());
    lab.store.restore(&id, None).unwrap();
    assert!(flags(&path).unwrap().contains(immutable));
    rustix::fs::ioctl_setflags(File::open(&path).unwrap(), own).unwrap();
}

#[test]
fn nothing_is_overwritten_and_the_item_stays() {
    let lab = lab();
    let path = lab.file("evil", b"evil");
    let id = lab.take(&path).unwrap();
    std::fs::write(&path, "another").unwrap();
    assert!(matches!(lab.store.restore(&id, None), Err(QuarantineError::Exists(at)) if at == path));
    assert_eq!(std::fs::read(&path).unwrap(), b"another");
    std::fs::remove_file(&path).unwrap();
    lab.store.restore(&id, None).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"evil");
}

#[test]
fn a_file_swapped_in_between_is_left_alone() {
    let lab = lab();
    let path = lab.file("evil", b"evil");
    let judged = File::open(&path).unwrap();
    std::fs::write(lab.path("good"), "good").unwrap();
    std::fs::rename(lab.path("good"), &path).unwrap();
    let result = lab.store.take(&judged, &Cause::default(), Timestamp::from_secs(1));
    // The judged file has no name left, or another one stands there: either way nobody's file is touched.
    assert!(result.is_err(), "{result:?}");
    assert_eq!(std::fs::read(&path).unwrap(), b"good");
    assert!(lab.store.list().unwrap().is_empty());
    // A symbolic link on the way is not followed.
    std::fs::create_dir(lab.path("real")).unwrap();
    lab.file("real/evil", b"evil");
    let judged = File::open(lab.path("real/evil")).unwrap();
    std::fs::rename(lab.path("real"), lab.path("moved")).unwrap();
    std::os::unix::fs::symlink(lab.path("moved"), lab.path("real")).unwrap();
    let taken = lab.store.take(&judged, &Cause::default(), Timestamp::from_secs(1)).unwrap();
    assert_eq!(taken.item.path, lab.path("moved/evil").to_str().unwrap(), "the kernel knows where it went");
}

/// An attacker exchanges the file for an innocent one as fast as possible while it is taken: the innocent one survives
/// every time, under one name or the other, and only the judged one is ever stored.
#[test]
fn a_racing_swap_never_costs_an_innocent_file() {
    let lab = lab();
    let (evil, good) = (lab.path("evil"), lab.path("good"));
    let stop = AtomicBool::new(false);
    let mut taken = 0;
    for round in 0..60 {
        std::fs::write(&evil, b"evil").unwrap();
        std::fs::write(&good, b"good").unwrap();
        let judged = File::open(&evil).unwrap();
        stop.store(false, Ordering::SeqCst);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::SeqCst) {
                    let cwd = rustix::fs::CWD;
                    let _ = rustix::fs::renameat_with(cwd, &evil, cwd, &good, rustix::fs::RenameFlags::EXCHANGE);
                }
            });
            if lab.store.take(&judged, &Cause::default(), Timestamp::from_secs(1_000 + round)).is_ok() {
                taken += 1;
            }
            stop.store(true, Ordering::SeqCst);
        });
        let texts: Vec<Vec<u8>> = std::fs::read_dir(lab.folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.is_file())
            .map(|path| std::fs::read(path).unwrap())
            .collect();
        assert_eq!(texts.iter().filter(|text| text.as_slice() == b"good").count(), 1, "round {round}");
        for name in std::fs::read_dir(lab.folder.path()).unwrap().map(|entry| entry.unwrap().path()) {
            if name.is_file() {
                std::fs::remove_file(name).unwrap();
            }
        }
    }
    for item in lab.store.list().unwrap() {
        assert_eq!(item.unwrap().size, 4);
    }
    println!("{taken} of 60 were taken in spite of the race");
}

#[test]
fn other_names_are_told() {
    let lab = lab();
    let path = lab.file("evil", b"evil");
    std::fs::hard_link(&path, lab.path("second")).unwrap();
    let taken = lab.store.take(&File::open(&path).unwrap(), &Cause::default(), Timestamp::from_secs(1)).unwrap();
    assert_eq!(taken.other_links, 1);
    assert!(lab.path("second").exists());
}

#[test]
fn bounds_hold_and_say_so() {
    let lab = lab_with(Bounds { file: 10, total: 2_000, items: 2 });
    let full = |result: Result<String, QuarantineError>| matches!(result, Err(QuarantineError::Full { .. }));
    let large = lab.file("large", &[0; 11]);
    assert!(full(lab.take(&large)) && large.exists());
    lab.take(&lab.file("a", b"a")).unwrap();
    lab.take(&lab.file("b", b"b")).unwrap();
    let third = lab.file("c", b"c");
    assert!(full(lab.take(&third)) && third.exists());
    assert_eq!(lab.store.list().unwrap().len(), 2);
}

#[test]
fn what_is_no_file_of_a_path_is_refused() {
    let lab = lab();
    let path = lab.file("gone", b"x");
    let file = File::open(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let take = |file: &File| lab.store.take(file, &Cause::default(), Timestamp::from_secs(1));
    assert!(matches!(take(&file), Err(QuarantineError::Unfit(_))));
    assert!(matches!(take(&File::open(lab.folder.path()).unwrap()), Err(QuarantineError::Unfit(_))));
    for id in ["", "../x", "nothing", "a/b", &"x".repeat(100)] {
        assert!(matches!(lab.store.delete(id), Err(QuarantineError::Unknown(_))), "{id}");
    }
}

#[test]
fn a_store_that_others_can_enter_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let open = folder.path().join("open");
    std::fs::create_dir(&open).unwrap();
    std::fs::set_permissions(&open, Permissions::from_mode(0o755)).unwrap();
    assert!(matches!(Quarantine::open(&open, Bounds::default()), Err(QuarantineError::Store { .. })));
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(&open, &link).unwrap();
    assert!(Quarantine::open(&link, Bounds::default()).is_err());
}

#[test]
fn a_crash_at_any_byte_of_an_item_loses_neither_the_store_nor_the_rest() {
    let lab = lab();
    let id = lab.take(&lab.file("evil", b"evil content")).unwrap();
    let stored = lab.path("store").join(format!("{id}.item"));
    let whole = std::fs::read(&stored).unwrap();
    let second = lab.take(&lab.file("other", b"other")).unwrap();
    std::fs::set_permissions(&stored, Permissions::from_mode(0o600)).unwrap();
    for at in (0..whole.len()).step_by(7) {
        std::fs::write(&stored, &whole[..at]).unwrap();
        let listed = lab.store.list().unwrap();
        assert_eq!(listed.len(), 2);
        assert!(listed.iter().any(|item| item.as_ref().is_ok_and(|item| item.id == second)));
        assert!(lab.store.restore(&id, None).is_err());
        let mut flipped = whole.clone();
        flipped[at] ^= 0x40;
        std::fs::write(&stored, &flipped).unwrap();
        // Either refused, or the byte was in a text for people; the content is never another one.
        if lab.store.restore(&id, Some(&lab.path("back"))).is_ok() {
            assert_eq!(std::fs::read(lab.path("back")).unwrap(), b"evil content");
            std::fs::remove_file(lab.path("back")).unwrap();
        }
        let _ = std::fs::remove_file(lab.path("evil"));
    }
    // What a crash left unfinished goes when the store is opened.
    std::fs::write(lab.path("store/.new-1-2"), "half").unwrap();
    Quarantine::open(&lab.path("store"), Bounds::default()).unwrap();
    assert!(lab.path("store/.new-1-2").exists(), "who only looks does not touch what is being written");
    let again = Quarantine::open_to_take(&lab.path("store"), Bounds::default()).unwrap();
    assert!(!lab.path("store/.new-1-2").exists());
    assert!(again.item(&second).is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn do_undo_is_before_for_any_content_name_mode_owner_and_time(
        content in proptest::collection::vec(any::<u8>(), 0..600_000),
        name in proptest::collection::vec(any::<u8>().prop_filter("no name", |byte| *byte != 0 && *byte != b'/'), 1..60),
        mode in 0_u32..0o10000,
        uid in 0_u32..70_000,
        value in proptest::collection::vec(any::<u8>(), 0..300),
        seconds in 0_u64..4_000_000_000,
        nanoseconds in 0_u32..1_000_000_000,
    ) {
        let name = std::ffi::OsStr::from_bytes(&name);
        prop_assume!(name != "." && name != ".." && name != "store");
        let lab = lab();
        let path = lab.folder.path().join(name);
        std::fs::write(&path, &content).unwrap();
        // An ordinary user's files are his own, and he reads them here.
        let is_root = harness::lacks_root().is_none();
        let mode = if is_root { mode } else { mode | 0o400 };
        if is_root {
            std::os::unix::fs::chown(&path, Some(uid), Some(uid / 2)).unwrap();
        }
        attribute(&path, "user.any", &value);
        let time = std::time::UNIX_EPOCH + std::time::Duration::new(seconds, nanoseconds);
        let file = File::open(&path).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        file.set_times(std::fs::FileTimes::new().set_accessed(time).set_modified(time)).unwrap();
        let before = seen(&path);
        let taken = lab.store.take(&file, &Cause::default(), Timestamp::from_secs(5)).unwrap();
        prop_assert!(path.symlink_metadata().is_err());
        prop_assert_eq!(lab.store.restore(&taken.item.id, None).unwrap(), path.clone());
        prop_assert_eq!(seen(&path), before);
        prop_assert_eq!(std::fs::read(&path).unwrap(), content);
    }
}
