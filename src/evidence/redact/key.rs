//! The key of one redaction. In: bytes and what they are hashed for. Out: 32 bytes that nobody can make, or turn back, without the
//! key (HMAC-SHA-256). The key is nowhere written.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// A key that is used for one case and then forgotten.
#[derive(Clone)]
pub(super) struct Key(Hmac<Sha256>);

impl Key {
    pub(super) fn new(bytes: &[u8; 32]) -> Self {
        // HMAC takes a key of any length: a wrong one cannot be.
        Self(Hmac::new_from_slice(bytes).expect("a key of 32 bytes"))
    }

    /// The hash of `bytes`, another one for each purpose.
    pub(super) fn hash(&self, purpose: Purpose, bytes: &[u8]) -> [u8; 32] {
        let mut hash = self.0.clone();
        hash.update(&[purpose as u8]);
        hash.update(bytes);
        hash.finalize().into_bytes().into()
    }

    /// As many characters as asked for, at most 32, of an alphabet.
    pub(super) fn word(&self, purpose: Purpose, of: &str, length: usize, alphabet: &[u8]) -> String {
        let hash = self.hash(purpose, of.as_bytes());
        let letter = |byte: &u8| char::from(alphabet[usize::from(*byte) % alphabet.len()]);
        hash.iter().take(length).map(letter).collect()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Key")
    }
}

/// What a hash is for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Purpose {
    /// A bit of an IPv4 address.
    V4 = 1,
    /// A bit of an IPv6 address.
    V6,
    /// The interface part of a link-local address.
    LinkLocal,
    /// The part of an address that stands in its group's.
    Solicited,
    /// A card's address.
    Mac,
    /// A byte of a payload.
    Payload,
    /// A name that is a hash itself.
    Hashed,
}

/// Hexadecimal digits.
pub(super) const HEX: &[u8] = b"0123456789abcdef";
/// Base 64 as Calico writes it.
pub(super) const BASE64: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
/// Base 32 as kube-proxy writes it.
pub(super) const BASE32: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
