//! Secrets never enter a case: they are planted wherever one may be had, and looked for in every file and in the archive.

#![expect(clippy::disallowed_methods, reason = "the program is run as its users run it")]

use std::io::Read;
use std::path::Path;
use std::process::Command;

use trace_drop::evidence::cluster::Cluster;

/// What every planted secret holds.
const PLANTED: &str = "planted";

/// Objects as kubectl prints them, with something planted in each place where people keep secrets.
fn objects(node: &str) -> String {
    format!(
        "
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Node
  metadata:
    name: {node}
    labels: {{owner: planted-label}}
    annotations:
      kubectl.kubernetes.io/last-applied-configuration: '{{\"token\": \"planted-in-last-applied\"}}'
      bootstrap.example/token: planted-annotation
      projectcalico.org/IPv4Address: 192.0.2.1/24
  spec: {{providerID: planted-provider, taints: [{{key: planted-taint, effect: NoSchedule}}]}}
  status: {{addresses: [{{type: InternalIP, address: 192.0.2.1}}, {{type: Hostname, address: planted-host}}]}}
- apiVersion: v1
  kind: Node
  metadata: {{name: worker-2}}
  status: {{addresses: [{{type: InternalIP, address: 192.0.2.2}}]}}
- apiVersion: v1
  kind: Pod
  metadata:
    name: web
    namespace: shop
    labels: {{app: web, token: planted-pod-label, pod-template-hash: abc}}
    annotations: {{kubectl.kubernetes.io/last-applied-configuration: planted, vault.example/secret: planted-vault}}
  spec:
    nodeName: {node}
    imagePullSecrets: [{{name: planted-pull-secret}}]
    initContainers: [{{name: init, image: planted-image, command: [sh, -c, 'login planted-in-command']}}]
    containers:
    - name: web
      image: registry.example/planted-image
      args: ['--password=planted-arg']
      env: [{{name: PASSWORD, value: planted-env}}, {{name: OTHER, valueFrom: {{secretKeyRef: {{name: planted-ref, key: x}}}}}}]
      livenessProbe: {{httpGet: {{path: /, httpHeaders: [{{name: Authorization, value: Bearer planted-header}}]}}}}
    volumes: [{{name: x, secret: {{secretName: planted-volume}}}}]
  status: {{phase: Running, podIPs: [{{ip: 192.0.2.77}}], message: planted-message}}
- apiVersion: v1
  kind: Service
  metadata: {{name: web, namespace: shop, annotations: {{lb.example/key: planted-service}}}}
  spec: {{clusterIPs: [10.96.0.1], ports: [{{port: 80}}], selector: {{app: planted-selector}}, externalName: planted.example}}
- apiVersion: networking.k8s.io/v1
  kind: NetworkPolicy
  metadata: {{name: deny, namespace: shop, annotations: {{note: planted-policy}}}}
  spec: {{podSelector: {{matchLabels: {{x: planted-match}}}}}}
- apiVersion: projectcalico.org/v3
  kind: FelixConfiguration
  metadata: {{name: default, annotations: {{x: planted-felix}}}}
  spec: {{vxlanVNI: 4096, prometheusMetricsKeyFile: planted-key}}
- apiVersion: projectcalico.org/v3
  kind: IPPool
  metadata: {{name: pool, annotations: {{x: planted-pool}}}}
  spec: {{cidr: 10.244.0.0/16, vxlanMode: Always}}
- {{apiVersion: v1, kind: Secret, metadata: {{name: planted-secret, namespace: shop}}, data: {{p: cGxhbnRlZA==}}, stringData: {{p: planted}}}}
- {{apiVersion: v1, kind: ConfigMap, metadata: {{name: planted-map, namespace: shop}}, data: {{kubeconfig: 'token: planted-map'}}}}
"
    )
}

#[test]
fn of_the_objects_only_what_a_trace_needs_is_kept() {
    let yaml = objects("worker-1");
    let value: serde_json::Value = serde_yaml_ng::from_str(&yaml).expect("YAML");
    for text in [yaml, value.to_string()] {
        assert!(text.matches(PLANTED).count() > 25);
        let (cluster, warnings) = Cluster::parse(&text).expect("objects");
        assert_eq!((cluster.pods.len(), cluster.nodes.len(), cluster.services.len()), (1, 2, 1));
        let json = cluster.to_json();
        assert!(!json.contains(PLANTED) && !json.contains("cGxhbnRlZA"), "{json}");
        assert!(!warnings.join(" ").contains(PLANTED), "{warnings:?}");
        assert_eq!(cluster.pods[0].labels.keys().collect::<Vec<_>>(), ["pod-template-hash"]);
    }
}

/// A case of this host's state, and of a node that a command with a password in it does not reach.
#[test]
#[ignore = "needs root"]
fn nothing_of_environment_command_and_kubeconfig_is_in_a_case() {
    let scratch = tempfile::tempdir().expect("a folder");
    let at = |name: &str| scratch.path().join(name);
    std::fs::write(at("cluster.yaml"), objects("worker-1")).expect("a file");
    std::fs::write(
        at("kubeconfig"),
        "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
         contexts: [{name: c, context: {cluster: c, user: u, namespace: shop}}]\n\
         clusters: [{name: c, cluster: {server: 'https://127.0.0.1:1', certificate-authority-data: cGxhbnRlZA==}}]\n\
         users: [{name: u, user: {token: planted-kube-token, password: planted-kube-password, username: x}}]\n",
    )
    .expect("a file");
    for (name, as_folder) in [("case", true), ("case.tgz", false)] {
        let reach = "env PASSWORD=planted-in-reach sh -c '[ {node} = worker-1 ] && exec \"$@\"; exit 7' planted-argument";
        let done = Command::new(env!("CARGO_BIN_EXE_trace-drop"))
            .args(["node", "diags", "--reach", reach, "--cluster"])
            .arg(at("cluster.yaml"))
            .arg("--save")
            .arg(at(name))
            .env("KUBECONFIG", at("kubeconfig"))
            .env("AWS_SECRET_ACCESS_KEY", "planted-in-environment")
            .env("BEARER_TOKEN", "planted-bearer")
            .output()
            .expect("the program runs");
        let said = String::from_utf8_lossy(&done.stderr);
        assert_eq!(done.status.code(), Some(0), "{said}");
        assert!(
            said.contains("worker-2") && !said.contains(PLANTED),
            "the node that was not reached is told: {said}"
        );
        let mut bytes = Vec::new();
        if as_folder {
            all_bytes(&at(name), &mut bytes);
        } else {
            let packed = std::fs::File::open(at(name)).expect("an archive");
            flate2::read::MultiGzDecoder::new(packed).read_to_end(&mut bytes).expect("an archive");
        }
        let text = String::from_utf8_lossy(&bytes);
        assert!(text.contains("worker-2") && text.contains("sysctls"), "the case holds what was read");
        for secret in [PLANTED, "cGxhbnRlZA", "PASSWORD"] {
            let at = text
                .find(secret)
                .map(|at| text[at.saturating_sub(200)..].chars().take(400).collect::<String>());
            assert_eq!(at, None, "{secret} in {name}");
        }
    }
}

fn all_bytes(folder: &Path, bytes: &mut Vec<u8>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        bytes.extend_from_slice(path.to_string_lossy().as_bytes());
        if path.is_dir() {
            all_bytes(&path, bytes);
        } else {
            bytes.extend(std::fs::read(&path).expect("a file"));
        }
    }
}
