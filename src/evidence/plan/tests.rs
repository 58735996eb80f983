use super::*;
use crate::evidence::case::{Direction, StageKind as S};

const CLUSTER: &str = include_str!("../../../tests/data/cluster.yaml");

fn plan(from: &str, to: &str, family: Option<u8>) -> Result<Plan, PlanError> {
    let (cluster, warnings) = Cluster::parse(CLUSTER).unwrap();
    assert_eq!(warnings, Vec::<String>::new());
    let options =
        PlanOptions { namespace: "default".to_owned(), family, in_pod: true, only: Only::default() };
    Plan::make(&cluster, from, to, &options)
}

fn roles(plan: &Plan) -> Vec<(String, Role)> {
    plan.points.iter().map(|point| (point.node.clone(), point.role)).collect()
}

#[test]
fn two_nodes_have_eight_points() {
    let plan = plan("client", "default/server", None).unwrap();
    let on = |node: &str, role| (node.to_owned(), role);
    let order = [Role::Pod, Role::Veth, Role::Tunnel, Role::Nic];
    let expected: Vec<_> = order
        .iter()
        .map(|role| on("worker-1", *role))
        .chain(order.iter().rev().map(|role| on("worker-2", *role)))
        .collect();
    assert_eq!(roles(&plan), expected);
    assert_eq!(plan.aliases.to, ["10.96.0.10".parse::<IpAddr>().unwrap()]);
    let resolved: Vec<_> = (0..8).map(|n| Known::Read(format!("if{n}"))).collect();
    let case = plan.into_case(&resolved);
    let expected =
        [S::LeavePod, S::Forward, S::Encapsulate, S::Underlay, S::Decapsulate, S::Deliver, S::EnterPod];
    for path in &case.paths {
        assert_eq!(path.stages, expected, "{:?}", path.direction);
    }
    assert_eq!(case.points[0].id, "worker-1/pod:if0");
}

/// A node that Kubernetes knows by another address than Calico, whichever is the smaller number.
#[test]
fn a_node_is_reached_by_its_own_address_and_captured_at_calicos() {
    for internal in ["10.0.0.1", "203.0.113.1"] {
        let text = CLUSTER
            .replace("InternalIP, address: 192.168.50.11", &format!("InternalIP, address: {internal}"));
        let (cluster, _) = Cluster::parse(&text).unwrap();
        let internal: IpAddr = internal.parse().unwrap();
        let calico: IpAddr = "192.168.50.11".parse().unwrap();
        let options = PlanOptions { namespace: "default".to_owned(), ..PlanOptions::default() };
        let plan = |from: &str, family| {
            Plan::make(&cluster, from, "server", &PlanOptions { family, ..options.clone() }).unwrap()
        };
        let nic = |plan: &Plan| {
            let own = |point: &&PlannedPoint| point.node == "worker-1" && point.role == Role::Nic;
            plan.points.iter().find(own).unwrap().find.clone()
        };
        let of_pod = plan("client", None);
        assert_eq!(nic(&of_pod), Find::Holding(calico));
        assert_eq!(of_pod.nodes[0].addresses[0], internal, "{{address}} of --reach");
        assert!(of_pod.nodes[0].addresses.contains(&calico), "ends of tunnels are recognised by it");
        assert_eq!(nic(&plan("client", Some(6))), Find::Holding("fd00:50::11".parse().unwrap()));
        let of_node = plan("node/worker-1", None);
        assert_eq!(of_node.from.address, internal);
        assert_eq!(nic(&of_node), Find::Holding(calico));
    }
}

#[test]
fn missing_points_join_their_stages() {
    let plan = plan("client", "server", None).unwrap();
    let gone = || Known::Unreadable("gone".to_owned());
    let mut resolved: Vec<_> = (0..8).map(|n| Known::Read(format!("if{n}"))).collect();
    for index in [0, 2, 5, 7] {
        resolved[index] = gone();
    }
    let case = plan.into_case(&resolved);
    assert_eq!(case.paths[0].stages, [S::Forward, S::Underlay, S::Decapsulate]);
    assert_eq!(case.paths[1].direction, Direction::Reply);
    assert_eq!(case.paths[1].stages, [S::Forward, S::Underlay, S::Decapsulate]);
    assert_eq!(case.warnings.len(), 4);
}

#[test]
fn one_node_goes_from_veth_to_veth() {
    let plan = plan("client", "neighbour", None).unwrap();
    assert_eq!(
        plan.points.iter().map(|point| point.role).collect::<Vec<_>>(),
        [Role::Pod, Role::Veth, Role::Veth, Role::Pod]
    );
    let resolved: Vec<_> = (0..4).map(|n| Known::Read(format!("if{n}"))).collect();
    let case = plan.into_case(&resolved);
    for path in &case.paths {
        assert_eq!(path.stages, [S::LeavePod, S::Forward, S::EnterPod]);
    }
}

#[test]
fn six_uses_the_other_tunnel() {
    let plan = plan("client", "server", Some(6)).unwrap();
    assert!(plan.points.iter().any(|point| point.find == Find::Name("vxlan-v6.calico".to_owned())));
    assert!(plan.from.address.is_ipv6());
}

#[test]
fn services_and_strangers() {
    let service = plan("client", "svc/server-svc:80", None).unwrap();
    assert_eq!(service.to.name, "default/server");
    assert_eq!(service.warnings.len(), 1);
    let error = plan("client", "svc/server-svc:81", None).unwrap_err().to_string();
    assert!(error.starts_with("Service default/server-svc has no port 81; it has 80/TCP"), "{error}");
    let by_address = plan("client", "10.96.0.10", None).unwrap();
    assert_eq!((&by_address.to, &by_address.aliases), (&service.to, &service.aliases));
    assert_eq!(roles(&by_address), roles(&service));
    let outside = plan("client", "8.8.8.8", None).unwrap();
    assert_eq!(outside.points.last().unwrap().role, Role::Nic);
    assert!(!outside.encapsulated);
    let node = plan("client", "node/worker-2", None).unwrap();
    let roles: Vec<Role> = node.points.iter().map(|point| point.role).collect();
    assert_eq!(roles, [Role::Pod, Role::Veth, Role::Nic, Role::Nic]);
    assert!(!node.encapsulated, "a node's own address is in no pool");
    assert!(plan("node/worker-1", "server", None).unwrap().encapsulated);
}

/// The Service's port and the one behind it both stand for the traffic, by number as by name.
#[test]
fn a_services_port_narrows_the_trace() {
    let text = CLUSTER
        .replace(
            "ports: [{name: http, protocol: TCP, port: 80, targetPort: 8080}]",
            "ports: [{name: http, port: 80}, {name: dns, port: 53, protocol: UDP}, {name: dns-tcp, port: 53}]",
        )
        .replace(
            "ports: [{name: http, port: 8080}]",
            "ports: [{name: http, port: 8080}, {name: dns, port: 53}, {name: dns-tcp, port: 53}]",
        );
    let (cluster, _) = Cluster::parse(&text).unwrap();
    let only = |to: &str, only: Only| {
        let options = PlanOptions { namespace: "default".to_owned(), only, ..PlanOptions::default() };
        let plan = Plan::make(&cluster, "client", to, &options).unwrap();
        (plan.only.protocol, plan.only.port, plan.only.also)
    };
    let all = Only::default();
    for port in ["80", "http"] {
        assert_eq!(only(&format!("svc/server-svc:{port}"), all), (Some(6), Some(80), Some(8080)), "{port}");
    }
    assert_eq!(only("svc/server-svc", all), (None, None, None));
    assert_eq!(only("svc/server-svc:dns", all), (Some(17), Some(53), None));
    assert_eq!(only("svc/server-svc:53", all), (None, Some(53), None), "of both protocols");
    let udp = Only { protocol: Some(17), ..all };
    assert_eq!(only("svc/server-svc:53", udp), (Some(17), Some(53), None));
    // What is typed for itself goes first.
    let typed = Only { port: Some(9999), ..all };
    assert_eq!(only("svc/server-svc:http", typed), (None, Some(9999), None));
    let options = PlanOptions { namespace: "default".to_owned(), ..PlanOptions::default() };
    let pairs = Pairs::make(&cluster, ("client", "svc/server-svc:http"), &options, 9).unwrap();
    assert_eq!(pairs.plans[0].only.port, Some(80));
}

/// Pods that lack a port stand in a slice without it.
#[test]
fn an_endpoint_without_the_port_is_not_traced() {
    let other = "\n- {apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: a, namespace: default, labels: \
                 {kubernetes.io/service-name: server-svc}}, endpoints: [{addresses: [10.244.1.3]}], ports: [{name: other, port: 1}]}\n\
                 - apiVersion: discovery.k8s.io/v1\n";
    let text = CLUSTER.replacen("\n- apiVersion: discovery.k8s.io/v1\n", other, 1);
    let (cluster, warnings) = Cluster::parse(&text).unwrap();
    assert_eq!(warnings, Vec::<String>::new());
    let options = PlanOptions { namespace: "default".to_owned(), ..PlanOptions::default() };
    let to = |to: &str| Plan::make(&cluster, "client", to, &options).map(|plan| plan.to.name);
    assert_eq!(to("svc/server-svc").unwrap(), "default/neighbour");
    assert_eq!(to("svc/server-svc:http").unwrap(), "default/server");
    let (mut without, _) = Cluster::parse(&text).unwrap();
    without.slices.retain(|slice| slice.ports[0].1 == 1);
    let error = Plan::make(&without, "client", "svc/server-svc:http", &options).unwrap_err().to_string();
    assert!(error.starts_with("Service default/server-svc:http has no ready endpoint"), "{error}");
}

#[test]
fn ends_that_are_one_are_refused() {
    for (from, to) in
        [("client", "10.244.1.2"), ("node/worker-1", "192.168.50.11"), ("server", "svc/server-svc")]
    {
        let error = plan(from, to, None).unwrap_err();
        assert!(matches!(error, PlanError::OneEnd { .. }), "{from} to {to}: {error}");
    }
}

/// Before or after its pod.
#[test]
fn a_workload_endpoint_names_the_pods_interface() {
    let endpoint = "apiVersion: projectcalico.org/v3\nkind: WorkloadEndpointList\nitems:\n\
                    - {apiVersion: projectcalico.org/v3, kind: WorkloadEndpoint, metadata: {name: w, namespace: default}, \
                    spec: {orchestrator: k8s, node: worker-1, pod: client, interfaceName: eni0123456789a}}\n\
                    - {apiVersion: projectcalico.org/v3, kind: WorkloadEndpoint, metadata: {name: v, namespace: default}, \
                    spec: {orchestrator: k8s, node: worker-1, pod: nobody, interfaceName: eni1}}\n";
    for text in [format!("{endpoint}---\n{CLUSTER}"), format!("{CLUSTER}---\n{endpoint}")] {
        let (cluster, warnings) = Cluster::parse(&text).unwrap();
        assert_eq!((cluster.pods.len(), warnings.len()), (3, 0), "{warnings:?}");
        let options = PlanOptions { namespace: "default".to_owned(), ..PlanOptions::default() };
        let plan = Plan::make(&cluster, "client", "server", &options).unwrap();
        assert_eq!(plan.points[0].find, Find::Name("eni0123456789a".to_owned()));
        assert!(matches!(&plan.points.last().unwrap().find, Find::Name(name) if name.starts_with("cali")));
    }
}

#[test]
fn misspelt_names_get_the_nearest() {
    let error = plan("client", "servr", None).unwrap_err();
    assert_eq!(
        error.to_string(),
        "there is no pod default/servr in the cluster; did you mean default/server?"
    );
    assert!(plan("node/worker-9", "server", None).unwrap_err().to_string().contains("worker-1"));
}

#[test]
fn a_path_whose_end_was_not_captured_is_open() {
    let plan = plan("client", "server", None).unwrap();
    let open = |missing: &[usize]| {
        let resolved: Vec<_> = (0..8)
            .map(|n| {
                let gone = || Known::Unreadable("no such node".to_owned());
                if missing.contains(&n) { gone() } else { Known::Read(format!("if{n}")) }
            })
            .collect();
        let case = plan.clone().into_case(&resolved);
        [case.paths[0].open_end, case.paths[1].open_end]
    };
    assert_eq!(open(&[]), [false, false]);
    assert_eq!(open(&[0, 3, 7]), [false, false], "a veth is an end too");
    assert_eq!(open(&[6, 7]), [true, false]);
    assert_eq!(open(&[4, 5, 6, 7]), [true, false]);
    assert_eq!(open(&[0, 1]), [false, true]);
}
