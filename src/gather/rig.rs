//! For tests as root: two nodes and two pods in network namespaces of their own, joined by VXLAN as Calico joins
//! them. Names begin with a prefix of this process and test; everything goes when the rig is dropped. Nothing
//! appears in the namespace that the test runs in.

use std::fs;
use std::net::IpAddr;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::evidence::Role;
use crate::evidence::case::{Aliases, Endpoint, NodeFacts, Only};
use crate::evidence::plan::{Find, Plan, PlannedPoint};
use crate::gather::agent::client::Reach;

/// Two nodes, two pods.
pub(crate) struct Rig {
    prefix: String,
}

/// Pod addresses; the first is on the first node.
pub(crate) const PODS: [&str; 2] = ["10.244.1.2", "10.244.2.2"];

static RIGS: AtomicU32 = AtomicU32::new(0);

impl Rig {
    pub(crate) fn two_nodes_vxlan() -> Self {
        let rig =
            Self { prefix: format!("td{}x{}", std::process::id(), RIGS.fetch_add(1, Ordering::Relaxed)) };
        for name in ["n1", "n2", "p1", "p2"] {
            Self::host(&format!("ip netns add {}", rig.ns(name)));
        }
        let (n1, n2) = (rig.ns("n1"), rig.ns("n2"));
        Self::host(&format!("ip link add name eth0 netns {n1} type veth peer name eth0 netns {n2}"));
        for (own, other) in [(1, 2), (2, 1)] {
            let node = format!("n{own}");
            let pod = format!("p{own}");
            let (node_ns, pod_ns) = (rig.ns(&node), rig.ns(&pod));
            Self::host(&format!(
                "ip link add name eth0 netns {pod_ns} type veth peer name cali{own} netns {node_ns}"
            ));
            rig.run(&node, &format!(
                "ip link set lo up; ip addr add 192.168.50.{own}/24 dev eth0; ip link set eth0 up; ip route add default via 192.168.50.254
                 echo 1 > /proc/sys/net/ipv4/ip_forward
                 ip link add vxlan.calico address 66:00:00:00:00:0{own} type vxlan id 4096 local 192.168.50.{own} dev eth0 dstport 4789 nolearning
                 ip addr add 10.244.{own}.0/32 dev vxlan.calico; ip link set vxlan.calico mtu 1450 up
                 ip neigh add 10.244.{other}.0 lladdr 66:00:00:00:00:0{other} dev vxlan.calico nud permanent
                 bridge fdb append 66:00:00:00:00:0{other} dev vxlan.calico dst 192.168.50.{other}
                 ip route add 10.244.{other}.0/26 via 10.244.{other}.0 dev vxlan.calico onlink
                 ip link set cali{own} address ee:ee:ee:ee:ee:ee up
                 echo 1 > /proc/sys/net/ipv4/conf/cali{own}/proxy_arp; echo 0 > /proc/sys/net/ipv4/neigh/cali{own}/proxy_delay
                 ip route add 10.244.{own}.2/32 dev cali{own} scope link"
            ));
            rig.run(
                &pod,
                &format!(
                    "ip link set lo up; ip link set eth0 mtu 1450 up; ip addr add 10.244.{own}.2/32 dev eth0
                 ip route add 169.254.1.1 dev eth0 scope link; ip route add default via 169.254.1.1 dev eth0"
                ),
            );
        }
        rig
    }

    /// Another pod beside the first one, 10.244.1.3 behind cali3.
    pub(crate) fn second_pod_on_first_node(&self) {
        let (node, pod) = (self.ns("n1"), self.ns("p3"));
        Self::host(&format!("ip netns add {pod}"));
        Self::host(&format!("ip link add name eth0 netns {pod} type veth peer name cali3 netns {node}"));
        self.run("n1", "ip link set cali3 up");
        self.run("p3", "ip link set eth0 up; ip addr add 10.244.1.3/32 dev eth0");
    }

    /// The full name of a namespace.
    pub(crate) fn ns(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// Runs shell lines in a namespace; they must succeed.
    pub(crate) fn run(&self, name: &str, lines: &str) -> Output {
        let done = self.command(name, lines).output().expect("a shell");
        assert!(done.status.success(), "{name}: {lines}\n{}", String::from_utf8_lossy(&done.stderr));
        done
    }

    /// Starts shell lines in a namespace.
    pub(crate) fn start(&self, name: &str, lines: &str) -> Child {
        self.command(name, lines).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("a shell")
    }

    #[expect(clippy::disallowed_methods, reason = "tests build their own networks")]
    fn command(&self, name: &str, lines: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.ns(name), "sh", "-ec", lines]).stdin(Stdio::null());
        command
    }

    #[expect(clippy::disallowed_methods, reason = "tests build their own networks")]
    fn host(line: &str) {
        let done = Command::new("sh").args(["-ec", line]).output().expect("a shell");
        assert!(done.status.success(), "{line}: {}", String::from_utf8_lossy(&done.stderr));
    }

    /// All eight points from the first pod to the second.
    pub(crate) fn plan(&self) -> Plan {
        let address = |text: &str| text.parse::<IpAddr>().expect("an address");
        let node = |own: usize| self.ns(&format!("n{own}"));
        let end = |own: usize| Endpoint {
            name: format!("default/p{own}"),
            address: address(PODS[own - 1]),
            node: Some(node(own)),
        };
        let nic = |own: usize| Find::Holding(address(&format!("192.168.50.{own}")));
        let tunnel = || Find::Name("vxlan.calico".to_owned());
        let veth = |own: usize| Find::Name(format!("cali{own}"));
        let pod =
            |own: usize| Find::InsidePod { veth: format!("cali{own}"), address: address(PODS[own - 1]) };
        let point = |own: usize, role, find| PlannedPoint { node: node(own), role, find };
        Plan {
            from: end(1),
            to: end(2),
            aliases: Aliases { from: vec![address("10.244.1.0")], to: vec![] },
            nodes: [1, 2]
                .map(|own| NodeFacts {
                    name: node(own),
                    addresses: vec![address(&format!("192.168.50.{own}"))],
                    on_path: true,
                })
                .into(),
            points: vec![
                point(1, Role::Pod, pod(1)),
                point(1, Role::Veth, veth(1)),
                point(1, Role::Tunnel, tunnel()),
                point(1, Role::Nic, nic(1)),
                point(2, Role::Nic, nic(2)),
                point(2, Role::Tunnel, tunnel()),
                point(2, Role::Veth, veth(2)),
                point(2, Role::Pod, pod(2)),
            ],
            encapsulated: true,
            vxlan_port: 4789,
            only: Only::default(),
            warnings: vec![],
        }
    }
}

impl Drop for Rig {
    #[expect(clippy::disallowed_methods, reason = "tests build their own networks")]
    fn drop(&mut self) {
        for name in ["p1", "p2", "p3", "n1", "n2"] {
            let _ = Command::new("ip").args(["netns", "del", &self.ns(name)]).output();
        }
    }
}

/// Reaches nodes that are network namespaces; the agent is this test program.
pub(crate) fn reach(template: &str) -> Reach {
    Reach { template: Some(template.to_owned()), pods: None, agent: agent() }
}

/// The command line by which this test program is an agent.
pub(crate) fn agent() -> Vec<String> {
    let program = std::env::current_exe().expect("the test program").display().to_string();
    let entry = "gather::agent::serve::tests::as_an_agent";
    [program.as_str(), "--exact", entry, "--ignored", "--nocapture", "--quiet"].map(str::to_owned).into()
}

/// Processes whose command line has all the words.
pub(crate) fn processes(words: &[&str]) -> Vec<u32> {
    let entries = fs::read_dir("/proc").expect("/proc");
    entries
        .flatten()
        .filter_map(|entry| {
            let id = entry.file_name().to_str()?.parse().ok()?;
            let line = fs::read(entry.path().join("cmdline")).ok()?;
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            words.iter().all(|word| line.contains(word)).then_some(id)
        })
        .collect()
}
