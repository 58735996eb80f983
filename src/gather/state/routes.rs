//! Asks the kernel for the routes of the packets between two ends, as they are forwarded here. Takes the ends and the
//! links; adds each question with its answer. What the answers mean is for others.

use std::net::IpAddr;

use futures_util::TryStreamExt;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteFlags, RouteMessage};
use rtnetlink::Handle;

use super::netlink::route_of;
use crate::evidence::host::{Answer, Host, Question, Said};

/// Both directions: where the source's packets come in, as far as the way back to it tells, and where they go from there.
pub(super) async fn ask(host: &mut Host, handle: &Handle, (one, other): (IpAddr, IpAddr)) {
    if one.is_ipv4() != other.is_ipv4() {
        return;
    }
    for (src, dst) in [(one, other), (other, one)] {
        let back = answer(host, handle, Question { dst: src, src: None, iif: None }).await;
        let iif = match back.as_ref().map(|back| &back.said) {
            Some(Said::Route(route)) if route.kind == "unicast" => route.dev.clone(),
            _ => None,
        };
        let own = host.link_of(src).is_some();
        let onward = match &iif {
            None if !own => None,
            iif => answer(host, handle, Question { dst, src: Some(src), iif: iif.as_deref() }).await,
        };
        for answer in back.into_iter().chain(onward) {
            if !host.answers.contains(&answer) {
                host.answers.push(answer);
            }
        }
    }
}

async fn answer(host: &mut Host, handle: &Handle, question: Question<'_>) -> Option<Answer> {
    // Another pair with the same end.
    if let Some(known) = host.answers.iter().find(|known| known.question() == question) {
        return Some(known.clone());
    }
    let index = match question.iif {
        Some(iif) => Some(host.link(iif)?.index),
        None => None,
    };
    let answers: Result<Vec<RouteMessage>, _> =
        handle.route().get(message(&question, index)).execute().try_collect().await;
    let said = match answers {
        Ok(routes) => {
            let name =
                |index| host.links.iter().find(|link| link.index == index).map(|link| link.name.clone());
            Said::Route(routes.iter().find_map(|route| route_of(route, &name))?)
        }
        Err(rtnetlink::Error::NetlinkError(error)) => Said::Error(-error.raw_code()),
        Err(error) => {
            host.unread
                .push(format!("the kernel's word on the way to {} over rtnetlink: {error}", question.dst));
            return None;
        }
    };
    Some(Answer { dst: question.dst, src: question.src, iif: question.iif.map(str::to_owned), said })
}

/// With `RTM_F_FIB_MATCH` the answer is the entry of the table, as a dump shows it.
fn message(question: &Question<'_>, iif: Option<u32>) -> RouteMessage {
    let of = |address: IpAddr| match address {
        IpAddr::V4(address) => RouteAddress::Inet(address),
        IpAddr::V6(address) => RouteAddress::Inet6(address),
    };
    let v4 = question.dst.is_ipv4();
    let length = if v4 { 32 } else { 128 };
    let mut message = RouteMessage::default();
    message.header.address_family = if v4 { AddressFamily::Inet } else { AddressFamily::Inet6 };
    message.header.flags = RouteFlags::FibMatch;
    message.header.destination_prefix_length = length;
    message.attributes.push(RouteAttribute::Destination(of(question.dst)));
    if let Some(src) = question.src {
        message.header.source_prefix_length = length;
        message.attributes.push(RouteAttribute::Source(of(src)));
    }
    message.attributes.extend(iif.map(RouteAttribute::Iif));
    message
}
