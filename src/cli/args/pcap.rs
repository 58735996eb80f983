//! What `pcap` takes.

use std::path::PathBuf;

use clap::Args;

use super::Recorded;

/// Extract packets for Wireshark, with a comment on each that vanished.
///
/// Writes pcapng: one interface a point with its drop counts, names for the traced addresses, and on every frame of a
/// packet that vanished where it was seen last and where it never came.
#[derive(Debug, Args)]
pub(in crate::cli) struct Pcap {
    #[command(flatten)]
    pub(in crate::cli) recorded: Recorded,
    /// Where to: a new file, or - for standard output
    #[arg(short = 'o', long = "output", value_name = "FILE")]
    pub(in crate::cli) output: PathBuf,
    /// Only frames of packets that vanished
    #[arg(long)]
    pub(in crate::cli) lost: bool,
    /// Only this flow, both ways
    #[arg(
        long,
        value_name = "FLOW",
        value_parser = flow,
        help = "Only this flow, both ways: [tcp|udp|icmp] ADDRESS[:PORT] [ADDRESS[:PORT]]"
    )]
    pub(in crate::cli) flow: Option<Flow>,
    /// Take the tunnel off: what it carries remains
    #[arg(long)]
    pub(in crate::cli) decap: bool,
    /// Do not say on stderr what was written
    #[arg(short, long)]
    pub(in crate::cli) quiet: bool,
}

/// Which flow, as typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct Flow {
    pub(in crate::cli) protocols: &'static [u8],
    /// One end or both; a port may be left open.
    pub(in crate::cli) ends: Vec<(std::net::IpAddr, Option<u16>)>,
}

fn flow(typed: &str) -> Result<Flow, String> {
    let mut words: Vec<&str> = typed.split_whitespace().filter(|word| *word != ">").collect();
    let protocols: &[u8] = match words.first().copied() {
        Some("tcp") => &[6],
        Some("udp") => &[17],
        Some("icmp") => &[1, 58],
        _ => &[],
    };
    if !protocols.is_empty() {
        words.remove(0);
    }
    let ends: Result<Vec<_>, String> = words.iter().map(|word| end(word)).collect();
    let ends = ends?;
    if ends.is_empty() || ends.len() > 2 {
        return Err("want one end or two, for example `tcp 10.244.1.2:43210 10.244.2.2:8080`".to_owned());
    }
    Ok(Flow { protocols, ends })
}

fn end(word: &str) -> Result<(std::net::IpAddr, Option<u16>), String> {
    if let Ok(address) = word.trim_matches(['[', ']']).parse() {
        return Ok((address, None));
    }
    word.parse::<std::net::SocketAddr>().map(|at| (at.ip(), Some(at.port()))).map_err(|_| {
        format!("{word} is neither an address nor ADDRESS:PORT (an IPv6 address with a port in [brackets])")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flows_as_people_type_them() {
        let one = flow("10.0.0.1:80").unwrap();
        assert_eq!(one, Flow { protocols: &[], ends: vec![("10.0.0.1".parse().unwrap(), Some(80))] });
        let both = flow("udp [fd00::1]:53 > fd00::2").unwrap();
        assert_eq!((both.protocols, both.ends.len()), (&[17_u8][..], 2));
        assert_eq!(both.ends[1], ("fd00::2".parse().unwrap(), None));
        for nonsense in ["", "tcp", "a b", "1.2.3.4 5.6.7.8 9.9.9.9", "10.0.0.1:99999"] {
            assert!(flow(nonsense).is_err(), "{nonsense}");
        }
    }
}
