//! The machine into evidence: the only room with sockets, programs, clocks, async and privileges.
//!
//! [`run`] directs one trace: it starts an [`agent`] on every node and writes what they send into a case. An agent
//! finds its points ([`netns`]), reads what tools say about the node ([`texts`]), captures ([`capture`]) what the
//! pair's [`filter`] lets through, listens to what the [`kernel`] drops, and sends a [`probe`] if asked. [`privilege`] knows the rights all this needs.

pub(crate) mod privilege;

pub(crate) mod clock;

mod stop;

pub(crate) mod netns;

mod netlink;

mod nftables;

pub(crate) mod filter;

pub(crate) mod capture;

pub(crate) mod kernel;

pub(crate) mod probe;

pub(crate) mod state;

pub(crate) mod texts;

pub(crate) mod kubernetes;

pub(crate) mod agent;

pub(crate) mod run;

#[cfg(test)]
mod rig;
