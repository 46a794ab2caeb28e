//! What the host's adapters read: tables of accounts, the keeper's messages, quarantined items, the table of mounts.

use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};

use sakimori_host::keeper::message::{FromKeeper, ToKeeper};
use sakimori_host::lock_user::accounts as tables;
use sakimori_host::quarantine::{Bounds, Quarantine};
use sakimori_sys::mounts;

/// A table of accounts: of the name in its first line all but two fields stays, and a lock is taken back to what was there.
pub fn accounts(bytes: &[u8]) {
    let (name, table) = bytes.split_at(bytes.iter().position(|byte| *byte == b'\n').unwrap_or(0));
    let Ok(name) = std::str::from_utf8(name) else { return };
    let _ =
        (tables::user(table, name), tables::admins(table, table), tables::another_admin(table, table, table, name, 1));
    let Ok(Some(former)) = tables::former(table, name) else { return };
    let there = tables::locked(table, name).expect("its line was read");
    assert!(tables::is_locked(&there, name).expect("it is there still"));
    let (back, others) = tables::unlocked(&there, name, &former).expect("it is there still");
    assert!(back == table && others.is_empty(), "nobody else changed it");
}

/// A message to or from the keeper: what is understood is written as it came.
pub fn keeper_message(bytes: &[u8]) {
    if let Some(message) = ToKeeper::decode(bytes) {
        assert_eq!(ToKeeper::decode(&message.encode()), Some(message));
    }
    if let Some(message) = FromKeeper::decode(bytes) {
        assert_eq!(FromKeeper::decode(&message.encode()), Some(message));
    }
}

/// A file in the quarantine's folder: an item, or damaged; it hides no other one and is never given back half.
pub fn quarantine_item(bytes: &[u8]) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("q");
    std::fs::create_dir(&path).expect("a folder in it");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).expect("closed to others");
    let mut options = std::fs::OpenOptions::new();
    let file = path.join("20260101T000000-0000.item");
    std::io::Write::write_all(
        &mut options.write(true).create_new(true).mode(0o600).open(&file).expect("a file"),
        bytes,
    )
    .expect("written");
    let store = Quarantine::open(&path, Bounds::default()).expect("a store");
    // Flags such as "immutable" would stay on this machine's disk.
    for item in store.list().expect("its items").into_iter().flatten().filter(|item| item.flags == 0) {
        let to = folder.path().join("given-back");
        if store.restore(&item.id, Some(&to)).is_ok() {
            let content = std::fs::read(&to).expect("it is there");
            assert_eq!(content.len() as u64, item.size, "all of it");
        }
    }
}

/// The table of mounts, in which a container's owner chooses names.
pub fn mounts_table(bytes: &[u8]) {
    let table = mounts::parse_table(bytes);
    assert!(table.len() <= mounts::MAX_MOUNTS);
    let _ = mounts::covering(&table, &["/srv".into()]);
}

/// What the kernel says of a process: read or not, and what is read has its number and start.
pub fn process_stat(bytes: &[u8]) {
    if let Some(row) = sakimori_host::processes::table::parse(bytes) {
        assert_eq!(row.id(), (row.pid, row.start));
        assert!(!(row.has_ended() && row.is_stopped()), "one state at a time");
    }
}
