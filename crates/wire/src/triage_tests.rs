use super::*;
use proptest::prelude::*;
use rcgen::{CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, SigningKey};
use sakimori_model::Timestamp;

fn package(files: &[(&str, &[u8])]) -> Vec<u8> {
    let list: Vec<Listed> = files
        .iter()
        .map(|(name, bytes)| Listed {
            name: (*name).to_owned(),
            size: bytes.len() as u64,
            sha256: hex::encode(Sha256::digest(bytes)),
        })
        .collect();
    packed(&serde_json::to_vec(&list).unwrap(), files)
}

fn packed(list: &[u8], files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(zstd::Encoder::new(Vec::new(), 1).unwrap());
    append(&mut tar, MANIFEST, list).unwrap();
    for (name, bytes) in files {
        append(&mut tar, name, bytes).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap()
}

fn common_name(name: &str) -> DistinguishedName {
    let mut whole = DistinguishedName::new();
    whole.push(DnType::CommonName, name);
    whole
}

struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

fn ca() -> Ca {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.distinguished_name = common_name("a CA");
    let pem = params.self_signed(&key).unwrap().pem();
    Ca { issuer: Issuer::new(params, key), pem }
}

fn signed(ca: &Ca, subject: &str, package: &[u8]) -> Signed {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name(subject);
    let statement = Statement {
        format: FORMAT,
        agent: "agent-1".into(),
        host: "web1".into(),
        action: "a".into(),
        made: Timestamp::from_secs(1_800_000_000),
        bytes: package.len() as u64,
        sha256: hex::encode(Sha256::digest(package)),
    };
    let statement = serde_json::to_string(&statement).unwrap();
    Signed {
        signature: hex::encode(key.sign(&to_sign(&statement)).unwrap()),
        statement,
        certificate: params.signed_by(&key, &ca.issuer).unwrap().pem(),
    }
}

fn file(package: &[u8], signed: &Signed) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out, package, signed).unwrap();
    out
}

#[test]
fn what_was_signed_holds_and_anything_else_is_named() {
    let (ca, other) = (ca(), ca());
    let good = package(&[("sockets.txt", b"tcp"), ("logs/auth.log", b"line\n")]);
    let signed = signed(&ca, "agent-1", &good);
    let whole = file(&good, &signed);
    let verified = verify(&whole[..], Some(&ca.pem)).unwrap();
    assert_eq!((verified.files.len(), verified.of_the_ca), (2, true));
    assert!(!verify(&whole[..], None).unwrap().of_the_ca);
    let why = |bytes: &[u8], ca: &Ca| verify(bytes, Some(&ca.pem)).unwrap_err().to_string();
    assert!(why(&whole, &other).contains("did not issue"));
    let swapped = package(&[("sockets.txt", b"udp"), ("logs/auth.log", b"line\n")]);
    assert!(why(&file(&swapped, &signed), &ca).contains("not the one that was signed"));
    let changed = Signed { statement: signed.statement.replace("web1", "web2"), ..signed.clone() };
    assert!(why(&file(&good, &changed), &ca).contains("was changed"));
    let nobody = Signed { signature: String::new(), ..signed.clone() };
    assert!(why(&file(&good, &nobody), &ca).contains("there is none"));
    assert!(why(&file(&good, &self::signed(&ca, "agent-2", &good)), &ca).contains("another host"));
    assert!(why(&whole[..whole.len() / 2], &ca).contains("package"), "a half");
}

#[test]
fn every_file_is_as_the_list_says() {
    let list = |names: &[&str]| {
        let one = |name: &&str| Listed { name: (*name).into(), size: 1, sha256: hex::encode(Sha256::digest(b"x")) };
        serde_json::to_vec(&names.iter().map(one).collect::<Vec<_>>()).unwrap()
    };
    let check = |list: &[u8], has: &[(&str, &[u8])]| files(&packed(list, has), |_, _| Ok(()));
    assert_eq!(check(&list(&["a"]), &[("a", b"x")]).unwrap().len(), 1);
    for (listed, has) in [
        (&["a"][..], &[("a", &b"y"[..])][..]),
        (&["a", "b"], &[("a", b"x")]),
        (&["a"], &[("a", b"x"), ("b", b"x")]),
        (&["a"], &[("a", b"x"), ("a", b"x")]),
    ] {
        assert!(matches!(check(&list(listed), has), Err(TriageError::Changed(_))), "{listed:?}");
    }
    assert!(files(&package(&[])[..20], |_, _| Ok(())).is_err());
    assert!(files(b"", |_, _| Ok(())).is_err());
}

proptest! {
    #[test]
    fn any_bytes_are_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..2_000)) {
        prop_assert!(verify(&bytes[..], None).is_err());
        prop_assert!(files(&bytes, |_, _| Ok(())).is_err());
    }
}
