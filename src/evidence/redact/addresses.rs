//! Other addresses for addresses. In: an address, a prefix, a card's address. Out: another, the same for the same, and two that
//! share their first n bits share n bits afterwards, so that what contained an address still does (the way of Crypto-PAn: Xu, Fan,
//! Ammar, Moon, 2002; each bit is turned over or not by a keyed hash of the bits before it). What has a meaning of its own stays:
//! loopback, link-local and multicast ranges, the unspecified and the broadcast address, and whether an address is private.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use rustc_hash::{FxHashMap, FxHashSet};

use super::key::{Key, Purpose};

/// Turns addresses.
#[derive(Debug)]
pub(super) struct Addresses {
    key: Key,
    /// Bits that are not turned over: family, depth, the bits before.
    still: FxHashSet<(bool, u8, u128)>,
    /// Turned before.
    known: FxHashMap<IpAddr, IpAddr>,
    /// Card's addresses that are made of a node's name.
    derived: FxHashMap<[u8; 6], [u8; 6]>,
}

impl Addresses {
    pub(super) fn new(key: Key) -> Self {
        Self { key, still: FxHashSet::default(), known: FxHashMap::default(), derived: FxHashMap::default() }
    }

    /// The first address of a subnet, and the last one of an IPv4 subnet, stay the first and last. To be said before any
    /// address is turned.
    pub(super) fn keep_ends(&mut self, net: IpNet) {
        if self.still.len() > MOST_KEPT {
            return;
        }
        let v6 = matches!(net, IpNet::V6(_));
        let ends = match net {
            IpNet::V4(net) => vec![left(net.network().into()), left(net.broadcast().into())],
            IpNet::V6(net) => vec![left(net.network().into())],
        };
        for end in ends {
            for depth in net.prefix_len()..net.max_prefix_len() {
                self.still.insert((v6, depth, end & mask(depth)));
            }
        }
    }

    /// What a card's address becomes, that is made of a name.
    pub(super) fn derive(&mut self, from: [u8; 6], to: [u8; 6]) {
        self.derived.insert(from, to);
    }

    /// Another address.
    pub(super) fn ip(&mut self, address: IpAddr) -> IpAddr {
        if let Some(known) = self.known.get(&address) {
            return *known;
        }
        let turned = match address {
            IpAddr::V4(v4) => IpAddr::V4(self.v4(v4, 32)),
            IpAddr::V6(v6) => IpAddr::V6(self.v6(v6)),
        };
        // A capture may hold any number of them.
        if self.known.len() >= MOST_KNOWN {
            self.known.clear();
        }
        self.known.insert(address, turned);
        turned
    }

    /// Another prefix of the same length; with bits behind the prefix, an address with its prefix's length.
    pub(super) fn net(&mut self, net: IpNet) -> IpNet {
        if net.addr() != net.network() || net.prefix_len() == net.max_prefix_len() {
            let address = self.ip(net.addr());
            return IpNet::new(address, net.prefix_len()).unwrap_or(net);
        }
        match net {
            IpNet::V4(net) => {
                let address = self.v4(net.addr(), net.prefix_len());
                IpNet::V4(Ipv4Net::new(address, net.prefix_len()).unwrap_or(net))
            }
            IpNet::V6(net) => IpNet::V6(self.v6_net(net)),
        }
    }

    /// An address with the length of its subnet's prefix: never a prefix, even where no bit is set behind it.
    pub(super) fn with_prefix(&mut self, at: IpNet) -> IpNet {
        let address = self.ip(at.addr());
        IpNet::new(address, at.prefix_len()).unwrap_or(at)
    }

    /// Another card's address. Groups', Calico's own and none stay.
    pub(super) fn mac(&self, mac: [u8; 6]) -> [u8; 6] {
        if let Some(derived) = self.derived.get(&mac) {
            return *derived;
        }
        match mac {
            [0x33, 0x33, 0xff, a, b, c] => {
                let [a, b, c] = self.solicited([a, b, c]);
                [0x33, 0x33, 0xff, a, b, c]
            }
            [0, 0, 0, 0, 0, 0] | [0xee, 0xee, 0xee, 0xee, 0xee, 0xee] => mac,
            [first, ..] if first & 1 == 1 => mac,
            _ => {
                let mut turned = [0; 6];
                turned.copy_from_slice(&self.key.hash(Purpose::Mac, &mac)[..6]);
                turned[0] = turned[0] & 0xfc | 0x02;
                turned
            }
        }
    }

    fn v4(&self, address: Ipv4Addr, length: u8) -> Ipv4Addr {
        let stays = |net: &&(u32, u8)| {
            length >= net.1 && (u32::from(address) ^ net.0).leading_zeros() >= net.1.into()
        };
        if V4_STAYS.iter().find(stays).is_some() {
            return address;
        }
        let turned = self.bits(false, left(IpAddr::V4(address)), length);
        Ipv4Addr::from(u32::try_from(turned >> 96).unwrap_or(0))
    }

    fn v6(&self, address: Ipv6Addr) -> Ipv6Addr {
        let octets = address.octets();
        if address.is_unspecified() || address.is_loopback() {
            return address;
        }
        match octets {
            _ if holds_v4(&octets) => self.with_v4(octets, 32),
            [0xfe, second, ..] if second & 0xc0 == 0x80 => self.link_local(octets),
            [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c] => {
                let mut group = octets;
                group[13..].copy_from_slice(&self.solicited([a, b, c]));
                group.into()
            }
            [0xff, ..] => address,
            _ => Ipv6Addr::from(self.bits(true, address.into(), 128)),
        }
    }

    fn v6_net(&self, net: Ipv6Net) -> Ipv6Net {
        let octets = net.addr().octets();
        let address = match octets {
            _ if net.prefix_len() >= 96 && holds_v4(&octets) => self.with_v4(octets, net.prefix_len() - 96),
            [0xff, ..] if net.prefix_len() >= 8 => net.addr(),
            [0xfe, second, ..] if second & 0xc0 == 0x80 && net.prefix_len() >= 10 => net.addr(),
            _ => Ipv6Addr::from(self.bits(true, net.addr().into(), net.prefix_len())),
        };
        Ipv6Net::new(address, net.prefix_len()).unwrap_or(net)
    }

    /// The card's address inside it is turned as elsewhere.
    fn link_local(&self, octets: [u8; 16]) -> Ipv6Addr {
        let mut turned = [0; 16];
        turned[..2].copy_from_slice(&[0xfe, 0x80]);
        if octets[11..13] == [0xff, 0xfe] {
            let mut card = [0; 6];
            card[..3].copy_from_slice(&octets[8..11]);
            card[3..].copy_from_slice(&octets[13..]);
            card[0] ^= 2;
            let card = self.mac(card);
            turned[8..11].copy_from_slice(&card[..3]);
            turned[11..13].copy_from_slice(&[0xff, 0xfe]);
            turned[13..].copy_from_slice(&card[3..]);
            turned[8] ^= 2;
        } else {
            turned[8..].copy_from_slice(&self.key.hash(Purpose::LinkLocal, &octets)[..8]);
        }
        turned.into()
    }

    fn with_v4(&self, mut octets: [u8; 16], length: u8) -> Ipv6Addr {
        let [.., a, b, c, d] = octets;
        let v4 = self.v4(Ipv4Addr::new(a, b, c, d), length);
        octets[12..].copy_from_slice(&v4.octets());
        octets.into()
    }

    fn solicited(&self, last: [u8; 3]) -> [u8; 3] {
        let [a, b, c, ..] = self.key.hash(Purpose::Solicited, &last);
        [a, b, c]
    }

    /// The first `length` bits turned, the others zero.
    fn bits(&self, v6: bool, bits: u128, length: u8) -> u128 {
        let (purpose, fixed) = if v6 { (Purpose::V6, V6_FIXED) } else { (Purpose::V4, V4_FIXED) };
        let mut turned = 0;
        for depth in 0..length {
            let before = bits & mask(depth);
            let bit = bits >> (127 - depth) & 1;
            let still = fixed.iter().any(|(to, length)| depth < *length && before == *to & mask(depth))
                || self.still.contains(&(v6, depth, before));
            let flip = if still {
                0
            } else {
                let mut question = [depth; 17];
                question[1..].copy_from_slice(&before.to_be_bytes());
                u128::from(self.key.hash(purpose, &question)[0] & 1)
            };
            turned |= (bit ^ flip) << (127 - depth);
        }
        turned
    }
}

/// IPv4-mapped, IPv4-compatible, and of NAT64.
fn holds_v4(octets: &[u8; 16]) -> bool {
    matches!(
        octets,
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, ..] | [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, ..]
    ) || matches!(octets, [0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0, ..])
}

/// The address's bits at the left end.
fn left(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(u32::from(v4)) << 96,
        IpAddr::V6(v6) => v6.into(),
    }
}

/// The first `depth` bits.
fn mask(depth: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(depth)).unwrap_or(0)
}

/// "This network", loopback, link-local, multicast, and all beyond.
const V4_STAYS: &[(u32, u8)] =
    &[(0, 8), (0x7f00_0000, 8), (0xa9fe_0000, 16), (0xe000_0000, 4), (0xf000_0000, 4)];

/// Ranges that are turned within themselves: those above and the private ones (RFC 1918, RFC 6598).
const V4_FIXED: &[(u128, u8)] = &[
    (0, 8),
    (0x0a << 120, 8),
    (0x6440 << 112, 10),
    (0x7f << 120, 8),
    (0xa9fe << 112, 16),
    (0xac10 << 112, 12),
    (0xc0a8 << 112, 16),
    (0xe << 124, 4),
    (0xf << 124, 4),
];

/// Likewise: what begins with a zero byte, NAT64, link-local, multicast, unique local (RFC 4193), global.
const V6_FIXED: &[(u128, u8)] = &[
    (0, 8),
    (0x64_ff9b << 96, 96),
    (0xfe80 << 112, 10),
    (0xff << 120, 8),
    (0xfc << 120, 7),
    (0x2 << 124, 3),
];

/// Turned addresses that are held at once.
const MOST_KNOWN: usize = 1 << 16;

/// Bits that are kept for subnets' ends.
const MOST_KEPT: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::*;

    fn some() -> Addresses {
        Addresses::new(Key::new(&[7; 32]))
    }

    fn shared(a: u128, b: u128) -> u32 {
        (a ^ b).leading_zeros()
    }

    #[test]
    fn what_has_a_meaning_stays() {
        let mut all = some();
        for text in [
            "0.0.0.0",
            "127.0.0.1",
            "169.254.1.1",
            "224.0.0.5",
            "255.255.255.255",
            "::",
            "::1",
            "ff02::1",
            "fe80::ecee:eeff:feee:eeee",
            "::ffff:127.0.0.1",
        ] {
            let address: IpAddr = text.parse().unwrap();
            assert_eq!(all.ip(address), address, "{text}");
        }
        for text in ["0.0.0.0/0", "::/0", "127.0.0.0/8", "fe80::/10", "fe80::/64", "ff00::/8", "224.0.0.0/4"]
        {
            let net: IpNet = text.parse().unwrap();
            assert_eq!(all.net(net), net, "{text}");
        }
        for (text, within) in [
            ("10.244.1.2", "10.0.0.0/8"),
            ("192.168.50.11", "192.168.0.0/16"),
            ("172.20.1.1", "172.16.0.0/12"),
            ("100.65.3.4", "100.64.0.0/10"),
            ("fd00:10:244:1::2", "fc00::/7"),
            ("2001:db8::1", "2000::/3"),
        ] {
            let (address, within): (IpAddr, IpNet) = (text.parse().unwrap(), within.parse().unwrap());
            let turned = all.ip(address);
            assert!(turned != address && within.contains(&turned), "{text}: {turned}");
        }
    }

    #[test]
    fn what_holds_another_address_holds_the_turned_one() {
        let mut all = some();
        let IpAddr::V4(v4) = all.ip("10.244.1.2".parse().unwrap()) else { panic!("IPv4 stays IPv4") };
        assert_eq!(all.ip("::ffff:10.244.1.2".parse().unwrap()), IpAddr::V6(v4.to_ipv6_mapped()));
        let card = all.mac([0x02, 0, 0xc0, 0xa8, 0x32, 0x0b]);
        let turned = all.ip("fe80::c0ff:fea8:320b".parse().unwrap());
        let IpAddr::V6(turned) = turned else { panic!("IPv6 stays IPv6") };
        let octets = turned.octets();
        let inside = [&[octets[8] ^ 2], &octets[9..11], &octets[13..]].concat();
        assert_eq!((inside.as_slice(), &octets[11..13]), (&card[..], &[0xff, 0xfe][..]));
        let IpAddr::V6(group) = all.ip("ff02::1:ffa8:320b".parse().unwrap()) else {
            panic!("IPv6 stays IPv6")
        };
        assert_eq!(group.octets()[13..], all.mac([0x33, 0x33, 0xff, 0xa8, 0x32, 0x0b])[3..]);
        assert_ne!(group.octets()[13..], [0xa8, 0x32, 0x0b]);
    }

    #[test]
    fn the_ends_of_a_subnet_stay_its_ends() {
        let mut all = some();
        all.keep_ends("192.168.48.0/22".parse().unwrap());
        let net: IpNet = "192.168.48.0/22".parse().unwrap();
        let turned = all.net(net);
        assert_eq!(all.ip("192.168.48.0".parse().unwrap()), turned.network());
        assert_eq!(all.ip("192.168.51.255".parse().unwrap()), turned.broadcast());
        assert!(turned.contains(&all.ip("192.168.50.11".parse().unwrap())));
    }

    #[test]
    fn cards() {
        let mut all = some();
        for mac in [[0; 6], [0xff; 6], [0xee; 6], [0x01, 0, 0x5e, 0, 0, 1], [0x33, 0x33, 0, 0, 0, 1]] {
            assert_eq!(all.mac(mac), mac);
        }
        let turned = all.mac([0, 0x50, 0x56, 1, 2, 3]);
        assert_eq!(turned[0] & 3, 2, "of no maker, for one card");
        all.derive([0x66, 1, 2, 3, 4, 5], [0x66, 9, 9, 9, 9, 9]);
        assert_eq!(all.mac([0x66, 1, 2, 3, 4, 5]), [0x66, 9, 9, 9, 9, 9]);
    }

    proptest! {
        #[test]
        fn shared_bits_stay_shared(a: u128, b: u128, keep in 0_u8..=128) {
            // Random pairs share next to nothing: `b` gets the first bits of `a`.
            let b = a & mask(keep) | b & !mask(keep);
            let mut all = some();
            let turn = |all: &mut Addresses, bits: u128| u128::from_be_bytes(match all.ip(IpAddr::from(bits.to_be_bytes())) {
                IpAddr::V6(v6) => v6.octets(),
                IpAddr::V4(_) => [0; 16],
            });
            let own = |bits: u128| bits >> 120 != 0 && bits >> 118 != 0x3fa && bits >> 120 != 0xff && !holds_v4(&bits.to_be_bytes());
            if own(a) && own(b) {
                proptest::prop_assert_eq!(shared(turn(&mut all, a), turn(&mut all, b)), shared(a, b));
            }
            let (a, b) = (left(IpAddr::V4(Ipv4Addr::from((a >> 96) as u32))), left(IpAddr::V4(Ipv4Addr::from((b >> 96) as u32))));
            let turn = |all: &mut Addresses, bits: u128| left(all.ip(IpAddr::V4(Ipv4Addr::from((bits >> 96) as u32))));
            let (x, y) = (turn(&mut all, a), turn(&mut all, b));
            proptest::prop_assert_eq!(shared(x, y), shared(a, b));
        }

        #[test]
        fn a_prefix_contains_what_it_contained(address: u32, length in 0_u8..=32, other in any::<u32>()) {
            let mut all = some();
            let net = Ipv4Net::new(Ipv4Addr::from(address), length).unwrap().trunc();
            let turned = all.net(IpNet::V4(net));
            for address in [address, other] {
                let address = Ipv4Addr::from(address);
                let after = all.ip(IpAddr::V4(address));
                proptest::prop_assert_eq!(net.contains(&address), turned.contains(&after));
            }
        }
    }
}
