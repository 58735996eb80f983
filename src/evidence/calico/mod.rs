//! How Calico names and shapes what it puts on a node: interfaces, tunnel addresses, chains and rules.
//!
//! In: names of pods, nodes and policies, and rules that [`netfilter`](super::netfilter) has read. Out: the names that
//! Calico derives from them, the policy behind a chain, and what a rule is there for. It asks no cluster and does not
//! say whether a rule dropped anything; it knows the iptables data plane from v3.20 on and nftables mode, not eBPF.

mod chains;
mod names;
mod rules;

pub use chains::{
    ChainKind, PolicyDirection, PolicyKind, PolicyName, PolicyRef, chain_kind, plain_chain, policy_chains,
    policy_of_chain,
};
pub use names::{chain_name, veth_name, vtep_mac};
pub use rules::{RuleKind, cause_kind, deny_rule, is_calico, rule_kind};
