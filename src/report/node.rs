//! The nodes' tunnels, blocks and peers as a short table, or as an object.

use std::io;

use serde_json::{Value, json};

use super::check::Finding;
use super::text::Style;
use crate::analyze::state::{Device, NodeStatus, PeerStatus, Read};
use crate::evidence::Known;

/// Writes the table.
///
/// # Errors
///
/// When `out` cannot be written to.
pub fn text(nodes: &[NodeStatus], style: Style, out: &mut dyn io::Write) -> io::Result<()> {
    for (number, node) in nodes.iter().enumerate() {
        if number > 0 {
            writeln!(out)?;
        }
        let addresses = list(&node.addresses);
        match &node.read {
            Known::Read(read) => {
                writeln!(out, "{}  {addresses}", node.node)?;
                facts(read, out)?;
            }
            Known::Unreadable(why) => writeln!(out, "{}  {addresses}  NOT READ: {why}", node.node)?,
            Known::NotAsked => writeln!(out, "{}  {addresses}  not asked", node.node)?,
        }
        peers(&node.peers, style, out)?;
    }
    Ok(())
}

fn facts(read: &Read, out: &mut dyn io::Write) -> io::Result<()> {
    for device in &read.devices {
        writeln!(out, "  tunnel  {}", device_words(device))?;
    }
    if read.devices.is_empty() {
        writeln!(out, "  tunnel  no VXLAN device of Calico's")?;
    }
    let blocks = if read.blocks.is_empty() { "none by its routes".to_owned() } else { list(&read.blocks) };
    writeln!(out, "  blocks  {blocks}")?;
    let chains: Vec<String> = read.chains.iter().map(|(name, count)| format!("{count} in {name}")).collect();
    let chains = if chains.is_empty() { "not read".to_owned() } else { chains.join(", ") };
    writeln!(
        out,
        "  felix   chains cali-*: {chains}; {} tunnel routes, {} routes to pods",
        read.tunnel_routes, read.pods
    )?;
    for (pod, phase) in &read.agents {
        writeln!(out, "  felix   pod {pod}: {phase}")?;
    }
    Ok(())
}

fn device_words(device: &Device) -> String {
    let addresses =
        if device.addresses.is_empty() { "no address".to_owned() } else { list(&device.addresses) };
    let vni = device.vni_port.map(|(vni, port)| format!("  VNI {vni} port {port}")).unwrap_or_default();
    let offload = match device.leaves_checksums {
        Some(true) => "  checksum offload on",
        Some(false) => "  checksum offload off",
        None => "",
    };
    format!(
        "{}  {}  {addresses}  {}  MTU {}{vni}{offload}",
        device.name,
        if device.up { "up" } else { "DOWN" },
        device.mac.as_deref().unwrap_or("no MAC"),
        device.mtu
    )
}

fn peers(peers: &[PeerStatus], style: Style, out: &mut dyn io::Write) -> io::Result<()> {
    if peers.is_empty() {
        return Ok(());
    }
    let mut rows =
        vec![["PEER", "DEVICE", "TUNNEL", "MAC", "UNDERLAY", "ROUTES", "STATE"].map(str::to_owned)];
    for peer in peers {
        let mac = peer.neighbour.as_ref().and_then(|(mac, _)| mac.clone()).unwrap_or_else(|| "-".to_owned());
        let kinds: Vec<&str> = peer.faults.iter().map(|fault| fault.kind).collect();
        rows.push([
            peer.node.clone(),
            peer.device.clone(),
            peer.address.to_string(),
            mac,
            peer.underlay.map_or_else(|| "-".to_owned(), |underlay| underlay.to_string()),
            peer.routes.to_string(),
            if kinds.is_empty() { "ok".to_owned() } else { kinds.join(", ") },
        ]);
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..6).map(width).collect();
    for (number, row) in rows.iter().enumerate() {
        let wrong = number > 0 && row[6] != "ok";
        let (paint, plain) = if style.color && wrong { ("\x1b[31m", "\x1b[0m") } else { ("", "") };
        let cells: Vec<String> =
            row[..6].iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        writeln!(out, "  {paint}{}  {}{plain}", cells.join("  "), row[6])?;
    }
    if style.verbose {
        for fault in peers.iter().flat_map(|peer| &peer.faults) {
            writeln!(out, "  {}: {}\n    do  {}", fault.kind, fault.summary, fault.remedy)?;
        }
    }
    Ok(())
}

fn list<T: ToString>(all: &[T]) -> String {
    all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Writes the object, schema `trace-drop/node-status/v1`.
///
/// # Errors
///
/// When `out` cannot be written to.
pub fn json(nodes: &[NodeStatus], out: &mut dyn io::Write) -> io::Result<()> {
    let nodes: Vec<Value> = nodes.iter().map(node).collect();
    let report = json!({"schema": "trace-drop/node-status/v1", "nodes": nodes});
    serde_json::to_writer_pretty(&mut *out, &report)?;
    writeln!(out)
}

fn node(node: &NodeStatus) -> Value {
    let why = match &node.read {
        Known::Unreadable(why) => Some(why),
        Known::Read(_) | Known::NotAsked => None,
    };
    let devices: Vec<Value> =
        node.read.read().map(|read| read.devices.iter().map(device).collect()).unwrap_or_default();
    let peers: Vec<Value> = node.peers.iter().map(peer).collect();
    let read = node.read.read();
    json!({
        "node": node.node,
        "addresses": node.addresses,
        "read": read.is_some(),
        "unread": why,
        "tunnels": devices,
        "blocks": read.map(|read| &read.blocks),
        "tunnel_routes": read.map(|read| read.tunnel_routes),
        "pod_routes": read.map(|read| read.pods),
        "chains": read.map(|read| read.chains.iter().map(|(name, count)| json!({"text": name, "count": count})).collect::<Vec<_>>()),
        "calico_node": read.map(|read| read.agents.iter().map(|(pod, phase)| json!({"pod": pod, "phase": phase})).collect::<Vec<_>>()),
        "peers": peers,
    })
}

fn device(device: &Device) -> Value {
    json!({
        "name": device.name,
        "up": device.up,
        "addresses": device.addresses,
        "mac": device.mac,
        "mtu": device.mtu,
        "vni": device.vni_port.map(|(vni, _)| vni),
        "port": device.vni_port.map(|(_, port)| port),
        "checksum_offload": device.leaves_checksums,
    })
}

fn peer(peer: &PeerStatus) -> Value {
    json!({
        "node": peer.node,
        "device": peer.device,
        "tunnel": peer.address,
        "mac": peer.neighbour.as_ref().and_then(|(mac, _)| mac.as_ref()),
        "neighbour": peer.neighbour.as_ref().map(|(_, state)| state),
        "underlay": peer.underlay,
        "routes": peer.routes,
        "findings": peer.faults.iter().map(Finding::of).collect::<Vec<_>>(),
    })
}
