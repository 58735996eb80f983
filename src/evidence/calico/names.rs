//! Names that Calico makes from other names by hash. Strings in, strings out; nothing is looked up.

use sha1::Sha1;
use sha2::{Digest, Sha256};

/// Host end of a pod's veth pair: `cali` and the first 11 hexadecimal digits of SHA-1 of `namespace.pod`
/// (`VethNameForWorkload` in libcalico-go's conversion package).
pub fn veth_name(namespace: &str, pod: &str) -> String {
    let digest = Sha1::digest(format!("{namespace}.{pod}"));
    let mut name = "cali".to_owned();
    name.extend(digest.iter().flat_map(|byte| [byte >> 4, byte & 15]).take(11).map(hex_digit));
    name
}

/// MAC of a node's VXLAN device when no annotation sets it: `66` and five bytes of SHA-1 of the node's name, for the
/// IPv6 device of the name with `-v6` behind it (felix's `vxlan_mgr.go`).
pub fn vtep_mac(node: &str, v6: bool) -> [u8; 6] {
    let digest = if v6 { Sha1::digest(format!("{node}-v6")) } else { Sha1::digest(node) };
    let mut mac = [0x66; 6];
    mac[1..].copy_from_slice(&digest[..5]);
    mac
}

/// `prefix` and `id`, the latter hashed when both together do not fit a chain's name
/// (`GetLengthLimitedID` in libcalico-go's hash package).
pub fn chain_name(prefix: &str, id: &str) -> String {
    let length = prefix.len() + id.len();
    if length < MAX_CHAIN || (length == MAX_CHAIN && !id.starts_with('_')) {
        return format!("{prefix}{id}");
    }
    let hash = base64url(&Sha256::digest(id));
    let room = MAX_CHAIN.saturating_sub(prefix.len() + 1);
    format!("{prefix}_{}", hash.get(..room).unwrap_or(&hash))
}

fn hex_digit(value: u8) -> char {
    char::from_digit(u32::from(value), 16).unwrap_or('0')
}

/// Base 64 with `-` and `_`, without padding.
fn base64url(bytes: &[u8]) -> String {
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let bits = (0..3).fold(0_u32, |bits, at| bits << 8 | u32::from(group.get(at).copied().unwrap_or(0)));
        for place in 0..=group.len() {
            text.push(char::from(ALPHABET[(bits >> (18 - 6 * place) & 63) as usize]));
        }
    }
    text
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Longest name of a chain (`MaxChainNameLength` in felix's iptables package).
const MAX_CHAIN: usize = 28;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_veths() {
        assert_eq!(veth_name("shop", "web-0"), "calia4fc3c48bd8");
        assert_eq!(veth_name("shop", "client"), "caliaa50613ef2d");
        assert_eq!(veth_name("default", "web-0"), "cali0d7763386da");
    }

    #[test]
    fn addresses_of_tunnel_devices() {
        assert_eq!(vtep_mac("node-a", false), [0x66, 0x07, 0x02, 0xc1, 0xcc, 0x60]);
        assert_eq!(vtep_mac("node-a", true), [0x66, 0xd4, 0xd5, 0x51, 0x3d, 0x42]);
        assert_eq!(vtep_mac("node-b", false), [0x66, 0x89, 0x3a, 0x22, 0x7a, 0xac]);
        assert_eq!(vtep_mac("node-b", true), [0x66, 0x35, 0xbe, 0x36, 0xcf, 0x19]);
    }

    #[test]
    fn names_of_chains() {
        for (prefix, id, name) in [
            ("cali-pi-", "shop/knp.default.deny-all", "cali-pi-_9wacWKe56SDV-NvyQJV"),
            ("cali-pi-", "default/shop/knp.default.deny-all", "cali-pi-_0DHEzKERfLrzxSP2prs"),
            ("cali-pi-", "knp/shop/deny-all", "cali-pi-knp/shop/deny-all"),
            ("cali-pi-", "knp/default/allow-web", "cali-pi-_l7X9Omtz7dibbh9L3Lp"),
            ("cali-po-", "gnp/block-egress-all", "cali-po-gnp/block-egress-all"),
            ("cali-pri-", "ksa.kube-system.coredns", "cali-pri-_u2Tn2rSoAPffvE7JO6"),
            ("cali-pri-", "kns.shop", "cali-pri-kns.shop"),
        ] {
            assert_eq!(chain_name(prefix, id), name, "{prefix} {id}");
            assert!(name.len() <= MAX_CHAIN);
        }
        assert!(chain_name("cali-pi-", "_9wacWKe56SDV-NvyQJV").starts_with("cali-pi-_"));
        assert_ne!(chain_name("cali-pi-", "_9wacWKe56SDV-NvyQJV"), "cali-pi-_9wacWKe56SDV-NvyQJV");
    }

    #[test]
    fn base64_of_short_inputs() {
        assert_eq!(base64url(b""), "");
        assert_eq!(base64url(b"f"), "Zg");
        assert_eq!(base64url(b"fo"), "Zm8");
        assert_eq!(base64url(&[0xfb, 0xff, 0xfe, 0xff]), "-__-_w");
    }
}
