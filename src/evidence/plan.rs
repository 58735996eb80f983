//! Which points to capture for two endpoints, before any node has been asked: from the cluster's objects alone.
//! Pure. The agents turn a [`Find`] into an interface's name; [`Plan::into_case`] then fixes points and paths.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::case::{Aliases, Endpoint, NodeFacts, Only, Role};

/// Where to capture, and for whose traffic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Where the traffic starts.
    pub from: Endpoint,
    /// Where it goes.
    pub to: Endpoint,
    /// Other addresses of the two ends.
    pub aliases: Aliases,
    /// Nodes: those of the path first, then those only known by name.
    pub nodes: Vec<NodeFacts>,
    /// Points in path order from `from` to `to`.
    pub points: Vec<PlannedPoint>,
    /// Whether packets between the NICs should be encapsulated.
    pub encapsulated: bool,
    /// UDP port of VXLAN in this cluster.
    pub vxlan_port: u16,
    /// Only this traffic.
    pub only: Only,
    /// What the plan could not know, in words.
    pub warnings: Vec<String>,
}

/// One point that should be captured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedPoint {
    /// Node.
    pub node: String,
    /// What kind of point.
    pub role: Role,
    /// How the agent finds the interface.
    pub find: Find,
}

/// How an agent finds an interface on its node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Find {
    /// By name.
    Name(String),
    /// The one that holds this address.
    Holding(IpAddr),
    /// The pod's end of the veth pair whose host end is named here, in the pod's own network namespace.
    InsidePod {
        /// Host end.
        veth: String,
        /// An address that it must hold.
        address: IpAddr,
    },
}
