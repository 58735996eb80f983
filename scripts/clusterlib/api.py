"""Speaks to the API server: one connection, JSON both ways.

In: address and certificates. Out: decoded answers; an answer that is an error becomes Refused. Knows no kinds but how
their names become paths.
"""

import http.client
import json
import socket
import ssl
import time

# Plural and whether it lies in a namespace, for what the cluster loads.
PLACES = {
    "Node": ("nodes", False), "Pod": ("pods", True), "Service": ("services", True), "Namespace": ("namespaces", False),
    "ServiceAccount": ("serviceaccounts", True), "ConfigMap": ("configmaps", True), "EndpointSlice": ("endpointslices", True),
    "NetworkPolicy": ("networkpolicies", True), "CustomResourceDefinition": ("customresourcedefinitions", False),
    "ClusterRoleBinding": ("clusterrolebindings", False), "IPPool": ("ippools", False), "IPAMConfig": ("ipamconfigs", False),
    "FelixConfiguration": ("felixconfigurations", False), "IPAMBlock": ("ipamblocks", False), "IPAMHandle": ("ipamhandles", False),
    "BlockAffinity": ("blockaffinities", False), "IPReservation": ("ipreservations", False),
    "ClusterInformation": ("clusterinformations", False),
}


class Refused(Exception):
    def __init__(self, code, path, message):
        super().__init__(f"{path}: {code} {message}")
        self.code = code


class Api:
    def __init__(self, host, port, authority, user="admin", timeout=30):
        self.host, self.port, self.timeout = host, port, timeout
        self.context = ssl.create_default_context(cafile=authority.path("ca.crt"))
        self.context.load_cert_chain(authority.path(f"{user}.crt"), authority.path(f"{user}.key"))
        self.connection = None

    def ask(self, method, path, body=None, kind="application/json"):
        text = self.answer(method, path, body, kind, "application/json")
        return json.loads(text) if text.startswith(b"{") else text.decode()

    def stored(self, path):
        """The object as the server writes it to etcd."""
        return self.answer("GET", path, None, None, "application/vnd.kubernetes.protobuf")

    def answer(self, method, path, body, kind, wanted):
        data = None if body is None else json.dumps(body, separators=(",", ":"))
        headers = {"Accept": wanted} | ({"Content-Type": kind} if data else {})
        for attempt in (1, 2):
            try:
                if self.connection is None:
                    self.connection = http.client.HTTPSConnection(self.host, self.port, timeout=self.timeout, context=self.context)
                    self.connection.connect()
                    self.connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.connection.request(method, path, data, headers)
                answer = self.connection.getresponse()
                text = answer.read()
                break
            except (OSError, http.client.HTTPException):
                self.close()
                if attempt == 2:
                    raise
        if answer.status >= 400:
            raise Refused(answer.status, f"{method} {path}", message(text))
        return text

    def close(self):
        if self.connection:
            self.connection.close()
            self.connection = None

    def put(self, thing):
        """Creates it, with its status where it has one; what is there already stays."""
        place = collection(thing)
        status = thing.get("status")
        try:
            made = self.ask("POST", place, {key: value for key, value in thing.items() if key != "status"})
        except Refused as refused:
            if refused.code != 409:
                raise
            return
        if status:
            part = {"status": status}
            self.ask("PATCH", f"{place}/{made['metadata']['name']}/status", part, "application/merge-patch+json")

    def wait(self, what, seconds, ready, hint):
        """Asks until `ready` gives something true."""
        end, last = time.monotonic() + seconds, ""
        while time.monotonic() < end:
            try:
                if (found := ready()):
                    return found
                last = "not yet"
            except (Refused, OSError, http.client.HTTPException) as error:
                last = str(error)
            time.sleep(0.2)
        raise SystemExit(f"cluster: waited {seconds} s for {what}: {last}; {hint}")


def message(text):
    try:
        return json.loads(text).get("message", "")
    except ValueError:
        return text[:200].decode(errors="replace")


def collection(thing):
    version, (plural, namespaced) = thing["apiVersion"], PLACES[thing["kind"]]
    root = f"/api/{version}" if "/" not in version else f"/apis/{version}"
    inside = f"/namespaces/{thing['metadata'].get('namespace', 'default')}" if namespaced else ""
    return f"{root}{inside}/{plural}"
