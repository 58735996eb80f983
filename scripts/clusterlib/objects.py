"""Puts objects into the API server: Calico's kinds, namespaces, and what `lab cluster` prints.

In: an Api and a Topology. Out: objects as a real cluster has them. Node and Pod objects that a kubelet keeps are left
out when there are kubelets.
"""

from lablib import objects as lab

CALICO = "crd.projectcalico.org"
# Calico's kinds of which traces and checks know, as its published definitions name them (projectcalico/calico,
# manifests/crds.yaml): kind, plural, whether in a namespace. Their schemas are left out; the server keeps any field.
KINDS = [
    ("BlockAffinity", "blockaffinities", False), ("ClusterInformation", "clusterinformations", False),
    ("FelixConfiguration", "felixconfigurations", False), ("GlobalNetworkPolicy", "globalnetworkpolicies", False),
    ("GlobalNetworkSet", "globalnetworksets", False), ("HostEndpoint", "hostendpoints", False), ("IPAMBlock", "ipamblocks", False),
    ("IPAMConfig", "ipamconfigs", False), ("IPAMHandle", "ipamhandles", False), ("IPPool", "ippools", False),
    ("IPReservation", "ipreservations", False),
    ("NetworkPolicy", "networkpolicies", True), ("NetworkSet", "networksets", True), ("Tier", "tiers", False),
]


def definition(kind, plural, namespaced):
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": f"{plural}.{CALICO}"},
            "spec": {"group": CALICO, "scope": "Namespaced" if namespaced else "Cluster", "preserveUnknownFields": False,
                     "names": {"kind": kind, "listKind": f"{kind}List", "plural": plural, "singular": kind.lower()},
                     "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}]}}


def calico(api):
    for kind in KINDS:
        api.put(definition(*kind))
    wanted = {plural for _, plural, _ in KINDS}

    def served():
        return wanted <= {one["name"] for one in api.ask("GET", f"/apis/{CALICO}/v1")["resources"]}

    api.wait("Calico's kinds", 60, served, "the API server's log tells why they are not served")


def rights(api):
    """What kubeadm binds too: the API server may speak to kubelets. Kubelets' own rights come from the Node authorizer."""
    api.put({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "apiserver-kubelet"},
             "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:kubelet-api-admin"},
             "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "kube-apiserver-kubelet-client"}]})


def namespaces(api, names, authority):
    """Pods are not admitted before their namespace's account is there. A controller makes it too, a moment later."""
    root = open(authority.path("ca.crt")).read()
    for name in names:
        api.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        api.put({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": name}})
        api.put({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "kube-root-ca.crt", "namespace": name}, "data": {"ca.crt": root}})


def cleaned(thing):
    """As one may create it: version and id are the server's to give. A pod whose owner is not there would be collected."""
    metadata = {key: value for key, value in thing["metadata"].items() if key not in ("resourceVersion", "uid", "ownerReferences")}
    return {**thing, "metadata": metadata}


def load(place, topology, kubelets=False):
    """Without kubelets Nodes and Pods have the lab's own status; with them they are the kubelets' to make and keep."""
    api = place.api()
    rights(api)
    calico(api)
    namespaces(api, sorted({"default", "kube-system"} | {one.namespace for one in topology.pods}), place.authority)
    for thing in lab.lab_objects(topology):
        thing = cleaned(thing)
        if thing["kind"] in ("Node", "Pod") and kubelets:
            continue
        if thing["kind"] == "Service":
            thing["spec"] |= {"ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv4", "IPv6"]}
        api.put(thing)
    api.close()
