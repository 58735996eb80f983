//! Words of texts, one by one. In: a word as a program printed it, and what is known of its place. Out: the word, if it says nothing
//! of the site; another address, another name, the same for the same; or `word-7`, for one that nobody knows.

use std::net::IpAddr;

use ipnet::IpNet;

use super::Redactor;
use super::key::{BASE64, Purpose};
use super::names::Class;
use super::vocabulary::{is_rule_word, is_sentence_word};

impl Redactor {
    /// A word of rules, sets or connections.
    pub(super) fn word(&mut self, word: &str) -> String {
        if word.is_empty() || is_rule_word(word) {
            return word.to_owned();
        }
        // Before numbers are told: an address of version 6 may hold nothing but digits.
        if let Some(turned) = self.address(word) {
            return turned;
        }
        if is_number(word) {
            return word.to_owned();
        }
        if let Some(hash) = word.strip_prefix("cali:").filter(|hash| is_hash(hash)) {
            return format!("cali:{}", self.hashed(hash));
        }
        if word.starts_with("cali40") || word.starts_with("cali60") {
            return self.set(word);
        }
        if self.names.is_interface(word) {
            return self.names.interface(word);
        }
        if is_chain(word) {
            return self.chain(word);
        }
        for separator in [',', '='] {
            if word.contains(separator) {
                let parts: Vec<String> = word.split(separator).map(|part| self.word(part)).collect();
                return parts.join(&separator.to_string());
            }
        }
        // Members of sets: `tcp:80`.
        if let Some((protocol, port)) =
            word.split_once(':').filter(|(one, other)| is_rule_word(one) && is_number(other))
        {
            return format!("{protocol}:{port}");
        }
        self.name(word)
    }

    /// A name of which the place does not say what it is the name of.
    pub(super) fn name(&mut self, word: &str) -> String {
        if let Some((namespace, name)) = word.split_once('/') {
            let (name, port) = match name.split_once(':') {
                Some((name, port)) => (name, Some(port)),
                None => (name, None),
            };
            if let Some(class) = self.names.class_within(namespace, name) {
                return self.qualified(class, namespace, name, port);
            }
        }
        match self.names.known(word) {
            Some(known) => known.to_owned(),
            None => self.names.of(Class::Word, word),
        }
    }

    fn qualified(&mut self, class: Class, namespace: &str, name: &str, port: Option<&str>) -> String {
        let new = match class {
            Class::Policy => self.names.policy(Some(namespace), name),
            _ => self.names.within(class, namespace, name),
        };
        let port = port.map(|port| format!(":{}", self.port(port))).unwrap_or_default();
        format!("{}/{new}{port}", self.names.namespace(namespace))
    }

    /// A port's name, or its number.
    pub(super) fn port(&mut self, port: &str) -> String {
        if is_number(port) { port.to_owned() } else { self.names.of(Class::Port, port) }
    }

    /// A comment on a rule: Calico's and kube-proxy's sentences with other names in them. What others wrote does not come through.
    pub(super) fn comment(&mut self, comment: &str) -> String {
        let (mut hashes, mut comment) = (String::new(), comment);
        while let Some((hash, rest)) = comment.strip_prefix("cali:").and_then(|rest| rest.split_once(';')) {
            let own = rest.trim_start();
            hashes.push_str(&self.word(&format!("cali:{hash}")));
            hashes.push(';');
            hashes.push_str(&rest[..rest.len() - own.len()]);
            comment = own;
        }
        hashes + &self.remark(comment)
    }

    /// A comment without Calico's hash.
    fn remark(&mut self, comment: &str) -> String {
        if FIXED.contains(&comment) {
            return comment.to_owned();
        }
        // A tier's name may hold dots.
        if let Some((tier, rest)) =
            comment.strip_prefix("End of tier ").and_then(|rest| rest.rsplit_once(". "))
            && FIXED.contains(&rest)
        {
            return format!("End of tier {}. {rest}", self.names.tier(tier));
        }
        self.sentence(comment)
    }

    /// A sentence: of a comment, a warning, a reason.
    pub(super) fn sentence(&mut self, sentence: &str) -> String {
        let mut before = "";
        let mut words = Vec::new();
        for word in sentence.split(' ') {
            words.push(self.of_sentence(before, word));
            before = word;
        }
        words.join(" ")
    }

    /// A word of a sentence, after the word `before`.
    fn of_sentence(&mut self, before: &str, word: &str) -> String {
        let bare = word.trim_start_matches(OPENING).trim_end_matches(CLOSING);
        let Some(at) = word.find(bare).filter(|_| !bare.is_empty()) else {
            let signs = word.chars().all(|c| c.is_ascii_punctuation() || c == '…');
            return if signs { word.to_owned() } else { self.names.of(Class::Word, word) };
        };
        // The colons at the end of `2001:470::` are part of it.
        let end = at + bare.len() + if word[at + bare.len()..].starts_with("::") { 2 } else { 0 };
        let (opening, bare, closing) = (&word[..at], &word[at..end], &word[end..]);
        let within = |this: &mut Self, class: Class| {
            let (namespace, name) = bare.split_once('/')?;
            let (name, port) = name.split_once(':').map_or((name, None), |(name, port)| (name, Some(port)));
            let fits = !namespace.is_empty() && !name.is_empty();
            fits.then(|| this.qualified(class, namespace, name, port))
        };
        let turned = match before {
            "Policy"
            | "KubernetesNetworkPolicy"
            | "NetworkPolicy"
            | "GlobalNetworkPolicy"
            | "KubernetesClusterNetworkPolicy" => {
                within(self, Class::Policy).unwrap_or_else(|| self.names.policy(None, bare))
            }
            "Profile" => self.names.profile(bare),
            "tier" => self.names.tier(bare),
            "Service" | "service" if bare.contains('/') => {
                within(self, Class::Service).unwrap_or_else(|| self.name(bare))
            }
            _ if is_sentence_word(bare) && !self.names.is_own(bare) || KINDS.contains(&bare) => {
                bare.to_owned()
            }
            _ if bare.contains(':') && bare.contains('/') && self.address(bare).is_none() => {
                within(self, Class::Service).unwrap_or_else(|| self.name(bare))
            }
            _ if bare.strip_prefix('v').is_some_and(is_number) => bare.to_owned(),
            _ => self.word(bare),
        };
        format!("{opening}{turned}{closing}")
    }

    /// Addresses in all the ways in which they are written; none when it is not one.
    pub(super) fn address(&mut self, word: &str) -> Option<String> {
        if let Ok(address) = word.parse::<IpAddr>() {
            return Some(self.addresses.ip(address).to_string());
        }
        if let Ok(net) = word.parse::<IpNet>() {
            return Some(self.addresses.net(net).to_string());
        }
        if let Some(mac) = mac(word) {
            return Some(mac_text(self.addresses.mac(mac)));
        }
        if let Some(inside) = word.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            let (inside, rest) = inside;
            let address = self.address(inside)?;
            return (rest.is_empty() || is_number(rest)).then(|| format!("[{address}]{rest}"));
        }
        if let Some((address, mask)) = word.split_once('/')
            && let (Ok(address), Ok(mask)) = (address.parse::<IpAddr>(), mask.parse::<IpAddr>())
        {
            // A mask of bits that do not lie together holds for no prefix any more.
            let net = ipnet::ip_mask_to_prefix(mask).ok().and_then(|length| IpNet::new(address, length).ok());
            let turned = net.map(|net| self.addresses.net(net).addr());
            return Some(format!("{}/{mask}", turned.unwrap_or_else(|| self.addresses.ip(address))));
        }
        for separator in ['-', ':'] {
            let Some((first, last)) = word.rsplit_once(separator) else { continue };
            let Ok(address) = first.parse::<IpAddr>() else { continue };
            if let Ok(last) = last.parse::<IpAddr>() {
                let (first, last) = self.range(address, last);
                return Some(format!("{first}{separator}{last}"));
            }
            if is_number(last) {
                return Some(format!("{}{separator}{last}", self.addresses.ip(address)));
            }
        }
        None
    }

    /// From one address to another: the smallest prefix that holds both. That is more than there was, unless it was a prefix.
    pub(super) fn range(&mut self, first: IpAddr, last: IpAddr) -> (IpAddr, IpAddr) {
        let shared = match (first, last) {
            (IpAddr::V4(a), IpAddr::V4(b)) => (u32::from(a) ^ u32::from(b)).leading_zeros(),
            (IpAddr::V6(a), IpAddr::V6(b)) => (u128::from(a) ^ u128::from(b)).leading_zeros(),
            _ => return (self.addresses.ip(first), self.addresses.ip(last)),
        };
        let Some(net) = u8::try_from(shared).ok().and_then(|shared| IpNet::new(first, shared).ok()) else {
            return (first, last);
        };
        let net = net.trunc();
        if (net.network(), net.broadcast()) != (first, last) {
            self.note("ranges of addresses that are no prefix were widened to one");
        }
        let turned = self.addresses.net(net);
        (turned.network(), turned.broadcast())
    }

    /// Another hash for a hash of names, of the same length.
    pub(super) fn hashed(&self, hash: &str) -> String {
        self.key.word(Purpose::Hashed, hash, hash.len(), BASE64)
    }
}

/// Digits, hexadecimal ones behind `0x`, and the signs that stand between them: numbers, ranges, times. Never an address, nor one
/// with something behind it.
pub(super) fn is_number(word: &str) -> bool {
    let digits = |part: &str| match part.strip_prefix("0x") {
        Some(hex) => !hex.is_empty() && hex.chars().all(|c| c.is_ascii_hexdigit()),
        None => part.chars().all(|c| c.is_ascii_digit()),
    };
    let unit = word.strip_suffix(['s', '%', 'b']).unwrap_or(word);
    unit.starts_with(|c: char| c.is_ascii_digit() || matches!(c, ':' | '-'))
        && unit.matches('-').count() <= 1
        && unit
            .split([':', ',', '/', '-'])
            .all(|part| part.split('.').count() <= 3 && part.split('.').all(digits))
        && unit.split([',', '/', '-']).all(|part| part.matches(':').count() <= 1 || is_time(part))
        && word.parse::<IpAddr>().is_err()
        && mac(word).is_none()
}

/// `12:34:56`. No address has three parts.
fn is_time(word: &str) -> bool {
    let is_part = |part: &str| (1..=2).contains(&part.len()) && part.chars().all(|c| c.is_ascii_digit());
    word.split(':').count() == 3 && word.split(':').all(is_part)
}

fn is_hash(text: &str) -> bool {
    text.len() == 16 && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
}

fn is_chain(word: &str) -> bool {
    word.starts_with("KUBE-") || super::chains::plain(word).1.starts_with("cali-")
}

/// `aa:bb:cc:dd:ee:ff`.
pub(super) fn mac(word: &str) -> Option<[u8; 6]> {
    let mut mac = [0; 6];
    let mut parts = word.split(':');
    for byte in &mut mac {
        *byte =
            parts.next().filter(|part| part.len() == 2).and_then(|part| u8::from_str_radix(part, 16).ok())?;
    }
    parts.next().is_none().then_some(mac)
}

pub(super) fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

const OPENING: &[char] = &['(', '"', '\'', '`', '['];
const CLOSING: &[char] = &['.', ',', ';', ':', ')', '"', '\'', '`', '?', '!'];

/// Kinds of objects and of policies, as sentences name them.
const KINDS: &[&str] = &[
    "Policy",
    "KubernetesNetworkPolicy",
    "NetworkPolicy",
    "GlobalNetworkPolicy",
    "KubernetesClusterNetworkPolicy",
    "Profile",
    "Service",
    "Pod",
    "Node",
    "EndpointSlice",
    "IPPool",
    "FelixConfiguration",
    "IPAMConfig",
    "IPAMBlock",
    "BlockAffinity",
    "IPAMHandle",
    "IPReservation",
    "IPAMConfiguration",
];

/// What Calico and kube-proxy write, whole: a pod may be called by one of the words.
const FIXED: &[&str] = &[
    "Drop if no policies passed packet",
    "Reject if no policies passed packet",
    "Drop if no profiles matched",
    "Reject if no profiles matched",
    "Unknown interface",
    "Unknown endpoint",
    "Drop IPv4 VXLAN packets from non-allowed hosts",
    "Drop IPv6 VXLAN packets from non-allowed hosts",
    "Reject IPv4 VXLAN packets from non-allowed hosts",
    "Reject IPv6 VXLAN packets from non-allowed hosts",
    "Drop IPv4 VXLAN packets from non-whitelisted hosts",
    "Drop IPv6 VXLAN packets from non-whitelisted hosts",
    "Drop VXLAN packets from non-whitelisted hosts",
    "Drop IPIP packets from non-Calico hosts",
    "Reject IPIP packets from non-Calico hosts",
    "Drop VXLAN encapped packets originating in pods",
    "Drop VXLAN encapped packets originating in workloads",
    "Drop IPinIP encapped packets originating in pods",
    "Drop IPinIP encapped packets originating in workloads",
    "Configured DefaultEndpointToHostAction",
    "Endpoint admin disabled",
    "Return if policy accepted",
    "Return if profile accepted",
    "Policy explicitly accepted packet.",
    "Host endpoint policy accepted packet.",
    "Allow IPv4 VXLAN packets from allowed hosts",
    "Allow IPv6 VXLAN packets from allowed hosts",
    "Allow IPv4 VXLAN packets to other allowed hosts",
    "Allow IPv6 VXLAN packets to other allowed hosts",
    "Drop packets over ingress packet rate limit",
    "Drop packets over egress packet rate limit",
    "Reject connections over ingress connection limit",
    "Reject connections over egress connection limit",
    "kubernetes service portals",
    "kubernetes forwarding rules",
    "kubernetes forwarding conntrack rule",
    "kubernetes postrouting rules",
    "kubernetes service traffic requiring SNAT",
    "kubernetes load balancer firewall",
    "kubernetes externally-visible service portals",
    "kubernetes health check service ports",
];
