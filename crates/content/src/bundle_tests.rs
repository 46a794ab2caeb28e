//! A bundle is taken whole and unaltered, from the trusted key, newer than the former one, or not at all.

use proptest::prelude::*;

use super::*;
use crate::keys;

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn sample() -> Files {
    Files::from([
        ("logs/linux/auth/source.vrl".to_owned(), b". = {}".to_vec()),
        ("playbooks/empty.yml".to_owned(), Vec::new()),
        ("sigma/a.yml".to_owned(), vec![0, 159, 146, 150]),
    ])
}

/// Signs whatever lies before the seal again, as only the key's owner could.
fn resign(bytes: &[u8], key: &SigningKey) -> Vec<u8> {
    let mut out = bytes[..bytes.len() - KEY_ID - SIGNATURE].to_vec();
    out.extend_from_slice(&key_id(&key.verifying_key()));
    let signature = key.sign(&out);
    out.extend_from_slice(&signature.to_bytes());
    out
}

/// A bundle of exactly this manifest and body, well signed.
fn forge(manifest: &serde_json::Value, body: &[u8], key: &SigningKey) -> Vec<u8> {
    let manifest = serde_json::to_vec(manifest).unwrap();
    let mut out = [MAGIC.as_slice(), &[1, 0, 0, 0]].concat();
    for part in [manifest.as_slice(), body] {
        out.extend_from_slice(&u32::try_from(part.len()).unwrap().to_le_bytes());
        out.extend_from_slice(part);
    }
    out.extend_from_slice(&[0; KEY_ID + SIGNATURE]);
    resign(&out, key)
}

fn listing(files: &[(&str, &[u8])]) -> serde_json::Value {
    let files: Vec<_> = files
        .iter()
        .map(|(path, bytes)| {
            serde_json::json!({"path": path, "size": bytes.len(), "sha256": hex::encode(Sha256::digest(bytes))})
        })
        .collect();
    serde_json::json!({"number": 1, "class": "regular", "notes": "", "files": files})
}

#[test]
fn what_was_built_comes_back() {
    let draft = Draft {
        number: 7,
        created: Timestamp::parse("2026-11-25T00:00:00Z"),
        class: Class::Emergency,
        notes: "new rule".into(),
    };
    let bytes = build(&sample(), draft, &key(1)).unwrap();
    let bundle = verify(&bytes, &key(1).verifying_key(), 6).unwrap();
    assert_eq!(bundle.files, sample());
    assert_eq!((bundle.number, bundle.class, bundle.notes.as_str()), (7, Class::Emergency, "new rule"));
    assert_eq!(bundle.created, Timestamp::parse("2026-11-25T00:00:00Z"));
    assert_eq!(read_untrusted(&bytes).unwrap(), bundle);
}

#[test]
fn the_builtin_content_makes_a_small_bundle() {
    let files = crate::builtin();
    let bytes = build(&files, 1, &key(1)).unwrap();
    assert_eq!(verify(&bytes, &key(1).verifying_key(), 0).unwrap().files, files);
    assert!(bytes.len() < 1 << 20, "{} bytes", bytes.len());
}

#[test]
fn unsigned_wrong_key_and_older_are_told_apart() {
    let bytes = build(&sample(), 7, &key(1)).unwrap();
    let trusted = key(1).verifying_key();
    let unsigned = &bytes[..bytes.len() - KEY_ID - SIGNATURE];
    assert!(matches!(verify(unsigned, &trusted, 0), Err(BundleError::Unsigned)));
    let error = verify(&resign(&bytes, &key(2)), &trusted, 0).unwrap_err();
    assert!(matches!(error, BundleError::WrongKey { .. }), "{error}");
    for newest in [7, 8, u64::MAX] {
        let error = verify(&bytes, &trusted, newest).unwrap_err();
        assert!(matches!(error, BundleError::Older { number: 7, .. }), "{error}");
    }
    assert!(matches!(verify(b"PK\x03\x04", &trusted, 0), Err(BundleError::NotABundle)));
    assert!(matches!(verify(b"", &trusted, 0), Err(BundleError::CutOff(0))));
}

#[test]
fn a_stranger_who_names_the_trusted_key_is_refused() {
    let mut bytes = build(&sample(), 7, &key(2)).unwrap();
    let at = bytes.len() - SIGNATURE - KEY_ID;
    bytes[at..at + KEY_ID].copy_from_slice(&key_id(&key(1).verifying_key()));
    let signature = key(2).sign(&bytes[..at + KEY_ID]).to_bytes();
    bytes[at + KEY_ID..].copy_from_slice(&signature);
    assert!(matches!(verify(&bytes, &key(1).verifying_key(), 0), Err(BundleError::Altered(_))));
}

#[test]
fn cut_off_at_every_length() {
    let bytes = build(&sample(), 7, &key(1)).unwrap();
    let trusted = key(1).verifying_key();
    for length in 0..bytes.len() {
        let error = verify(&bytes[..length], &trusted, 0).unwrap_err();
        assert!(
            matches!(error, BundleError::CutOff(_) | BundleError::Unsigned),
            "{length} of {}: {error}",
            bytes.len()
        );
    }
    let longer = [bytes.as_slice(), &[0]].concat();
    assert!(matches!(verify(&longer, &trusted, 0), Err(BundleError::Altered(_))));
}

#[test]
fn too_large_is_refused_before_anything_is_read() {
    let trusted = key(1).verifying_key();
    let bytes = vec![0; MAX_BUNDLE + 1];
    assert!(matches!(verify(&bytes, &trusted, 0), Err(BundleError::TooLarge { what: "bundle", .. })));
    let mut bytes = build(&sample(), 7, &key(1)).unwrap();
    bytes[12..16].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(matches!(verify(&bytes, &trusted, 0), Err(BundleError::TooLarge { what: "manifest", .. })));
    let big = Files::from([("a".to_owned(), vec![0; usize::try_from(MAX_FILE).unwrap() + 1])]);
    assert!(matches!(build(&big, 1, &key(1)), Err(BundleError::Files(FilesError::TooLarge { .. }))));
    let notes = Draft { notes: "x".repeat(MAX_NOTES + 1), ..Draft::from(1) };
    assert!(matches!(build(&sample(), notes, &key(1)), Err(BundleError::TooLarge { what: "notes", .. })));
    assert!(matches!(build(&sample(), 0, &key(1)), Err(BundleError::NoNumber)));
}

#[test]
fn even_a_signed_bundle_keeps_to_paths_bounds_and_hashes() {
    let (key, trusted) = (key(1), key(1).verifying_key());
    let pack = |bytes: &[u8]| zstd::bulk::compress(bytes, 1).unwrap();
    let refused =
        |manifest: &serde_json::Value, body: &[u8]| verify(&forge(manifest, body, &key), &trusted, 0).unwrap_err();
    assert!(verify(&forge(&listing(&[("a", b"x")]), &pack(b"x"), &key), &trusted, 0).is_ok());

    for path in ["../a", "/a", "a/../../b", ""] {
        let error = refused(&listing(&[(path, b"x")]), &pack(b"x"));
        assert!(matches!(error, BundleError::Files(FilesError::Path { .. })), "{path}: {error}");
    }
    for (files, body) in [
        (listing(&[("a", b"x"), ("a", b"y")]), pack(b"xy")), // twice the same path
        (listing(&[("b", b"x"), ("a", b"y")]), pack(b"xy")), // out of order
        (listing(&[("a", b"x")]), pack(b"y")),               // another content
        (listing(&[("a", b"x")]), pack(b"xy")),              // more than was listed
        (listing(&[("a", b"xy")]), pack(b"x")),              // less than was listed
        (listing(&[("a", b"x")]), b"not zstd".to_vec()),
        (serde_json::json!({"number": 1}), pack(b"")),
    ] {
        let error = refused(&files, &body);
        assert!(matches!(error, BundleError::Altered(_)), "{error}");
    }
    // A bomb: a body that unpacks to far more than is listed is left after one byte too many.
    let bomb = pack(&vec![0; 64 << 20]);
    assert!(matches!(refused(&listing(&[("a", b"\0")]), &bomb), BundleError::Altered(_)));
    let mut huge = listing(&[("a", b"x")]);
    huge["files"][0]["size"] = (MAX_FILE + 1).into();
    assert!(matches!(refused(&huge, &bomb), BundleError::TooLarge { what: "one file", .. }));
}

proptest! {
    #[test]
    fn any_single_altered_byte_is_refused(at in any::<prop::sample::Index>(), flip in 1_u8..) {
        let mut bytes = build(&sample(), 7, &key(1)).unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        prop_assert!(verify(&bytes, &key(1).verifying_key(), 0).is_err(), "byte {at} of {}", bytes.len());
    }

    #[test]
    fn any_files_come_back(files in prop::collection::btree_map("[a-z]{1,8}(/[a-z0-9_.-]{0,3}[a-z]){0,3}", prop::collection::vec(any::<u8>(), 0..200), 0..12)) {
        prop_assume!(files.keys().all(|path| files::check_path(path).is_ok()));
        let bytes = build(&files, 3, &key(1)).unwrap();
        prop_assert_eq!(verify(&bytes, &key(1).verifying_key(), 2).unwrap().files, files);
    }

    #[test]
    fn strangers_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), headed in any::<bool>()) {
        let bytes = if headed { [MAGIC.as_slice(), &[1, 0, 0, 0], &bytes].concat() } else { bytes };
        let _ = read_untrusted(&bytes);
        prop_assert!(verify(&bytes, &key(1).verifying_key(), 0).is_err());
    }
}

#[test]
fn a_key_made_here_signs_what_its_public_text_verifies() {
    let made = keys::generate().unwrap();
    let bytes = build(&sample(), 1, &made).unwrap();
    let public = keys::parse_public(&keys::public_text(&made.verifying_key())).unwrap();
    verify(&bytes, &public, 0).unwrap();
}
