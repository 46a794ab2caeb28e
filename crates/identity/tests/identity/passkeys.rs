//! Passkeys that are made and used, and those that are refused.

use sakimori_identity::cose::Key;
use sakimori_identity::webauthn::{Expected, Made, Refused, made, used};
use sha2::{Digest as _, Sha256};

use super::device::{Device, Pair, bytes, ed25519, map, number, p256, text};

const CHALLENGE: &[u8] = &[7; 32];
const ORIGIN: &str = "https://sakimori.example";

fn expected() -> Expected<'static> {
    Expected { challenge: CHALLENGE, party: "sakimori.example", origin: &|origin| origin == ORIGIN }
}

fn device(pair: Pair) -> Device {
    Device::new(pair, "sakimori.example", ORIGIN)
}

fn make(device: &Device) -> Result<Made, Refused> {
    let (client, object) = device.make(CHALLENGE);
    made(expected(), &client, &object)
}

/// Uses a device whose key is known, with this count.
fn answer(device: &Device, counter: u32) -> Result<u32, Refused> {
    let (client, data, signature) = device.answer(CHALLENGE);
    used(expected(), (&device.pair.public(), counter), &client, &data, &signature)
}

#[test]
fn a_passkey_is_made_and_used_with_either_kind_of_key() {
    for pair in [p256(), ed25519()] {
        let mut device = device(pair);
        let made = make(&device).unwrap();
        assert_eq!((&made.credential, made.counter, made.backed_up), (&device.id, 0, false));
        assert_eq!(made.public_key, device.pair.public());
        assert_eq!(answer(&device, 0), Ok(0), "one that does not count");
        device.counter = 9;
        assert_eq!(answer(&device, 8), Ok(9));
        device.flags |= 0x18;
        assert!(make(&device).unwrap().backed_up);
    }
}

#[test]
fn whoever_lies_about_page_device_or_user_is_refused() {
    let tries: [(&str, fn(&mut Device), Refused); 9] = [
        ("origin", |device| device.origin = "https://evil.example".into(), Refused::Origin),
        ("longer origin", |device| device.origin = format!("{ORIGIN}.evil.example"), Refused::Origin),
        ("framed", |device| device.more = ",\"crossOrigin\":true".into(), Refused::Origin),
        ("framed by", |device| device.more = ",\"topOrigin\":\"https://evil.example\"".into(), Refused::Origin),
        ("party", |device| device.party = "evil.example".into(), Refused::Party),
        ("not present", |device| device.flags = 0x04, Refused::Unverified),
        ("not verified", |device| device.flags = 0x01, Refused::Unverified),
        ("backed up though it may not be", |device| device.flags = 0x15, Refused::Form),
        ("extensions that are not there", |device| device.flags = 0x85, Refused::Form),
    ];
    for (what, lie, wanted) in tries {
        let mut device = device(p256());
        lie(&mut device);
        assert_eq!(make(&device).unwrap_err(), wanted, "{what}, made");
        assert_eq!(answer(&device, 0).unwrap_err(), wanted, "{what}, used");
    }
}

#[test]
fn a_challenge_is_answered_and_no_other_and_in_its_ceremony() {
    let device = device(ed25519());
    let (client, object) = device.make(&[8; 32]);
    assert_eq!(made(expected(), &client, &object).unwrap_err(), Refused::Challenge);
    let (_, object) = device.make(CHALLENGE);
    let other = device.client_data("webauthn.get", CHALLENGE);
    assert_eq!(made(expected(), &other, &object).unwrap_err(), Refused::Ceremony);
    let (_, data, signature) = device.answer(CHALLENGE);
    let key = device.pair.public();
    let other = device.client_data("webauthn.create", CHALLENGE);
    assert_eq!(used(expected(), (&key, 0), &other, &data, &signature).unwrap_err(), Refused::Ceremony);
    let none = Expected { challenge: &[], ..expected() };
    let empty = device.client_data("webauthn.get", &[]);
    assert_eq!(used(none, (&key, 0), &empty, &data, &signature).unwrap_err(), Refused::Challenge);
}

#[test]
fn another_keys_signature_and_a_copied_key_are_refused() {
    let (mut one, other) = (device(p256()), device(p256()));
    let (client, data, signature) = one.answer(CHALLENGE);
    let key = other.pair.public();
    assert_eq!(used(expected(), (&key, 0), &client, &data, &signature).unwrap_err(), Refused::Signature);
    let key = one.pair.public();
    let mut more = data.clone();
    more[36] ^= 1;
    assert_eq!(used(expected(), (&key, 0), &client, &more, &signature).unwrap_err(), Refused::Signature);
    one.counter = 5;
    assert_eq!(answer(&one, 5), Err(Refused::Copied));
    assert_eq!(answer(&one, 6), Err(Refused::Copied));
    one.counter = 0;
    assert_eq!(answer(&one, 6), Err(Refused::Copied), "a count does not go back to none");
}

#[test]
fn an_attestation_is_none_or_the_keys_own() {
    let device = device(p256());
    let (client, _) = device.make(CHALLENGE);
    let signed = [device.data(true), Sha256::digest(&client).to_vec()].concat();
    let own = |signature: Vec<u8>, alg: i64| map(&[(text("alg"), number(alg)), (text("sig"), bytes(&signature))]);
    let with = |format: &str, statement: &[u8]| {
        let (client, object) = device.make_with(CHALLENGE, format, statement);
        made(expected(), &client, &object).map(|_| ())
    };
    assert_eq!(with("packed", &own(device.pair.sign(&signed), -7)), Ok(()));
    assert_eq!(with("packed", &own(device.pair.sign(b"else"), -7)), Err(Refused::Attestation));
    assert_eq!(with("packed", &own(device.pair.sign(&signed), -8)), Err(Refused::Attestation));
    let chain =
        map(&[(text("alg"), number(-7)), (text("sig"), bytes(&device.pair.sign(&signed))), (text("x5c"), bytes(b"x"))]);
    assert_eq!(with("packed", &chain), Err(Refused::Attestation));
    assert_eq!(with("none", &own(vec![], -7)), Err(Refused::Attestation));
    assert_eq!(with("android-key", &map(&[])), Err(Refused::Attestation));
}

#[test]
fn what_is_cut_or_changed_anywhere_is_refused_and_nothing_panics() {
    let device = device(ed25519());
    let (client, object) = device.make(CHALLENGE);
    for at in 0..object.len() {
        assert!(made(expected(), &client, &object[..at]).is_err());
        let mut other = object.clone();
        other[at] ^= 0x20;
        let _ = made(expected(), &client, &other);
    }
    let (client, data, signature) = device.answer(CHALLENGE);
    let key = device.pair.public();
    for at in 0..data.len() {
        assert!(used(expected(), (&key, 0), &client, &data[..at], &signature).is_err());
        let mut other = data.clone();
        other[at] ^= 1;
        assert!(used(expected(), (&key, 0), &client, &other, &signature).is_err(), "{at}");
    }
    let large = vec![b' '; 20 << 10];
    assert_eq!(made(expected(), &[client, large.clone()].concat(), &object).unwrap_err(), Refused::Form);
    assert_eq!(made(expected(), &device.make(CHALLENGE).0, &large).unwrap_err(), Refused::Form);
}

#[test]
fn keys_of_other_kinds_are_not_taken() {
    let good = |kind: i64, alg: i64, curve: i64, x: &[u8]| {
        let pairs =
            [(number(1), number(kind)), (number(3), number(alg)), (number(-1), number(curve)), (number(-2), bytes(x))];
        Key::read(&map(&pairs))
    };
    assert!(good(1, -8, 6, &[1; 32]).is_some());
    for (kind, alg, curve, x) in [
        (1, -8, 6, &[1; 31][..]),
        (1, -8, 4, &[1; 32][..]),
        (1, -7, 6, &[1; 32][..]),
        (2, -7, 1, &[1; 32][..]),
        (4, 5, 6, &[1; 32][..]),
    ] {
        assert_eq!(good(kind, alg, curve, x), None, "{kind} {alg} {curve}");
    }
    let short = map(&[
        (number(1), number(3)),
        (number(3), number(-257)),
        (number(-1), bytes(&[1; 128])),
        (number(-2), bytes(&[1, 0, 1])),
    ]);
    assert_eq!(Key::read(&short), None, "RSA of 1024 bits");
    assert_eq!(Key::read(&[p256().public(), vec![0]].concat()), None, "something follows");
}
