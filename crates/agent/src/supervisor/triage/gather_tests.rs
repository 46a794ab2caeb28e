use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;

use sakimori_wire::triage;

use super::*;
use crate::worker_triage::Making;

/// The worker's part, in this process.
struct Here(RefCell<Making>);

impl Sink for Here {
    fn send(&self, message: &ToTriage, file: Option<&File>) -> Result<()> {
        let file = file.map(|file| file.try_clone().unwrap().into());
        assert!(self.0.borrow_mut().take(message.clone(), file)?.is_none());
        Ok(())
    }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(600)
}

/// What a package of this host has, by name.
fn packed(root: &Path) -> BTreeMap<String, String> {
    let here = Here(RefCell::new(Making::new()));
    Gather::new(&here, root.to_owned(), soon()).files().unwrap();
    let (package, ..) = here.0.into_inner().finish().unwrap();
    let mut files = BTreeMap::new();
    triage::files(&package, |name, bytes| {
        files.insert(name.to_owned(), String::from_utf8_lossy(bytes).into_owned());
        Ok(())
    })
    .unwrap();
    files
}

fn host(files: &[(&str, &str)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    root
}

#[test]
fn autoruns_users_and_ends_of_logs_are_there_and_secrets_are_not() {
    let root = host(&[
        ("etc/passwd", "root:x:0:0::/root:/bin/sh\n"),
        ("etc/shadow", "root:hunter2:1::::::\n"),
        ("etc/cron.d/job", "* * * * * root /tmp/.x/miner --token=hunter2\n"),
        ("etc/systemd/system/a.service", "[Service]\nEnvironment=\"KEY=hunter2\"\nExecStart=/opt/a\n"),
        (
            "var/spool/cron/atjobs/a0000101c1",
            "#!/bin/sh\numask 22\nHOME=/hunter2; export HOME\nX=hunter2\\ hunter2; export X\n/x\n",
        ),
        ("etc/environment", "DB_PASSWORD=\"hunter2 hunter2\"\nPATH=/bin\n"),
        ("home/eve/.ssh/authorized_keys", "ssh-ed25519 AAAA eve\n"),
        ("root/.bashrc", "alias ls=/tmp/ls\n"),
        ("var/log/auth.log", "Jan 1 sshd: Failed password for root\n"),
    ]);
    symlink("/etc/systemd/system/a.service", root.path().join("etc/systemd/system/b.service")).unwrap();
    let files = packed(root.path());
    for name in ["etc/passwd", "etc/cron.d/job", "home/eve/.ssh/authorized_keys", "root/.bashrc", "var/log/auth.log"] {
        assert!(files.contains_key(name), "{name}: {:?}", files.keys());
    }
    assert!(files["autoruns/links.txt"].contains("b.service -> /etc/systemd/system/a.service"));
    assert!(!files.contains_key("etc/shadow"));
    assert!(files.values().all(|text| !text.contains("hunter2")), "{files:?}");
    assert!(files["etc/systemd/system/a.service"].contains("KEY=***"));
}

#[test]
fn what_a_user_links_elsewhere_is_not_followed_and_nothing_is_waited_for() {
    let root = host(&[("home/eve/x", ""), ("secret/authorized_keys", "hunter2"), ("etc/cron.d/x", "")]);
    symlink(root.path().join("secret"), root.path().join("home/eve/.ssh")).unwrap();
    symlink(root.path().join("secret/authorized_keys"), root.path().join("home/eve/.bashrc")).unwrap();
    fs::create_dir_all(root.path().join("home/eve/.config/systemd")).unwrap();
    symlink(root.path().join("secret"), root.path().join("home/eve/.config/systemd/user")).unwrap();
    let fifo = root.path().join("etc/cron.d/fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let files = packed(root.path());
    assert!(files.values().all(|text| !text.contains("hunter2")), "{files:?}");
    assert!(!files.contains_key("etc/cron.d/fifo"));
}

#[test]
fn a_hundred_thousand_cron_files_and_a_huge_log_stay_within_bounds() {
    let root = host(&[("etc/cron.d/first", "x"), ("var/log/syslog", "beginning\n")]);
    for number in 0..100_000 {
        fs::write(root.path().join(format!("etc/cron.d/{number}")), "* * * * * root /x\n").unwrap();
    }
    let log = fs::OpenOptions::new().write(true).open(root.path().join("var/log/syslog")).unwrap();
    log.set_len(64 << 30).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&log, b"the end\n", (64 << 30) - 8).unwrap();
    let files = packed(root.path());
    let cron = files.keys().filter(|name| name.starts_with("etc/cron.d/")).count();
    assert!(cron > 0 && cron <= MAX_ENTRIES, "{cron}");
    let (log, notes) = (&files["var/log/syslog"], &files["notes.txt"]);
    assert!(log.ends_with("the end\n") && log.len() <= 3 << 20, "{}", log.len());
    assert!(
        notes.contains("/etc/cron.d has more than 1000 entries") && notes.contains("/var/log/syslog has"),
        "{notes}"
    );
}

#[test]
fn when_the_time_is_up_the_rest_is_left_out_and_said() {
    let root = host(&[("etc/passwd", "root\n")]);
    let here = Here(RefCell::new(Making::new()));
    Gather::new(&here, root.path().to_owned(), Instant::now()).files().unwrap();
    let (package, files, notes) = here.0.into_inner().finish().unwrap();
    assert_eq!((files, notes), (1, 1));
    triage::files(&package, |name, bytes| {
        assert_eq!((name, bytes), ("notes.txt", &b"there was no time for more\n"[..]));
        Ok(())
    })
    .unwrap();
}

/// Notes where it begins.
#[derive(Default)]
struct Places(RefCell<Vec<(Place, String)>>, RefCell<Vec<String>>);

impl Sink for Places {
    fn send(&self, message: &ToTriage, _: Option<&File>) -> Result<()> {
        if let ToTriage::File { path, .. } = message {
            self.1.borrow_mut().push(path.clone());
        }
        Ok(())
    }

    fn at(&self, place: Place, what: &str) -> Result<()> {
        self.0.borrow_mut().push((place, what.to_owned()));
        Ok(())
    }
}

#[test]
fn what_held_it_up_is_passed_over_and_nothing_behind_it() {
    let root = host(&[("etc/passwd", "x"), ("etc/group", "x"), ("home/eve/.bashrc", "x"), ("var/log/syslog", "x")]);
    let gathered = |after: Option<Place>| {
        let places = Places::default();
        let mut gather = Gather::new(&places, root.path().to_owned(), soon());
        gather.after = after;
        gather.files().unwrap();
        (places.0.into_inner(), places.1.into_inner())
    };
    let (all, files) = gathered(None);
    assert_eq!(files, ["/etc/passwd", "/etc/group", "/home/eve/.bashrc", "/var/log/syslog"]);
    assert!(all.windows(2).all(|two| two[0].0 < two[1].0), "each has its place");
    let (held_up, _) = all.iter().find(|(_, what)| what == "/etc/passwd").unwrap();
    let (rest, files) = gathered(Some(*held_up));
    assert_eq!(files, ["/etc/group", "/home/eve/.bashrc", "/var/log/syslog"]);
    assert!(rest.iter().all(|(place, _)| place > held_up));
    assert_eq!(gathered(Some((step::HOMES, u32::MAX))).1, ["/var/log/syslog"], "a whole step");
}
