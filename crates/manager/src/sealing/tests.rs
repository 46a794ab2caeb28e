//! The key file, the first start, the start of an older version's folder, and a kill at every step of each.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use sakimori_model::Timestamp;
use sakimori_runtime::sealing::{KEY, SEALED, is_sealed};
use sakimori_store::control::secrets::{self, Named};
use tempfile::TempDir;

use super::*;

const WHOSE: [(&str, &str, &[u8]); 2] = [("acme", "pager", b"ours\n"), ("default", "mail", b"\x00\xffbytes")];

/// A state folder as an older version left it, and its keys.
fn plain() -> (TempDir, Vec<Vec<u8>>) {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("state/ca")).unwrap();
    let signing = |purpose| keys::to_text(&keys::generate().unwrap(), purpose).expose().clone().into_bytes();
    let pem = rcgen::KeyPair::generate().unwrap().serialize_pem().into_bytes();
    let all = vec![signing(Use::Bundle), signing(Use::Order), pem];
    for (name, key) in files::FILES.iter().zip(&all) {
        files::write_private(&dir.path().join("state").join(name), key, files::Over::Nothing, &mut |_| {}).unwrap();
    }
    (dir, all)
}

fn place(dir: &Path) -> KeyPlace {
    KeyPlace::File(dir.join("seal.key"))
}

async fn control(dir: &Path) -> Control {
    Control::open(&format!("sqlite:{}", dir.join("state/control.db").display())).await.unwrap()
}

async fn open(dir: &Path) -> Result<Sealing> {
    Sealing::open_at(place(dir), &dir.join("state"), &control(dir).await, &mut |_| {}).await
}

fn all_keys(sealing: &Sealing, dir: &Path) -> Vec<Vec<u8>> {
    let key = |name| sealing.key_file(&dir.join("state"), name, || anyhow::bail!("it is there")).unwrap();
    files::FILES.map(|name| key(name).expose().clone()).into()
}

async fn set_all(sealing: &Sealing, control: &Control) {
    for (tenant, name, value) in WHOSE {
        let mut change = control.begin().await.unwrap();
        let sealed = sealing.seal_named(tenant, name, value).unwrap();
        let at = Timestamp::from_secs(1);
        let named =
            Named { tenant: tenant.into(), name: name.into(), created: at, changed: at, changed_by: String::new() };
        secrets::set(change.connection(), &named, &sealed).await.unwrap();
        change.commit().await.unwrap();
    }
}

async fn has_all(sealing: &Sealing, control: &Control) {
    for (tenant, name, value) in WHOSE {
        assert_eq!(sealing.named(control, tenant, name).await.unwrap().unwrap().expose(), value);
    }
    assert!(sealing.named(control, "acme", "mail").await.unwrap().is_none());
}

fn config(dir: &Path) -> Config {
    Config { state_dir: dir.join("state"), seal_key: Some(dir.join("seal.key")), ..Config::default() }
}

#[test]
fn the_key_lies_beside_the_configuration_and_never_where_backups_copy() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().canonicalize().unwrap();
    let found = |config: &Config| KeyPlace::find(config, None);
    let file = |path: &str| KeyPlace::File(dir.join(path));
    let mut one = Config { seal_key: None, ..config(&dir) };
    assert_eq!(found(&one).unwrap(), file("state.seal.key"), "without a file, beside the state folder");
    one.file = Some(dir.join("etc/manager.toml"));
    assert_eq!(found(&one).unwrap(), file("etc/seal.key"));
    one.file = Some(dir.join("state/manager.toml"));
    assert_eq!(found(&one).unwrap(), file("state.seal.key"), "not in the state folder");
    one.file = Some(dir.join("etc/manager.toml"));
    one.content_dir = Some(dir.join("etc"));
    fs::create_dir(dir.join("etc")).unwrap();
    assert_eq!(found(&one).unwrap(), file("state.seal.key"), "not in the user's content");
    one.seal_key = Some(dir.join("etc/keys/seal.key"));
    let inside = found(&one).unwrap_err().to_string();
    assert!(inside.contains("which backups copy") && inside.contains("seal_key"), "{inside}");
    fs::create_dir(dir.join("state")).unwrap();
    std::os::unix::fs::symlink(dir.join("state"), dir.join("link")).unwrap();
    one.seal_key = Some(dir.join("link/seal.key"));
    assert!(found(&one).is_err(), "by a link neither");
    one.seal_key = Some(dir.join("safe/seal.key"));
    assert_eq!(found(&one).unwrap(), file("safe/seal.key"));
    // systemd's comes before the default, and after what the configuration says.
    fs::write(dir.join(keyfile::CREDENTIAL), "x").unwrap();
    let handed = Some(dir.clone().into_os_string());
    assert_eq!(KeyPlace::find(&one, handed.clone()).unwrap(), file("safe/seal.key"));
    one.seal_key = None;
    assert_eq!(KeyPlace::find(&one, handed).unwrap(), KeyPlace::Credential(dir.join(keyfile::CREDENTIAL)));
    let other = Some(dir.join("state").into_os_string());
    assert_eq!(KeyPlace::find(&one, other).unwrap(), file("state.seal.key"), "systemd handed over something else");
}

#[tokio::test]
async fn a_first_start_makes_a_key_for_its_owner_alone_and_every_later_one_opens_by_it() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fs::create_dir(dir.join("state")).unwrap();
    let first = open(dir).await.unwrap();
    assert_eq!(fs::metadata(dir.join("seal.key")).unwrap().permissions().mode() & 0o777, 0o600);
    let made = first.signing_key(&dir.join("state"), files::BUNDLE, Use::Bundle).unwrap();
    assert!(is_sealed(&fs::read(dir.join("state/bundle.key")).unwrap()));
    assert_eq!(fs::metadata(dir.join("state/bundle.key")).unwrap().permissions().mode() & 0o777, 0o600);
    let again = open(dir).await.unwrap();
    assert_eq!(again.ring().newest(), first.ring().newest());
    assert_eq!(again.signing_key(&dir.join("state"), files::BUNDLE, Use::Bundle).unwrap(), made);
    assert_eq!(bundle_key(&config(dir), &dir.join("state/bundle.key")).unwrap(), made);
    // One key in the place of another does not open.
    fs::copy(dir.join("state/bundle.key"), dir.join("state/order.key")).unwrap();
    let moved = again.signing_key(&dir.join("state"), files::ORDER, Use::Order).unwrap_err().to_string();
    assert!(moved.contains("order.key") && moved.contains("another place"), "{moved}");
}

#[tokio::test]
async fn no_key_is_made_while_something_is_sealed_and_what_is_wrong_is_said_with_the_next_step() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fs::create_dir(dir.join("state")).unwrap();
    let key = dir.join("seal.key");
    let first = open(dir).await.unwrap();
    set_all(&first, &control(dir).await).await;
    let text = fs::read_to_string(&key).unwrap();
    let id = first.ring().newest().to_string();
    fs::remove_file(&key).unwrap();
    // The database alone is enough, and so is a file alone.
    let missing = open(dir).await.err().unwrap().to_string();
    assert!(missing.contains("the secret pager of the tenant acme") && missing.contains(&id), "{missing}");
    assert!(missing.contains("is missing; put your copy of it there") && missing.contains("seal.key"), "{missing}");
    first.signing_key(&dir.join("state"), files::ORDER, Use::Order).unwrap();
    let missing = open(dir).await.err().unwrap().to_string();
    assert!(missing.contains("order.key is sealed under the key"), "{missing}");
    assert!(bundle_key(&config(dir), &dir.join("state/order.key")).unwrap_err().to_string().contains("is missing"));
    assert!(!key.exists());

    fs::write(&key, &text).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
    let exposed = open(dir).await.err().unwrap().to_string();
    assert!(exposed.contains("its mode is 640") && exposed.contains("chmod 600"), "{exposed}");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&key, "something else").unwrap();
    let damaged = open(dir).await.err().unwrap().to_string();
    assert!(damaged.contains("restore it from your copy"), "{damaged}");
    let other = Ring::generate().unwrap();
    fs::write(&key, other.to_text().expose()).unwrap();
    let wrong = open(dir).await.err().unwrap().to_string();
    assert!(wrong.contains(&id) && wrong.contains(&other.newest().to_string()), "{wrong}");
    assert!(wrong.contains("put the right key file there"), "{wrong}");
    assert!(!wrong.contains(text.rsplit(':').next().unwrap().trim()), "no key is told");
    // With the right one below it, everything is sealed anew under the first.
    fs::write(&key, format!("{}{text}", other.to_text().expose())).unwrap();
    let both = open(dir).await.unwrap();
    has_all(&both, &control(dir).await).await;
    fs::write(&key, other.to_text().expose()).unwrap();
    has_all(&open(dir).await.unwrap(), &control(dir).await).await;
}

#[tokio::test]
async fn a_secret_that_does_not_open_keeps_no_manager_from_starting() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fs::create_dir(dir.join("state")).unwrap();
    set_all(&open(dir).await.unwrap(), &control(dir).await).await;
    let control = control(dir).await;
    let other = Ring::generate().unwrap().seal(rows::place("acme", "pager"), b"x").unwrap();
    let mut change = control.begin().await.unwrap();
    secrets::seal_anew(change.connection(), "acme", "pager", &other).await.unwrap();
    change.commit().await.unwrap();
    let sealing = open(dir).await.unwrap();
    assert!(sealing.named(&control, "acme", "pager").await.is_err());
    assert!(sealing.named(&control, "default", "mail").await.is_ok());
}

#[tokio::test]
async fn what_an_older_version_left_in_plain_is_sealed_and_the_keys_are_the_same() {
    let (dir, before) = plain();
    let dir = dir.path();
    let sealing = open(dir).await.unwrap();
    assert_eq!(all_keys(&sealing, dir), before);
    for name in files::FILES {
        let now = fs::read_to_string(dir.join("state").join(name)).unwrap();
        assert!(now.starts_with(SEALED), "{name}");
    }
    let written = || files::FILES.map(|name| fs::read(dir.join("state").join(name)).unwrap());
    let first = written();
    open(dir).await.unwrap();
    assert_eq!(written(), first, "what is sealed stays as it is");
    // As before, a plain key that others can read is refused.
    fs::write(dir.join("state/order.key"), &before[1]).unwrap();
    fs::set_permissions(dir.join("state/order.key"), fs::Permissions::from_mode(0o644)).unwrap();
    let exposed = open(dir).await.err().unwrap().to_string();
    assert!(exposed.contains("order.key: its mode is 644"), "{exposed}");
}

#[tokio::test]
async fn a_rotation_leaves_nothing_under_an_older_key_and_forgets_only_when_asked() {
    let (dir, before) = plain();
    let dir = dir.path();
    let sealing = open(dir).await.unwrap();
    let control = control(dir).await;
    set_all(&sealing, &control).await;
    let first = sealing.ring().newest();
    let state = dir.join("state");
    let done = rotate(&sealing, &state, &control, false, &mut |_| {}).await.unwrap();
    assert_eq!((done.sealed, done.older), (5, 1));
    assert_eq!(sealing.ring().ids().collect::<Vec<_>>(), [done.key, first]);
    let done = rotate(&sealing, &state, &control, true, &mut |_| {}).await.unwrap();
    assert_eq!((done.sealed, done.older), (5, 0));
    assert_eq!(fs::read_to_string(dir.join("seal.key")).unwrap().matches(KEY).count(), 1);
    let again = open(dir).await.unwrap();
    assert_eq!(again.ring().newest(), done.key);
    assert_eq!(all_keys(&again, dir), before);
    has_all(&again, &control).await;
    // A file that was changed meanwhile is not built upon.
    fs::write(dir.join("seal.key"), Ring::generate().unwrap().to_text().expose()).unwrap();
    let changed = rotate(&again, &state, &control, false, &mut |_| {}).await.unwrap_err();
    assert!(matches!(changed, Error::Changed(_)), "{changed}");
    // Nor can a credential of systemd's be.
    let handed = dir.join(keyfile::CREDENTIAL);
    fs::write(&handed, again.ring().to_text().expose()).unwrap();
    fs::set_permissions(&handed, fs::Permissions::from_mode(0o440)).unwrap();
    let handed = Sealing::open_at(KeyPlace::Credential(handed), &state, &control, &mut |_| {}).await.unwrap();
    let fixed = rotate(&handed, &state, &control, false, &mut |_| {}).await.unwrap_err().to_string();
    assert!(fixed.contains("secrets keygen") && fixed.contains("start the manager again"), "{fixed}");
}

#[tokio::test]
async fn a_key_file_has_so_many_keys_and_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fs::create_dir(dir.join("state")).unwrap();
    let sealing = open(dir).await.unwrap();
    let control = control(dir).await;
    let state = dir.join("state");
    for _ in 1..sakimori_runtime::sealing::MOST_KEYS {
        rotate(&sealing, &state, &control, false, &mut |_| {}).await.unwrap();
    }
    let full = rotate(&sealing, &state, &control, false, &mut |_| {}).await.unwrap_err().to_string();
    assert!(full.contains("--forget-older"), "{full}");
    assert_eq!(rotate(&sealing, &state, &control, true, &mut |_| {}).await.unwrap().older, 0);
}

/// Folder, what to do, and the step to be killed at: this program starts itself with them.
const CHILD: &str = "SEALING_TEST_CHILD";

/// Does it, and kills this process at a step.
fn child(order: &str) {
    let [dir, what, last] = order.split('|').collect::<Vec<_>>()[..] else { panic!("{order}") };
    let (dir, last): (&Path, usize) = (Path::new(dir), last.parse().unwrap());
    let mut count = 0;
    let mut step = |_: &str| {
        if count == last {
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL).unwrap();
        }
        count += 1;
    };
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let control = control(dir).await;
        let state = dir.join("state");
        match what {
            "start" => drop(Sealing::open_at(place(dir), &state, &control, &mut step).await.unwrap()),
            _ => {
                let sealing = open(dir).await.unwrap();
                rotate(&sealing, &state, &control, what == "forget", &mut step).await.unwrap();
            }
        }
    });
}

#[test]
fn a_kill_at_any_step_of_a_first_start_or_a_rotation_leaves_secrets_that_open() {
    const OWN: &str = "sealing::tests::a_kill_at_any_step_of_a_first_start_or_a_rotation_leaves_secrets_that_open";
    if let Ok(order) = std::env::var(CHILD) {
        return child(&order);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for (what, least) in [("start", 12), ("keep", 13), ("forget", 16)] {
        let mut kills = 0;
        loop {
            let (dir, before) = plain();
            let dir = dir.path();
            if what != "start" {
                runtime.block_on(async { set_all(&open(dir).await.unwrap(), &control(dir).await).await });
            }
            let order = format!("{}|{what}|{kills}", dir.display());
            let ended = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", OWN, "--nocapture"])
                .env(CHILD, order)
                .output()
                .unwrap();
            let killed = ended.status.signal() == Some(9);
            assert!(killed || ended.status.success(), "{what} {kills}: {}", String::from_utf8_lossy(&ended.stderr));
            runtime.block_on(async {
                let again = open(dir).await.unwrap_or_else(|error| panic!("{what} killed at {kills}: {error}"));
                assert_eq!(all_keys(&again, dir), before, "{what} killed at {kills}");
                if what != "start" {
                    has_all(&again, &control(dir).await).await;
                }
                let newest = format!("{SEALED}{}:", again.ring().newest());
                for name in files::FILES {
                    let now = fs::read_to_string(dir.join("state").join(name)).unwrap();
                    assert!(now.starts_with(&newest), "{what} killed at {kills}: {name}");
                }
            });
            if !killed {
                break;
            }
            kills += 1;
        }
        assert!(kills >= least, "{what} has {kills} steps");
    }
}
