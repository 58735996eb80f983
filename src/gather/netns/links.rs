//! The links and addresses of the calling thread's namespace, and the ids under which it knows other namespaces.
//! Asks rtnetlink; judges nothing.

use std::net::IpAddr;

use futures_util::{StreamExt, TryStreamExt};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::AddressAttribute;
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_packet_route::nsid::{NsidAttribute, NsidMessage};
use rtnetlink::Handle;
use rtnetlink::packet_core::{NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};

use super::{Namespace, NetnsError};

/// A link, as far as the search for capture points needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Link {
    /// Index in its namespace.
    pub(super) index: u32,
    /// Name.
    pub(super) name: String,
    /// `IFLA_LINK`: for a veth, the index of its peer in the peer's namespace.
    pub(super) peer: Option<u32>,
    /// `IFLA_LINK_NETNSID`: this namespace's id for the peer's; absent when the peer is here too.
    pub(super) peer_namespace: Option<i32>,
    /// Whether it is a loopback interface.
    pub(super) loopback: bool,
    /// Its addresses.
    pub(super) addresses: Vec<IpAddr>,
}

/// All links of the namespace, with their addresses.
pub(super) fn all() -> Result<Vec<Link>, NetnsError> {
    ask(async |handle| {
        let mut links: Vec<Link> =
            handle.link().get().execute().map_ok(|message| link_of(&message)).try_collect().await?;
        let mut addresses = handle.address().get().execute();
        while let Some(message) = addresses.try_next().await? {
            let Some(link) = links.iter_mut().find(|link| link.index == message.header.index) else {
                continue;
            };
            // IFA_LOCAL is the interface's own address; on point-to-point links IFA_ADDRESS is the other end's.
            let own = message.attributes.iter().find_map(|attribute| match attribute {
                AddressAttribute::Local(address) => Some(*address),
                _ => None,
            });
            let any = message.attributes.iter().find_map(|attribute| match attribute {
                AddressAttribute::Address(address) => Some(*address),
                _ => None,
            });
            link.addresses.extend(own.or(any));
        }
        Ok(links)
    })
    .map_err(|why| NetnsError::Netlink { what: "links and addresses", why })
}

/// The ids by which this namespace knows `others`; None where it has none for it.
pub(super) fn ids_of(others: &[Namespace]) -> Result<Vec<Option<i32>>, NetnsError> {
    ask(async |mut handle| {
        let mut ids = Vec::with_capacity(others.len());
        for other in others {
            ids.push(id_of(&mut handle, other).await?);
        }
        Ok(ids)
    })
    .map_err(|why| NetnsError::Netlink { what: "the ids of network namespaces", why })
}

/// `RTM_GETNSID` for one open namespace.
async fn id_of(handle: &mut Handle, other: &Namespace) -> Result<Option<i32>, rtnetlink::Error> {
    let mut message = NsidMessage::default();
    message.attributes = vec![NsidAttribute::Fd(other.number())];
    let mut request = NetlinkMessage::from(RouteNetlinkMessage::GetNsId(message));
    request.header.flags = NLM_F_REQUEST;
    let mut answers = handle.request(request)?;
    while let Some(answer) = answers.next().await {
        match answer.payload {
            // Not a network namespace after all: a leftover file in /run/netns.
            NetlinkPayload::Error(_) => return Ok(None),
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewNsId(answer)) => {
                return Ok(answer.attributes.iter().find_map(|attribute| match attribute {
                    NsidAttribute::Id(id) if *id >= 0 => Some(*id),
                    _ => None,
                }));
            }
            _ => {}
        }
    }
    Ok(None)
}

/// Runs questions on a connection of the calling thread, in its namespace.
pub(crate) fn ask<T>(
    questions: impl AsyncFnOnce(Handle) -> Result<T, rtnetlink::Error>,
) -> Result<T, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .map_err(|error| format!("no runtime: {error}"))?;
    runtime.block_on(async {
        let (connection, handle, _) =
            rtnetlink::new_connection().map_err(|error| format!("no netlink socket: {error}"))?;
        let connection = tokio::spawn(connection);
        let answer = questions(handle).await;
        connection.abort();
        answer.map_err(|error| error.to_string())
    })
}

fn link_of(message: &LinkMessage) -> Link {
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        peer: None,
        peer_namespace: None,
        loopback: message.header.flags.contains(LinkFlags::Loopback),
        addresses: Vec::new(),
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Link(peer) => link.peer = Some(*peer),
            LinkAttribute::LinkNetNsId(id) => link.peer_namespace = Some(*id),
            _ => {}
        }
    }
    link
}
