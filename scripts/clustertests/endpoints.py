"""Every kind of end that can be typed.

In: a bench. Workloads are made as their controllers would leave them: the object, and the lab's pod with the label and
the owner that make it one of its pods. No controller of workloads runs here.
"""

from lablib import topology as t

from .bench import HOW, PING

CLIENT, SERVER = "default/client", "default/server"


def run(bench):
    one, two, three = bench.nodes
    yield from without_workloads(bench, one, two)
    with Workloads(bench):
        for source, to, names in [("deploy/front", "sts/store", (CLIENT, SERVER)), ("job/batch", "deployment/front", ("default/neighbour", CLIENT)),
                                  ("rs/front-5c9f", "svc/server-svc", (CLIENT, SERVER))]:
            done = bench.trace(source, to, *PING)
            yield f"{source} to {to}", arrived(done, *names)
        done = bench.trace("ds/web", "web-3-1", "-n", "shop", *PING)
        told = "" if "DaemonSet shop/web has 2 pods: shop/web-2-1" in " ".join((done.report or {}).get("warnings", [])) else "which pod is not said"
        yield "ds/web of two pods", arrived(done, "shop/web-2-1", "shop/web-3-1") or told
        done = bench.trace("deploy/frnt", SERVER)
        wrong = "" if done.code == 4 and "front" in done.err else str(done)
        yield "a deployment that is misspelt", wrong


def without_workloads(bench, one, two):
    server = bench.topology.pod(SERVER)
    client = bench.topology.pod(CLIENT)
    for name, source, to, more, names in [
        ("a pair on one node", CLIENT, "default/neighbour", [], (CLIENT, "default/neighbour")),
        ("over IPv6", CLIENT, SERVER, ["-6"], (CLIENT, SERVER)),
        ("addresses of pods", client.address, server.address, [], (CLIENT, SERVER)),
        ("an IPv6 address", client.address6, server.address6, [], (CLIENT, SERVER)),
        ("a node to a pod", f"node/{one}", "shop/web-2-1", [], (f"node/{one}", "shop/web-2-1")),
        ("a pod to a node", CLIENT, f"node/{two}", [], (CLIENT, f"node/{two}")),
    ]:
        yield name, arrived(bench.trace(source, to, *PING, *more), *names)
    for name, to, more in [("a Service", "svc/server-svc", ["--probe", "tcp:80"]), ("a Service's port by name", "svc/server-svc:http", ["--probe", "tcp:80"]),
                           ("a Service's own address", t.SERVICE, ["--probe", "tcp:80"])]:
        done = bench.trace(CLIENT, to, *more, "--probe-count", "5")
        yield name, arrived(done, CLIENT, SERVER)
    yield "another address of a Service", external(bench)
    done = bench.trace(CLIENT, t.GATEWAY, *PING)
    last = done.report["directions"][0]["path"][-1] if done.report else ""
    yield "an address outside the cluster", "" if last == f"{one}/eth0" and done.outcome == "delivered" else f"ends at {last}: {done}"
    path = bench.folder / "shop.kubeconfig"
    path.write_text(bench.place.kubeconfig.read_text().replace("user: admin}", "user: admin, namespace: shop}"))
    done = bench.trace("web-2-1", "web-3-0", *PING, KUBECONFIG=str(path))
    yield "bare names in the context's namespace", arrived(done, "shop/web-2-1", "shop/web-3-0")


def external(bench):
    """The server finds no Service by it: all are looked at."""
    path = "/api/v1/namespaces/default/services/server-svc"
    address = "192.0.2.77"
    bench.api.ask("PATCH", path, {"spec": {"externalIPs": [address]}}, "application/merge-patch+json")
    done = bench.run("--from", CLIENT, "--to", address, "--dry-run", *HOW["image"])
    bench.api.ask("PATCH", path, {"spec": {"externalIPs": None}}, "application/merge-patch+json")
    return "" if done.code == 0 and SERVER in done.out else f"{done} {done.out}"


def arrived(done, source, to):
    """What is wrong with a trace of healthy traffic; nothing if it is as it should be."""
    if not done.report:
        return str(done)
    ends = (done.report["from"]["name"], done.report["to"]["name"])
    wrong = [] if ends == (source, to) else [f"from {ends[0]} to {ends[1]}"]
    if (done.code, done.outcome) != (0, "delivered") or not done.report["verdict"]["sent"]:
        wrong.append(str(done))
    return "; ".join(wrong)


class Workloads:
    """The objects, while they are needed: pods that name an owner must not outlive it."""

    def __init__(self, bench):
        self.api, self.made, self.owned = bench.api, [], []

    def __enter__(self):
        front = self.make("apps", "deployments", "Deployment", "front", app="client")
        replicas = self.make("apps", "replicasets", "ReplicaSet", "front-5c9f", owner=front, app="client", **{"pod-template-hash": "5c9f"})
        self.own(CLIENT, replicas, {"pod-template-hash": "5c9f"})
        self.own(SERVER, self.make("apps", "statefulsets", "StatefulSet", "store", app="server"))
        self.own("default/neighbour", self.make("batch", "jobs", "Job", "batch", app="neighbour"))
        web = self.make("apps", "daemonsets", "DaemonSet", "web", namespace="shop", tier="web")
        for pod in ("shop/web-2-1", "shop/web-3-0"):
            self.own(pod, web, {"tier": "web"})

    def make(self, group, plural, kind, name, namespace="default", owner=None, **labels):
        template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "main", "image": "localhost/lab-server:1"}]}}
        spec = {"selector": {"matchLabels": labels}, "template": template}
        if kind == "Job":
            spec["manualSelector"] = True
            template["spec"]["restartPolicy"] = "Never"
        if kind == "StatefulSet":
            spec["serviceName"] = "server-svc"
        metadata = {"name": name, "namespace": namespace} | ({"ownerReferences": [owner]} if owner else {})
        path = f"/apis/{group}/v1/namespaces/{namespace}/{plural}"
        made = self.api.ask("POST", path, {"apiVersion": f"{group}/v1", "kind": kind, "metadata": metadata, "spec": spec})
        self.made.append(f"{path}/{name}")
        return {"apiVersion": f"{group}/v1", "kind": kind, "name": name, "uid": made["metadata"]["uid"], "controller": True}

    def own(self, pod, owner, labels=None):
        self.patch(pod, {"ownerReferences": [owner], "labels": labels or {}})
        self.owned.append((pod, labels or {}))

    def patch(self, pod, metadata):
        namespace, name = pod.split("/")
        self.api.ask("PATCH", f"/api/v1/namespaces/{namespace}/pods/{name}", {"metadata": metadata}, "application/merge-patch+json")

    def __exit__(self, *_):
        for pod, labels in self.owned:
            self.patch(pod, {"ownerReferences": None, "labels": {label: None for label in labels}})
        for path in reversed(self.made):
            self.api.ask("DELETE", path, {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Orphan"})
