//! Names that Calico derives: a pod's host interface and a policy's chains.

use sha1::{Digest, Sha1};
use sha2::Sha256;

use crate::evidence::cluster::Policy;

/// The host's side of a pod's veth: `cali` and the first 11 digits of SHA-1 of `namespace.pod`
/// (libcalico-go/lib/backend/k8s/conversion/workload_endpoint_default.go).
pub fn veth_name(namespace: &str, pod: &str) -> String {
    let digest = Sha1::digest(format!("{namespace}.{pod}"));
    let word = digest.iter().take(6).fold(0_u64, |word, byte| word << 8 | u64::from(*byte));
    format!("cali{:011x}", word >> 4)
}

/// A chain's name of at most 28 characters: `id` itself, or its hash (libcalico-go/lib/hash/unique_id.go).
pub fn chain_name(prefix: &str, id: &str) -> String {
    const LIMIT: usize = 28;
    let whole = prefix.len() + id.len();
    if whole > LIMIT || (whole == LIMIT && id.starts_with('_')) {
        let hash = base64url(&Sha256::digest(id.as_bytes()));
        format!("{prefix}_{}", &hash[..LIMIT - 1 - prefix.len()])
    } else {
        format!("{prefix}{id}")
    }
}

/// The policy behind a `cali-pi-…` or `cali-po-…` chain: by the comment that Felix puts on its first rule (3.22 and
/// later), else by the names that each version gives to the policies known.
pub fn policy_of_chain(chain: &str, comments: &[&str], known: &[Policy]) -> Option<String> {
    let (prefix, _) =
        ["cali-pi-", "cali-po-"].iter().find_map(|p| chain.strip_prefix(p).map(|rest| (*p, rest)))?;
    let said = comments.iter().find_map(|comment| {
        let name = comment.strip_suffix(" ingress").or_else(|| comment.strip_suffix(" egress"))?;
        let policy = name.starts_with("Policy ") || name.contains("Policy ");
        policy.then(|| name.to_owned())
    });
    said.or_else(|| {
        let policy =
            known.iter().find(|policy| ids(policy).iter().any(|id| chain_name(prefix, id) == chain))?;
        Some(match &policy.namespace {
            Some(namespace) => format!("{} {namespace}/{}", policy.kind, policy.name),
            None => format!("{} {}", policy.kind, policy.name),
        })
    })
}

/// The ids that versions up to 3.28, 3.29 to 3.31, and from 3.32 on hash into a chain's name (`felix/types/policy_id.go`).
fn ids(policy: &Policy) -> [String; 3] {
    let scope = policy.namespace.as_ref().map(|namespace| format!("{namespace}/")).unwrap_or_default();
    let name = &policy.name;
    let (code, full) = match policy.kind.as_str() {
        "KubernetesNetworkPolicy" => ("knp", format!("{scope}knp.default.{name}")),
        "GlobalNetworkPolicy" => ("gnp", name.clone()),
        _ => ("np", format!("{scope}{name}")),
    };
    let tier = match policy.kind.as_str() {
        "KubernetesNetworkPolicy" => "default",
        _ => name.split_once('.').map_or("default", |(tier, _)| tier),
    };
    [full.clone(), format!("{tier}/{full}"), format!("{code}/{scope}{name}")]
}

/// RFC 4648, section 5, without padding.
fn base64url(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let word =
            chunk.iter().fold(0_u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..=chunk.len() {
            let letter = word >> (18 - 6 * place) & 0x3f;
            text.push(char::from(LETTERS[letter as usize]));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_real_clusters() {
        assert_eq!(veth_name("shop", "web-0"), "calia4fc3c48bd8");
        assert_eq!(veth_name("shop", "client"), "caliaa50613ef2d");
        assert_eq!(chain_name("cali-pi-", "shop/knp.default.deny-all"), "cali-pi-_9wacWKe56SDV-NvyQJV");
        assert_eq!(
            chain_name("cali-pi-", "default/shop/knp.default.deny-all"),
            "cali-pi-_0DHEzKERfLrzxSP2prs"
        );
        assert_eq!(chain_name("cali-pi-", "knp/shop/deny-all"), "cali-pi-knp/shop/deny-all");
        assert_eq!(chain_name("cali-po-", "gnp/block-egress-all"), "cali-po-gnp/block-egress-all");
        assert_eq!(chain_name("cali-pri-", "ksa.kube-system.coredns"), "cali-pri-_u2Tn2rSoAPffvE7JO6");
    }

    #[test]
    fn chains_lead_back_to_their_policy() {
        let known = [Policy {
            kind: "KubernetesNetworkPolicy".to_owned(),
            namespace: Some("shop".to_owned()),
            name: "deny-all".to_owned(),
        }];
        let whole = Some("KubernetesNetworkPolicy shop/deny-all".to_owned());
        for chain in
            ["cali-pi-_9wacWKe56SDV-NvyQJV", "cali-pi-_0DHEzKERfLrzxSP2prs", "cali-pi-knp/shop/deny-all"]
        {
            assert_eq!(policy_of_chain(chain, &[], &known), whole, "{chain}");
        }
        let said = policy_of_chain("cali-po-_x", &["cali:abc", "GlobalNetworkPolicy block-all egress"], &[]);
        assert_eq!(said.as_deref(), Some("GlobalNetworkPolicy block-all"));
        assert_eq!(policy_of_chain("cali-tw-x", &[], &known), None);
    }
}
