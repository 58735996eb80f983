"""What `trace-drop rbac` prints is enough, and nothing more is needed; what is missing is told, verb by verb.

In: a bench, and users whose only rights are those that are applied here.
"""

import json
import time

from .bench import PING
from .endpoints import CLIENT, SERVER, arrived

GROUP = "/apis/rbac.authorization.k8s.io/v1"
ROLES = [f"{GROUP}/clusterroles/trace-drop", f"{GROUP}/clusterrolebindings/trace-drop",
         f"{GROUP}/namespaces/kube-system/roles/trace-drop-agents", f"{GROUP}/namespaces/kube-system/rolebindings/trace-drop-agents"]


def run(bench):
    user = str(bench.user("jane"))
    grant(bench, "jane")
    try:
        done = bench.trace(CLIENT, SERVER, *PING, KUBECONFIG=user)
        yield "a trace with the printed role alone", arrived(done, CLIENT, SERVER) or "; ".join(done.warnings)
        done = bench.trace(CLIENT, "svc/server-svc", "--probe", "tcp:80", "--probe-count", "3", KUBECONFIG=user)
        yield "to a Service with it", arrived(done, CLIENT, SERVER) or "; ".join(line for line in done.warnings if "denie" in line or "refuse" in line)
        for words in (["check", "--from", CLIENT, "--to", SERVER], ["ipam", "show"], ["ipam", "check"], ["cleanup"]):
            image = ["--agent-image", "localhost/trace-drop-agent:latest"] if words[0] == "check" else []
            done = bench.run(*words, *image, KUBECONFIG=user)
            yield f"{' '.join(words[:2])} with it", "" if done.code == 0 and not done.warnings else str(done)
        yield "a token of a service account", token(bench)
        grant(bench, "jane")
        yield from less(bench, user)
        yield "no agent pods: nothing is made", no_pods(bench, user)
    finally:
        for path in ROLES:
            try:
                bench.api.ask("DELETE", path)
            except Exception:  # noqa: BLE001: taken away already
                pass


def grant(bench, subject):
    bench.kubectl("apply", "-f", "-", text=bench.run("rbac", "--subject", subject).out)


def token(bench):
    """As inside a cluster, or on a build machine: no certificate."""
    path = "/api/v1/namespaces/default/serviceaccounts"
    bench.api.ask("POST", path, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "tracer"}})
    try:
        grant(bench, "serviceaccount:default:tracer")
        made = bench.api.ask("POST", f"{path}/tracer/token", {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}})
        file = bench.folder / "token.kubeconfig"
        config = json.loads(bench.kubectl("config", "view", "--raw", "-o", "json"))
        config["users"] = [{"name": "admin", "user": {"token": made["status"]["token"]}}]
        file.write_text(json.dumps(config))
        done = bench.trace(CLIENT, SERVER, *PING, KUBECONFIG=str(file))
        return arrived(done, CLIENT, SERVER) or "; ".join(done.warnings)
    finally:
        bench.api.ask("DELETE", f"{path}/tracer")


def less(bench, user):
    """Rights taken away cost the findings that need them, not the hop."""
    role = bench.api.ask("GET", ROLES[0])
    gone = {"networkpolicies", "globalnetworkpolicies", "ippools", "ipamblocks", "felixconfigurations", "services", "endpointslices"}
    rules = [rule for rule in role["rules"] if not gone & set(rule["resources"])]
    bench.api.ask("PATCH", ROLES[0], {"rules": rules}, "application/merge-patch+json")
    for name, stage, node in (("fdb_missing", "encapsulate", 0), ("forward_reject", "forward", 0), ("input_drop", "decapsulate", 1)):
        with bench.fault(name):
            done = bench.trace(CLIENT, SERVER, *PING, KUBECONFIG=user)
        verdict = done.report["verdict"] if done.report else {}
        place = (verdict.get("stage") or {}).get("kind")
        wrong = [] if done.code == 1 and place == stage and verdict["stage"]["from"].startswith(bench.nodes[node]) else [str(done), f"at {place}"]
        told = "\n".join(done.warnings)
        wrong += [f"no word of {one}" for one in ("networkpolicies", "ippools", "felixconfigurations") if one not in told]
        yield f"{name} without most rights to read", "; ".join(wrong)


def no_pods(bench, user):
    bench.api.ask("PATCH", ROLES[2], {"rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]}]}, "application/merge-patch+json")
    begun = time.monotonic()
    done = bench.trace(CLIENT, SERVER, *PING, KUBECONFIG=user)
    wanted = ["create pods in namespace kube-system", "delete pods in namespace kube-system", "get pods/attach", "create pods/attach", "trace-drop rbac"]
    wrong = [f"no word of '{one}'" for one in wanted if one not in done.err]
    if done.code != 4 or "list pods" in done.err:
        wrong.append(str(done))
    # Those of the trace before may be ending still.
    if any(kind == "ADDED" for _, kind, _, _ in bench.watch.since(begun)):
        wrong.append("a pod was made")
    return "; ".join(wrong)
