//! Users locked in a copy of the tables of accounts, and processes of a user that nobody has ended for real.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use sakimori_host::lock_user::Locker;
use sakimori_host::lock_user::sessions;
use sakimori_model::action::{Cause, Target};
use sakimori_model::{Action, Order, Timestamp};
use sakimori_respond::actions::lock_user::{self, END_SESSIONS};
use sakimori_respond::ports::{Applied, HostEffect, Look};
use sakimori_respond::wide::{self, Limits};

/// A user id that no system gives.
const UID: u32 = 64_990;
const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\ntoor:x:0:0::/root:/bin/sh\nwww-data:x:33:33::/var/www:/bin/false\n\
                      ann:x:1000:1000:Ann:/home/ann:/bin/bash\nmallory:x:64990:64990::/home/m:/bin/bash\n\
                      worker:x:64102:64102::/:/bin/false\nghost:x:1002:1002::/:/bin/sh\n";
const GROUP: &str = "root:x:0:\nsudo:x:27:ann\nwww-data:x:33:\nmallory:x:64990:\n";
const SHADOW: &str = "root:*:19000:0:99999:7:::\ntoor:!:19000::::::\nwww-data:*:19000:0:99999:7:::\n\
                      ann:$y$j9T$ann:19000:0:99999:7:::\nmallory:$6$salt$hash:19500:0:99999:7:30:30800:\n\
                      worker:!*:19000::::::\n";

fn root() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let etc = root.path().join("etc");
    fs::create_dir(&etc).unwrap();
    for (name, text) in [("passwd", PASSWD), ("group", GROUP), ("shadow", SHADOW)] {
        fs::write(etc.join(name), text).unwrap();
    }
    fs::set_permissions(etc.join("shadow"), fs::Permissions::from_mode(0o640)).unwrap();
    root
}

fn action(user: &str, inputs: &[(&str, &str)]) -> Action {
    let order = Order {
        id: "lock-1".into(),
        action: lock_user::ID.into(),
        target: Target::resource(lock_user::KIND, user),
        expiry: None,
        cause: Cause { by: "test".into(), ..Cause::default() },
        via: None,
        probe: false,
        inputs: inputs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        signatures: Vec::new(),
    };
    let limits = Limits { expiry_seconds: 1, expiry_most_seconds: 1, grace_seconds: 0 };
    wide::plan(order, "agent-1", Timestamp::from_secs(1_800_000_000), &limits)
}

fn ready(locker: &mut Locker, user: &str, inputs: &[(&str, &str)]) -> Action {
    let mut action = action(user, inputs);
    match locker.look(&action).unwrap() {
        Look::Ready { former, would } => {
            assert!(!would.is_empty() && !former.contains("hash"), "no password goes into the ledger: {former}");
            action.former = Some(former);
        }
        other => panic!("{user}: {other:?}"),
    }
    action
}

/// Password and expiry of a user, by a reader that shares no code with the lock.
fn fields(root: &Path, user: &str) -> String {
    let program = "$1 == user { print $2 \" \" $8 }";
    let table = root.join("etc/shadow");
    let out = Command::new("awk").args(["-F:", "-v", &format!("user={user}"), program]).arg(table).output().unwrap();
    assert!(out.status.success());
    String::from_utf8(out.stdout).unwrap().trim_end_matches('\n').to_owned()
}

#[test]
fn a_lock_marks_and_expires_and_its_undo_gives_back_every_byte() {
    let root = root();
    let shadow = root.path().join("etc/shadow");
    let mut locker = Locker::new(root.path(), &[64_102]);
    for user in ["mallory", "www-data"] {
        let (before, about) = (fields(root.path(), user), fs::metadata(&shadow).unwrap());
        let action = ready(&mut locker, user, &[]);
        locker.apply(&action, None).unwrap();
        locker.apply(&action, None).unwrap();
        assert_eq!(locker.verify(&action).unwrap(), None);
        let password = before.split(' ').next().unwrap();
        assert_eq!(fields(root.path(), user), format!("!{password} 1"));
        let now = fs::metadata(&shadow).unwrap();
        assert_eq!((now.mode(), now.uid(), now.gid()), (about.mode(), about.uid(), about.gid()));
        assert!(matches!(locker.look(&action).unwrap(), Look::NoEffect(_)), "locked already");
        for _ in 0..2 {
            assert_eq!(locker.undo(&action).unwrap(), None);
            assert_eq!(fs::read_to_string(&shadow).unwrap(), SHADOW);
        }
        assert!(locker.verify(&action).unwrap().is_some(), "it is not locked any more");
    }
    let left: Vec<_> = fs::read_dir(root.path().join("etc")).unwrap().map(|one| one.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().contains("sakimori") && name != "shadow.lock"), "{left:?}");
}

#[test]
fn owner_and_attributes_stay_where_they_are_not_root_s() {
    if !sakimori_sys::harness::root() {
        return;
    }
    let root = root();
    let shadow = root.path().join("etc/shadow");
    chown(&shadow, Some(12), Some(42)).unwrap();
    let file = fs::File::open(&shadow).unwrap();
    let flags = rustix::fs::XattrFlags::empty();
    let kept = rustix::fs::fsetxattr(&file, "trusted.sakimori.test", b"kept", flags).is_ok();
    let mut locker = Locker::new(root.path(), &[]);
    let action = ready(&mut locker, "mallory", &[]);
    locker.apply(&action, None).unwrap();
    let now = fs::metadata(&shadow).unwrap();
    assert_eq!((now.uid(), now.gid(), now.mode() & 0o7777), (12, 42, 0o640));
    let mut value = [0_u8; 16];
    let read = rustix::fs::getxattr(&shadow, "trusted.sakimori.test", value.as_mut_slice());
    assert_eq!(read.ok(), kept.then_some(4), "an attribute of the old table is one of the new");
}

#[test]
fn who_must_never_be_locked_is_refused_and_said() {
    let root = root();
    let mut locker = Locker::new(root.path(), &[64_102]);
    for (user, inputs, why) in [
        ("root", &[][..], "is root"),
        ("toor", &[], "is root"),
        ("worker", &[], "the agent's own"),
        ("ann", &[], "the last who can become root"),
        ("nobody-here", &[], "no user of this host's own"),
        ("ghost", &[], "no line in shadow"),
        ("www-data", &[(END_SESSIONS, "true")], "a user of services"),
    ] {
        match locker.look(&action(user, inputs)).unwrap() {
            Look::Refused(reason) => assert!(reason.contains(why), "{user}: {reason}"),
            other => panic!("{user}: {other:?}"),
        }
    }
    assert_eq!(fs::read_to_string(root.path().join("etc/shadow")).unwrap(), SHADOW);
    // With a second one who can, the first may be locked; and who became root meanwhile is not, whatever was ordered.
    fs::write(root.path().join("etc/group"), GROUP.replace("sudo:x:27:ann", "sudo:x:27:ann,mallory")).unwrap();
    let ordered = ready(&mut locker, "ann", &[]);
    fs::write(root.path().join("etc/passwd"), PASSWD.replace("ann:x:1000", "ann:x:0")).unwrap();
    assert!(!locker.apply(&ordered, None).unwrap_err().is_transient());
    assert_eq!(fs::read_to_string(root.path().join("etc/shadow")).unwrap(), SHADOW);
}

#[test]
fn while_somebody_else_changes_the_table_it_waits() {
    let root = root();
    let lock = root.path().join("etc/shadow.lock");
    let mut locker = Locker::new(root.path(), &[]);
    let action = ready(&mut locker, "mallory", &[]);
    // As the shadow tools leave it: a process that lives, then one that does not.
    fs::write(&lock, format!("{}\0", std::process::id())).unwrap();
    let busy = locker.apply(&action, None).unwrap_err();
    assert!(busy.is_transient() && busy.to_string().contains("shadow.lock"), "{busy}");
    assert_eq!(fs::read_to_string(root.path().join("etc/shadow")).unwrap(), SHADOW);
    let mut dead = Command::new("true").spawn().unwrap();
    dead.wait().unwrap();
    fs::write(&lock, format!("{}\0", dead.id())).unwrap();
    locker.apply(&action, None).unwrap();
    assert!(!lock.exists(), "the lock of the dead is taken over and given back");
    // And the lock of libc, which belongs to a process.
    let held = format!(
        "import fcntl, sys\nf = open('{}', 'r+')\nfcntl.lockf(f, fcntl.LOCK_EX)\nprint('held', flush=True)\nsys.stdin.read()\n",
        root.path().join("etc/.pwd.lock").display()
    );
    let has_python = Command::new("python3").arg("--version").output().is_ok();
    if !sakimori_sys::harness::needs(has_python, "the program python3") {
        return;
    }
    let mut holder = Command::new("python3")
        .args(["-c", &held])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut word = [0; 4];
    std::io::Read::read_exact(holder.stdout.as_mut().unwrap(), &mut word).unwrap();
    let busy = locker.undo(&action).unwrap_err();
    assert!(busy.is_transient() && busy.to_string().contains(".pwd.lock"), "{busy}");
    drop(holder.stdin.take());
    holder.wait().unwrap();
    locker.undo(&action).unwrap();
    assert_eq!(fs::read_to_string(root.path().join("etc/shadow")).unwrap(), SHADOW);
}

#[test]
fn a_table_that_is_a_link_or_has_two_names_is_not_rewritten() {
    let root = root();
    let (shadow, other) = (root.path().join("etc/shadow"), root.path().join("etc/other"));
    let mut locker = Locker::new(root.path(), &[]);
    let ordered = ready(&mut locker, "mallory", &[]);
    fs::hard_link(&shadow, &other).unwrap();
    assert!(!locker.apply(&ordered, None).unwrap_err().is_transient());
    fs::remove_file(&shadow).unwrap();
    std::os::unix::fs::symlink(&other, &shadow).unwrap();
    assert!(locker.apply(&ordered, None).is_err());
    assert_eq!(fs::read_to_string(&other).unwrap(), SHADOW);
}

#[test]
fn what_a_person_changed_meanwhile_stays() {
    let root = root();
    let shadow = root.path().join("etc/shadow");
    let mut locker = Locker::new(root.path(), &[]);
    let action = ready(&mut locker, "mallory", &[]);
    locker.apply(&action, None).unwrap();
    let theirs = fs::read_to_string(&shadow).unwrap().replace("!$6$salt$hash", "$6$other$word");
    fs::write(&shadow, &theirs).unwrap();
    let said = locker.undo(&action).unwrap().unwrap();
    assert!(said.contains("the password") && !said.contains("expiry"), "{said}");
    assert_eq!(fields(root.path(), "mallory"), "$6$other$word 30800");
    // The user was removed.
    fs::write(&shadow, "root:*:19000:0:99999:7:::\n").unwrap();
    assert!(locker.undo(&action).unwrap().unwrap().contains("gone"));
}

struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn his_processes_are_ended_and_nobody_else_s() {
    if !sakimori_sys::harness::root() {
        return;
    }
    let root = root();
    // Two that do not listen to polite signals, and one of another user.
    let sleep = |uid: u32| {
        Ended(Command::new("sh").args(["-c", "trap '' TERM HUP; sleep 600 & wait"]).uid(uid).spawn().unwrap())
    };
    let (mut one, mut two, mut other) = (sleep(UID), sleep(UID), sleep(UID + 1));
    let until = Instant::now() + Duration::from_secs(30);
    while sessions::left(UID) < 4 {
        assert!(Instant::now() < until, "they do not start");
        std::thread::sleep(Duration::from_millis(10));
    }
    let mut locker = Locker::new(root.path(), &[]);
    let action = ready(&mut locker, "mallory", &[(END_SESSIONS, "true")]);
    let Applied::Done { remark: Some(remark), .. } = locker.apply(&action, None).unwrap() else { panic!("not done") };
    assert!(remark.contains("processes were ended"), "{remark}");
    one.0.wait().unwrap();
    two.0.wait().unwrap();
    assert_eq!(sessions::left(UID), 0);
    // One that began since, or that waits in the kernel, makes the lock no less a lock.
    let mut late = sleep(UID);
    assert_eq!(locker.verify(&action).unwrap(), None);
    sessions::end(UID);
    late.0.wait().unwrap();
    assert!(other.0.try_wait().unwrap().is_none(), "another user's go on");
    sessions::end(UID + 1);
    other.0.wait().unwrap();
    assert_eq!(
        (sessions::end(0), sessions::end(rustix::process::geteuid().as_raw())),
        ((0, 0), (0, 0)),
        "never root's, nor our own"
    );
}
