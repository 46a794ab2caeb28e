//! Proofs of who somebody is, checked: an engine. It reads no clock, opens nothing and draws no random number; time,
//! bytes and chance come in as arguments.
//!
//! | file | what is shown |
//! |---|---|
//! | [`totp`] | a code of a device that shares a secret and a clock (RFC 6238) |
//! | [`recovery`] | a code from a list, for who has lost the device |
//! | [`webauthn`] | a passkey: a signature of a key that a device keeps (WebAuthn level 3), over [`cbor`] and [`cose`] |
//! | [`jwt`] | a signed token (RFC 7515, 7517, 7519), of algorithms that are listed and no other |
//! | [`oidc`] | that such a token is a provider's word about who signs in, to us, now (OpenID Connect Core 1.0) |
//!
//! Signatures are ring's. Everything that is read may be an enemy's: it is bounded, and no reader panics (fuzz targets
//! `passkey` and `id_token`). Why these are not crates of others: docs/adr/0020.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic))]

pub mod cbor;
pub mod cose;
pub mod jwt;
pub mod oidc;
pub mod recovery;
pub mod totp;
pub mod webauthn;
