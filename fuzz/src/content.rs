//! Rule bundles and the keys that sign them.

use sakimori_content::{bundle, keys};

/// A rule bundle. The signature is not looked at, so that what lies behind it is reached. The first byte says whether
/// the rest is the bundle, or what a bundle holds: its manifest and files, each behind its length.
pub fn bundle_read(bytes: &[u8]) {
    if let Ok(bundle) = bundle::read_untrusted(&super::whole_or_packed(bytes, packed)) {
        assert!(bundle.number > 0);
        assert!(bundle.files.keys().all(|path| !path.starts_with('/') && !path.contains("..")), "paths stay inside");
    }
}

/// A bundle around any manifest and body, as `bundle.rs` describes its form.
fn packed(bytes: &[u8]) -> Vec<u8> {
    let size = bytes.first().map_or(0, |size| usize::from(*size) * 8).min(bytes.len());
    let (manifest, body) = bytes.split_at(size);
    let body = zstd::bulk::compress(body, 1).expect("bytes can be packed");
    let mut out = b"SAKIBNDL\x01\0\0\0".to_vec();
    for part in [manifest.get(1..).unwrap_or_default(), &body] {
        out.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_le_bytes());
        out.extend_from_slice(part);
    }
    out
}

/// A public key, as an operator pastes it.
pub fn public_key(bytes: &[u8]) {
    if let Some(text) = super::text(bytes) {
        let _ = keys::parse_public(text);
    }
}
