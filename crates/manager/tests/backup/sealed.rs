//! What lies on a disk or in a backup holds no private key and no secret in plain, and a backup needs its key.

use std::fs;
use std::io::Read;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use sakimori_content::keys::{self, Use};
use sakimori_manager::sealing::files;
use sakimori_manager::{Running, backup};
use sakimori_runtime::sealing::{SEALED, is_sealed};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::agent::{Agent, World};
use super::{download, flushed, restore, restore_to};

/// A secret of a tenant: long enough that it is nowhere by chance, and bytes that are no text.
const SECRET: &[u8] = b"the pager's secret \x00\xfe\xff 93b1c7";

/// The private keys of a running manager: those for bundles and orders, the scalar of the CA's, and the sealing keys.
fn private(manager: &Running, state: &Path) -> Vec<Vec<u8>> {
    let shared = &manager.shared;
    let pem = shared.sealing.key_file(state, files::CA, || anyhow::bail!("it is there")).unwrap();
    let der = rcgen::KeyPair::from_pem(std::str::from_utf8(pem.expose()).unwrap()).unwrap().serialize_der();
    // RFC 5915: version 1, then the octet string of the private key.
    let at = der.windows(5).position(|bytes| bytes == b"\x02\x01\x01\x04\x20").unwrap() + 5;
    let sealing = shared.sealing.ring().to_text().expose().clone();
    let sealing = sealing.lines().map(|line| hex::decode(line.rsplit(':').next().unwrap()).unwrap());
    [shared.bundle_signer.to_bytes().to_vec(), shared.order_key.to_bytes().to_vec(), der[at..at + 32].to_vec()]
        .into_iter()
        .chain(sealing)
        .collect()
}

/// The forms in which a secret could lie somewhere: raw, hexadecimal, base64 at each of three beginnings.
fn forms(secret: &[u8]) -> Vec<Vec<u8>> {
    let mut all = vec![secret.to_vec(), hex::encode(secret).into_bytes(), hex::encode_upper(secret).into_bytes()];
    for shift in 0..3 {
        let shifted = [&vec![0; shift][..], secret].concat();
        for text in [STANDARD_NO_PAD.encode(&shifted), URL_SAFE_NO_PAD.encode(&shifted)] {
            // Without the letters that the neighbours decide too.
            let inner = &text[(shift * 8).div_ceil(6)..text.len() - 2];
            all.push(inner.as_bytes().to_vec());
        }
    }
    all
}

/// Which of these secrets some bytes hold, in any form, over line ends too.
fn held(bytes: &[u8], secrets: &[Vec<u8>]) -> Vec<usize> {
    let joined: Vec<u8> = bytes.iter().copied().filter(|byte| !matches!(byte, b'\n' | b'\r')).collect();
    let in_one = |form: &Vec<u8>| [bytes, &joined].iter().any(|text| memchr::memmem::find(text, form).is_some());
    (0..secrets.len()).filter(|at| forms(&secrets[*at]).iter().any(in_one)).collect()
}

/// All files below a folder.
fn each(dir: &Path, with: &mut impl FnMut(&Path, &[u8])) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => each(&path, with),
            false => with(&path, &fs::read(&path).unwrap()),
        }
    }
}

async fn set(world: &World, manager: &Running, name: &str, value: &[u8]) {
    let request = world.request(manager, reqwest::Method::PUT, &format!("/api/v1/secrets/{name}")).await;
    let answer = request.body(value.to_vec()).send().await.unwrap();
    assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
}

async fn secret(manager: &Running, name: &str) -> Vec<u8> {
    let shared = &manager.shared;
    shared.sealing.named(&shared.control, "default", name).await.unwrap().unwrap().expose().clone()
}

/// The state folder as a version that sealed nothing would have left it.
fn unseal(world: &World, keys: &[Vec<u8>]) {
    for (name, key) in files::FILES.iter().zip(keys) {
        fs::write(world.state().join(name), key).unwrap();
    }
    fs::remove_file(world.seal_key()).unwrap();
}

/// The private keys as such a version kept them.
fn plain(manager: &Running, state: &Path) -> Vec<Vec<u8>> {
    let sealing = &manager.shared.sealing;
    let key = |name| sealing.key_file(state, name, || anyhow::bail!("it is there")).unwrap().expose().clone();
    files::FILES.map(key).into()
}

#[test]
fn no_private_key_lies_in_state_folder_database_or_backup_in_any_form() {
    let world = World::new();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("backup.tar");
    let (secrets, plain) = world.run(async {
        let manager = world.start().await;
        Agent::enrol(&world.token(&manager).await).await.unwrap();
        set(&world, &manager, "pager", SECRET).await;
        flushed(&manager).await;
        download(&world, &manager, &file).await;
        let mut secrets = private(&manager, &world.state());
        secrets.push(SECRET.to_vec());
        let plain = plain(&manager, &world.state());
        assert_eq!(secret(&manager, "pager").await, SECRET);
        manager.stop().await;
        (secrets, plain)
    });
    assert_eq!(secrets.len(), 5);
    // What is looked for is found where it is.
    for (at, text) in plain.iter().enumerate() {
        assert_eq!(held(text, &secrets), [at]);
    }
    assert_eq!(held(&fs::read(world.seal_key()).unwrap(), &secrets), [3]);
    assert_eq!(held(STANDARD_NO_PAD.encode([b"x", SECRET].concat()).as_bytes(), &secrets), [4]);
    let mut count = 0;
    each(&world.state(), &mut |path, bytes| {
        count += 1;
        assert!(held(bytes, &secrets).is_empty(), "{} holds {:?}", path.display(), held(bytes, &secrets));
    });
    assert!(count > 8, "{count} files");
    let archive = fs::read(&file).unwrap();
    assert!(held(&archive, &secrets).is_empty(), "{:?}", held(&archive, &secrets));
    assert!(memchr::memmem::find_iter(&archive, SEALED).count() >= 4);
}

#[test]
fn a_backup_is_restored_with_its_key_and_not_without() {
    let (world, other, third) = (World::new(), World::new(), World::new());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("backup.tar");
    let (ca, order, config) = world.run(async {
        let config = folder.path().join("manager.toml");
        fs::write(&config, "# store.url = \"postgres://me:hunter2hunter2@db/x\"\n").unwrap();
        let manager = world.start().await;
        set(&world, &manager, "pager", SECRET).await;
        download(&world, &manager, &file).await;
        let found = (manager.shared.authority.ca_sha256(), manager.shared.order_key.to_bytes());
        manager.stop().await;
        (found.0, found.1, config)
    });
    let without = restore_to(&file, &other.config(), None).unwrap_err().to_string();
    assert!(without.contains("is missing; give the seal.key of its manager with --key FILE"), "{without}");
    assert!(without.contains(&other.seal_key().display().to_string()), "{without}");
    let wrong = folder.path().join("wrong.key");
    let ring = sakimori_runtime::sealing::Ring::generate().unwrap();
    fs::write(&wrong, ring.to_text().expose()).unwrap();
    fs::set_permissions(&wrong, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let refused = restore_to(&file, &other.config(), Some(&wrong)).unwrap_err().to_string();
    assert!(refused.contains("does not hold") && refused.contains("nothing was restored"), "{refused}");
    assert!(fs::read_dir(other.state().parent().unwrap()).unwrap().next().is_none(), "nothing is left");
    // Another key of this machine's stays, behind the one that is needed.
    fs::copy(&wrong, other.seal_key()).unwrap();
    let refused = restore_to(&file, &other.config(), None).unwrap_err().to_string();
    assert!(refused.contains("holds another"), "{refused}");
    let restored = restore(&file, &world, &other).unwrap();
    assert_eq!(restored.seal_key, other.seal_key().canonicalize().unwrap());
    other.know(&world);
    other.run(async {
        let manager = other.start().await;
        let ring = manager.shared.sealing.ring();
        assert_eq!((ring.ids().count(), ring.newest().to_string()), (2, restored.manifest.header.sealed_by));
        let shared = &manager.shared;
        assert_eq!((shared.authority.ca_sha256(), shared.order_key.to_bytes()), (ca, order));
        assert_eq!(secret(&manager, "pager").await, SECRET);
        manager.stop().await;
    });
    // A configuration that may hold a password goes sealed, and comes back.
    let file = folder.path().join("stopped.tar");
    let own = sakimori_manager::config::Config { file: Some(config.clone()), ..world.config() };
    let own = sakimori_manager::config::Config { seal_key: Some(world.seal_key()), ..own };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let source = runtime.block_on(backup::of_stopped(&own, &sakimori_runtime::SystemClock)).unwrap();
    backup::write(source, fs::File::create(&file).unwrap(), runtime.handle()).unwrap();
    assert!(held(&fs::read(&file).unwrap(), &[b"hunter2hunter2".to_vec()]).is_empty());
    let restored = restore(&file, &world, &third).unwrap();
    assert_eq!(fs::read(restored.config.unwrap()).unwrap(), fs::read(config).unwrap());
}

#[test]
fn an_older_backup_opens_by_the_key_that_a_rotation_kept_and_not_by_one_that_forgot() {
    let (world, other, third) = (World::new(), World::new(), World::new());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("backup.tar");
    let former = folder.path().join("former.key");
    let bundle = world.run(async {
        let manager = world.start().await;
        set(&world, &manager, "pager", SECRET).await;
        download(&world, &manager, &file).await;
        fs::copy(world.seal_key(), &former).unwrap();
        let before = world.ask(&manager, "/api/v1/sealing").await;
        let rotated = world.post(&manager, "/api/v1/sealing/rotate", json!({})).await;
        assert_eq!(rotated["sealed"], 4);
        assert_eq!(rotated["sealing"]["older"], json!([before["key"]]));
        assert_eq!(secret(&manager, "pager").await, SECRET);
        manager.shared.bundle_signer.to_bytes()
    });
    world.kill();
    restore(&file, &world, &other).unwrap();
    other.run(async {
        let manager = other.start().await;
        assert_eq!(secret(&manager, "pager").await, SECRET);
        manager.stop().await;
    });
    world.run(async {
        let manager = world.start().await;
        assert_eq!(manager.shared.bundle_signer.to_bytes(), bundle, "after a rotation and a crash");
        world.post(&manager, "/api/v1/sealing/rotate", json!({"forget_older": true})).await;
        let audit = world.ask(&manager, "/api/v1/audit?limit=100").await.to_string();
        assert_eq!(audit.matches("sealing:rotate").count(), 2, "{audit}");
        manager.stop().await;
    });
    let forgotten = restore(&file, &world, &third).unwrap_err().to_string();
    assert!(forgotten.contains("does not hold"), "{forgotten}");
    restore_to(&file, &third.config(), Some(&former)).unwrap();
}

#[test]
fn an_installation_of_before_is_sealed_at_its_next_start_and_at_its_next_backup() {
    let (world, other) = (World::new(), World::new());
    let folder = tempfile::tempdir().unwrap();
    let (keys, ca) = world.run(async {
        let manager = world.start().await;
        let found = (plain(&manager, &world.state()), manager.shared.authority.ca_sha256());
        manager.stop().await;
        found
    });
    let as_before = |world: &World| {
        let texts = keys.iter().zip(files::FILES);
        texts.filter(|(_, name)| is_sealed(&fs::read(world.state().join(name)).unwrap())).count()
    };
    unseal(&world, &keys);
    assert_eq!(as_before(&world), 0);
    world.run(async {
        let manager = world.start().await;
        assert_eq!(plain(&manager, &world.state()), keys);
        assert_eq!(manager.shared.authority.ca_sha256(), ca);
        assert_eq!(as_before(&world), 3);
        manager.stop().await;
    });
    // One that was not started since is sealed by its backup.
    unseal(&world, &keys);
    let file = folder.path().join("stopped.tar");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let source = runtime.block_on(backup::of_stopped(&world.config(), &sakimori_runtime::SystemClock)).unwrap();
    backup::write(source, fs::File::create(&file).unwrap(), runtime.handle()).unwrap();
    assert_eq!(as_before(&world), 3);
    let order = keys::from_text(std::str::from_utf8(&keys[1]).unwrap(), Use::Order).unwrap().to_bytes().to_vec();
    assert!(held(&fs::read(&file).unwrap(), &[order]).is_empty());
    // A backup of such a version is sealed as it is restored, by a key of this machine's own.
    let old = folder.path().join("old.tar");
    first_format(&file, &old, &keys);
    restore_to(&old, &other.config(), None).unwrap();
    assert_eq!(as_before(&other), 3);
    assert_ne!(fs::read(other.seal_key()).unwrap(), fs::read(world.seal_key()).unwrap());
    other.run(async {
        let manager = other.start().await;
        assert_eq!(plain(&manager, &other.state()), keys);
        manager.stop().await;
    });
}

/// The same backup in the first format: with plain keys, and a header that names no sealing key.
fn first_format(from: &Path, to: &Path, keys: &[Vec<u8>]) {
    let mut entries: Vec<(String, Vec<u8>)> = Vec::new();
    for entry in tar::Archive::new(fs::File::open(from).unwrap()).entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().display().to_string();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        entries.push((name, bytes));
    }
    let older = |header: &mut Value| {
        header["format"] = 1.into();
        header.as_object_mut().unwrap().remove("sealed_by").unwrap();
    };
    for (name, bytes) in &mut entries {
        if name == "sakimori-backup.json" {
            let mut header: Value = serde_json::from_slice(bytes).unwrap();
            older(&mut header);
            *bytes = header.to_string().into_bytes();
        }
        if let Some(at) = files::FILES.iter().position(|file| *name == format!("state/{file}")) {
            bytes.clone_from(&keys[at]);
        }
    }
    let (last, manifest) = entries.pop().unwrap();
    let mut manifest: Value = serde_json::from_slice(&manifest).unwrap();
    older(&mut manifest["header"]);
    manifest["files"] = entries
        .iter()
        .map(|(name, bytes)| json!({"name": name, "size": bytes.len(), "sha256": hex::encode(Sha256::digest(bytes))}))
        .collect();
    entries.push((last, manifest.to_string().into_bytes()));
    let mut tar = tar::Builder::new(fs::File::create(to).unwrap());
    for (name, bytes) in &entries {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o600);
        header.set_size(bytes.len() as u64);
        tar.append_data(&mut header, name, bytes.as_slice()).unwrap();
    }
    tar.into_inner().unwrap();
}
