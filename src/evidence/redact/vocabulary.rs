//! The words that say nothing of a site: those of the programs whose texts a case holds, and of our own sentences. A word that is
//! not here does not come through.

use std::sync::LazyLock;

use rustc_hash::FxHashSet;

/// Whether a word belongs to rules, sets and connections as programs print them.
pub(super) fn is_rule_word(word: &str) -> bool {
    RULE_WORDS.contains(word)
}

/// Whether a word is an option of a rule: a letter, or one of the long ones.
pub(super) fn is_option(word: &str) -> bool {
    match (word.strip_prefix("--"), word.strip_prefix('-')) {
        (Some(long), _) => LONG_OPTIONS.contains(long),
        (None, Some(short)) => short.len() == 1 && short.starts_with(|c: char| c.is_ascii_alphabetic()),
        (None, None) => false,
    }
}

/// Whether a word belongs to a sentence of Calico's, kube-proxy's or ours.
pub(super) fn is_sentence_word(word: &str) -> bool {
    SENTENCE_WORDS.contains(word) || SENTENCE_WORDS.contains(word.to_ascii_lowercase().as_str())
}

/// Whether a name is made of parts that Calico and kube-proxy use on every node.
pub(super) fn is_static_name(name: &str) -> bool {
    name.split(['-', '_']).all(|part| part.is_empty() || STATIC_PARTS.contains(part))
}

static RULE_WORDS: LazyLock<FxHashSet<&'static str>> = LazyLock::new(|| RULES.split_whitespace().collect());
static LONG_OPTIONS: LazyLock<FxHashSet<&'static str>> =
    LazyLock::new(|| OPTIONS.split_whitespace().collect());
static SENTENCE_WORDS: LazyLock<FxHashSet<&'static str>> =
    LazyLock::new(|| SENTENCES.split_whitespace().collect());
static STATIC_PARTS: LazyLock<FxHashSet<&'static str>> = LazyLock::new(|| PARTS.split_whitespace().collect());

/// iptables-extensions(8), libnftables-json(5), ipset(8), conntrack(8).
const RULES: &str = "
    * ! != == < > <= >= . -> & | ^ << >> = ( ) { }
    filter mangle nat raw security calico kube-proxy firewalld
    PREROUTING INPUT FORWARD OUTPUT POSTROUTING COMMIT prerouting input forward output postrouting ingress egress
    ACCEPT DROP REJECT RETURN QUEUE LOG NFLOG ULOG TRACE MARK CONNMARK SECMARK CONNSECMARK DNAT SNAT MASQUERADE REDIRECT NETMAP
    NOTRACK CT TCPMSS TCPOPTSTRIP TTL HL DSCP TOS TPROXY SYNPROXY AUDIT CHECKSUM CLASSIFY CLUSTERIP ECN SET HMARK IDLETIMER
    LED NFQUEUE RATEEST TEE DNPT SNPT
    accept drop reject return continue jump goto queue log masquerade redirect snat dnat notrack dup fwd tproxy synproxy
    all any ip ip6 ip4 ipv4 ipv6 tcp udp udplite icmp icmp6 icmpv6 ipv6-icmp sctp dccp esp ah gre ipip ipencap ospf pim vrrp
    igmp mptcp ipv6-auth ipv6-crypt ipv6-opts ipv6-route ipv6-frag ipv6-nonxt l2tp mh arp inet bridge netdev th ether vlan
    comment conntrack connmark connbytes connlimit connlabel multiport set state mark addrtype rpfilter physdev limit hashlimit
    statistic recent length mac iprange owner pkttype policy dscp tos ttl hl ecn tcpmss time u32 string socket bpf cgroup
    cluster cpu devgroup dst eui64 frag hbh helper ipv6header ipvs nfacct osf quota rateest realm rt ah esp
    src dst srcip dstip srcport dstport src-dst both
    LOCAL UNICAST BROADCAST MULTICAST ANYCAST UNSPEC BLACKHOLE UNREACHABLE PROHIBIT THROW NAT XRESOLVE
    local unicast broadcast multicast anycast unspec blackhole unreachable prohibit throw
    INVALID NEW ESTABLISHED RELATED UNTRACKED DNAT SNAT NONE EXPECTED SEEN_REPLY ASSURED CONFIRMED ORIGINAL REPLY
    invalid new established related untracked original reply expected seen-reply assured confirmed snat dnat dying
    FIN SYN RST PSH ACK URG ECE CWR ALL fin syn rst psh ack urg ecn cwr
    tcp-reset icmp-net-unreachable icmp-host-unreachable icmp-port-unreachable icmp-proto-unreachable icmp-net-prohibited
    icmp-host-prohibited icmp-admin-prohibited icmp6-no-route icmp6-adm-prohibited icmp6-addr-unreachable
    icmp6-port-unreachable icmp6-policy-fail icmp6-reject-route net-unreachable host-unreachable prot-unreachable
    port-unreachable net-prohibited host-prohibited admin-prohibited no-route addr-unreachable policy-fail reject-route icmpx
    echo-request echo-reply destination-unreachable source-quench redirect time-exceeded parameter-problem timestamp-request
    timestamp-reply info-request info-reply address-mask-request address-mask-reply router-advertisement router-solicitation
    packet-too-big nd-router-solicit nd-router-advert nd-neighbor-solicit nd-neighbor-advert nd-redirect mld-listener-query
    mld-listener-report mld-listener-done mld-listener-reduction mld2-listener-report neighbour-solicitation
    neighbour-advertisement neighbor-solicitation neighbor-advertisement
    random nth bm kmp soft medium hard prot none dest route frag auth hop proto strict tunnel transport in out fwd
    sec second minute min hour day week seconds kbytes bytes mbytes packets srcip dstip
    emerg alert crit err error warn warning notice info debug audit
    create add inet inet6 family hashsize maxelem netmask markmask bucketsize initval timeout counters forceadd skbinfo nomatch
    range size hash:ip hash:net hash:mac hash:ip,port hash:net,port hash:net,net hash:net,iface hash:ip,mark hash:ip,mac
    hash:ip,port,ip hash:ip,port,net hash:net,port,net bitmap:ip bitmap:port bitmap:ip,mac list:set
    SYN_SENT SYN_SENT2 SYN_RECV FIN_WAIT CLOSE_WAIT LAST_ACK TIME_WAIT CLOSE LISTEN COOKIE_WAIT COOKIE_ECHOED SHUTDOWN_SENT
    SHUTDOWN_RECD SHUTDOWN_ACK_SENT HEARTBEAT_SENT [UNREPLIED] [ASSURED] [OFFLOAD] [HW_OFFLOAD] unknown icmpv6
    sport dport type code id mark zone use packets bytes secctx delta-time helper labels src dst status orig-zone reply-zone
    nftables metainfo version release_name json_schema_version 1
    table chain rule element map flowtable counter quota ct handle name hook prio dev policy type flags elem expr match op left
    right meta payload protocol field saddr daddr sport dport key iif oif iifname oifname iiftype oiftype l4proto nfproto
    length l3proto status direction dir concat prefix addr len target value data val rate burst per inv interval constant
    dynamic typeof ifname ipv4_addr ipv6_addr inet_proto inet_service ether_addr verdict mark fib result present exists
    missing tcp_flag offset base mod numgen inc fully-random persistent early nexthdr hoplimit ttl dscp fragment frag-off
    operation sequence checksum checkum csum window urgptr doff reserved reset network bits cgroup skuid skgid cpu time hour
    day iifgroup oifgroup ibrname obrname sdif sdifname rtclassid pkttype host to_host otherhost transport nh ll route bitmask
    seconds minutes tcp_reset tcp reset established filter dstnat srcnat out raw performance memory auto-merge timeout
    over until drop use vmap port xt meter jhash symhash netmap num flow dup secmark last osf elements type_flags nfproto
    wscale sack-perm maxseg timestamp comment objects
";

/// Options of rules, without their dashes: iptables(8), iptables-extensions(8), and what the extensions themselves name.
const OPTIONS: &str = "
    accept-local add-set ahlen ahres ahspi alarm algo and-mark and-tos append bytecode bytes-eq bytes-gt bytes-lt cgroup
    checksum-fill chunk-types clamp-mss-to-pmtu clus cluster-hash-seed cluster-local-node cluster-local-nodemask
    cluster-total-nodes clustermac cmd-owner comment compres connbytes connbytes-dir connbytes-mode connlimit-above
    connlimit-daddr connlimit-mask connlimit-saddr connlimit-upto contiguous cpu ctdir ctevents ctexpire ctmask ctorigdst
    ctorigdstport ctorigsrc ctorigsrcport ctproto ctrepldst ctrepldstport ctreplsrc ctreplsrcport ctstate ctstatus datestart
    datestop dccp-option dccp-types del-set destination destination-mac destination-port destination-ports dir dport dports
    dscp dscp-class dst dst-group dst-len dst-opts dst-pfx dst-range dst-type ecn ecn-ip-ect ecn-tcp-cwr ecn-tcp-ece
    ecn-tcp-remove espspi every expevents fragfirst fragid fraglast fraglen fragment fragmore fragres from gateway genre
    gid-owner goto h-length hash-init hashlimit hashlimit-above hashlimit-burst hashlimit-dstmask hashlimit-htable-expire
    hashlimit-htable-gcinterval hashlimit-htable-max hashlimit-htable-size hashlimit-mask hashlimit-mode hashlimit-name
    hashlimit-rate-interval hashlimit-rate-match hashlimit-src hashlimit-srcmask hashlimit-upto hashmode hbh-len hbh-opts
    header helper hex-string hitcount hl-dec hl-eq hl-gt hl-inc hl-lt hl-set hmark-dport hmark-dport-mask hmark-dst-prefix
    hmark-mod hmark-offset hmark-proto-mask hmark-rnd hmark-spi hmark-spi-mask hmark-sport hmark-sport-mask hmark-src-prefix
    hmark-tuple icase icmp-type icmp6-type icmpv6-type in-interface invert ipcompspi ipv4 ipv6 ipvs jump kerneltz label
    led-always-blink led-delay led-trigger-id left-shift-mark length limit limit-burst limit-iface-in limit-iface-out
    local-node localtz log log-ip-options log-level log-macdecode log-prefix log-tcp-options log-tcp-sequence log-uid loose
    mac-source map-mark map-prio map-queue map-set mark mask match match-set mh-type mode monthdays mss name new next nfacct-name
    nflog-group nflog-prefix nflog-range nflog-size nflog-threshold nfmask notrack nowildcard object-pinned oif on-ip
    on-port or-mark or-tos out-interface packet packets-eq packets-gt packets-lt path persistent physdev-in
    physdev-is-bridged physdev-is-in physdev-is-out physdev-out pid-owner pinned pkt-type pol policy ports probability proto
    protocol queue-balance queue-bypass queue-cpu-fanout queue-num quota random random-fully rateest rateest-bps
    rateest-bps1 rateest-bps2 rateest-delta rateest-eq rateest-ewma rateest-ewmalog rateest-gt rateest-interval rateest-lt
    rateest-name rateest-pps rateest-pps1 rateest-pps2 rateest1 rateest2 rcheck rdest realm reap reject-with remove reqid
    restore restore-mark restore-skmark return-nomatch right-shift-mark rsource rt-0-addrs rt-0-not-strict rt-0-res rt-len
    rt-segsleft rt-type rttl sack-perm save save-mark seconds selctx set set-class set-counters set-dscp set-dscp-class
    set-mark set-mss set-tos set-xmark sid-owner skbinfo socket-exists soft source source-port source-ports spi sport sports
    src src-group src-pfx src-range src-type srh-hdr-len-eq srh-hdr-len-gt srh-hdr-len-lt srh-last-entry-eq
    srh-last-entry-gt srh-last-entry-lt srh-lsid srh-next-hdr srh-nsid srh-psid srh-segs-left-eq srh-segs-left-gt
    srh-segs-left-lt srh-tag state strict string strip-options suppl-groups syn tcp-flags tcp-option timeout timestamp
    timestamps timestart timestop to to-destination to-port to-ports to-source tos total-nodes tproxy-mark trace transparent
    ttl ttl-dec ttl-eq ttl-gt ttl-inc ttl-lt ttl-set tunnel-dst tunnel-src type u32 uid-owner ulog-cprange ulog-nlgroup
    ulog-prefix ulog-qthreshold update update-counters update-subcounters utc vaddr validmark vdir vmethod vport vportctl
    vproto weekdays wscale xor-mark xor-tos zone zone-orig zone-reply
";

/// Words of `# Generated by …`, of comments that Calico and kube-proxy put on their rules, and of warnings and reasons of ours.
const SENTENCES: &str = "
    - -> # .. ... = : , ; ( ) +
    a about accept accepted account active add address addresses admin after again agent all allow allowed already also an and
    annotation another answer any api arrived as asked at attached balancer be because been before begin begins being between
    block blocked blocks bpf but by bytes calico can cannot capture captured captures capturing case changed chain check clock
    clocks closed cluster clusterip clusterips completed configured connection connections conntrack container containers could
    counted counters counts data defaultendpointtohostaction default delete deleted denied directory disabled do does done drop
    dropped down each egress either empty encapped end ended endpoint endpoints ends entered entries entry error etc event
    events every exist exit externalip failed failsafe fast fewer file files first for forwarding found frame frames from full
    generated given go gone had has have header held helper hold holds host hosts if in incompatible ingress input inside install
    installed instead interface interfaces invalid ip iptables ipinip ipip ips ipset ipv4 ipv6 is it its kernel kept kernels kind
    known kubelet kubernetes last later least left legacy less limit line lines link links list listed loadbalancer local log
    longer lookup lost made makes many mark marked masquerade masquerading matched match matches matching may mean means missing
    mode more most must name named names namespace namespaces nat need needs neighbour neighbours nf_tables nft no node nodeport
    nodeports nodes non-allowed non-calico non-whitelisted none nor not nothing number objects of off older on one ones only open
    operation option options or originating other others output over own packet packets part parts path permission permitted phase
    pid place pod pods point points policy policies port ports portals possible postrouting present present. privilege probe
    process profile profiles program programs proxy queue range rate re-marking read reached reading reads reason reject rejected
    replay reply requires requiring return reused right root route routes rule rules running said same save saved saves say says
    see seen send sent server service services set sets should snat so socket some source start state status still stop stopped
    such system table tables take taken than that the their them then there these they this those tier time times to too tool
    traced trace traffic tried tunnel type unknown unreachable unreadable until up use used valid value version vxlan warning was
    way went were what when where whether which while whole whitelisted whose will with within without word words workload
    workloads would write written wrong year you yourself zone drop. policy passed explicitly start into uid gid present present; note
    first: last: must; be before: loopback traversal node-local nodelocal skip hairpin fully-random
    mon tue wed thu fri sat sun jan feb mar apr may jun jul aug sep oct nov dec
    iptables-save ip6tables-save iptables-nft-save ip6tables-nft-save iptables-legacy-save ip6tables-legacy-save
    iptables-legacy ip6tables-legacy rtnetlink netlink ethtool ethtool's tracepoint deleted pending running succeeded
    tcp udp icmp sctp esp cidr cidrs proto conntrack: read: iptables: ipset: nft: os invalid. denied. packet. packets. seconds
";

/// Parts of names of chains and sets.
const PARTS: &str = "
    PREROUTING INPUT FORWARD OUTPUT POSTROUTING prerouting input forward output postrouting
    cali from to host endpoint hep wl dispatch failsafe in out cidr block fip dnat snat nat outgoing rpf skip set endpoint mark
    check bpf flow tracking untracked policy wireguard incoming qos dscp pnat apply log flowlogs raw mangle filter
    all vxlan net masq ipam pools hosts tunnel this dont dsts ips istio
    KUBE SERVICES EXTERNAL NODEPORTS NODE PORT LOAD BALANCER MARK MASQ DROP PROXY CANARY KUBELET FIREWALL FORWARD FILTER IN OUT
    LOOP BACK CLUSTER IP LOCAL TCP UDP SCTP SOURCE CIDR FW HEALTH CHECK LB INGRESS IPVS IPS 6
    masquerading services cluster firewall nodeports external reject drop accept endpoints service connection
    ips net
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_programs_and_no_others() {
        for word in ["ACCEPT", "tcp-reset", "hash:net", "ESTABLISHED", "ip", "daddr"] {
            assert!(is_rule_word(word), "{word}");
        }
        for word in ["ACME", "bob", "secret", "10.0.0.1", ""] {
            assert!(!is_rule_word(word) && !is_sentence_word(word), "{word}");
        }
        for word in ["-A", "-f", "--dport", "--clamp-mss-to-pmtu", "--srh-tag"] {
            assert!(is_option(word), "{word}");
        }
        for word in ["--acmemod", "-acme", "--", "-", "-4", "dport", ""] {
            assert!(!is_option(word), "{word}");
        }
        assert!(is_static_name("to-wl-dispatch") && is_static_name("KUBE-NODE-PORT-LOCAL-TCP"));
        assert!(!is_static_name("to-acme-dispatch"));
    }
}
