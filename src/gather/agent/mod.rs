//! Work on one node, directed over a pipe: [`serve`] is the node's end, [`client`] the tracing side's, [`wire`] the
//! frames between them. One agent lives for one trace.

pub(crate) mod client;
mod desk;
mod pipe;
pub(crate) mod serve;
pub(crate) mod wire;
