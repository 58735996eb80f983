"""How a client finds the API server and who it is there: credential plugins, proxies, several files, other authorities.

In: a bench. Each way is a kubeconfig made of the cluster's own.
"""

import json
import os
import socket
import threading

from .bench import PING
from .endpoints import CLIENT, SERVER, arrived
from .rights import ROLES, grant


def run(bench):
    config = json.loads(bench.kubectl("config", "view", "--raw", "-o", "json"))
    with Proxy() as proxy:
        done = traced(bench, config, cluster={"proxy-url": f"http://127.0.0.1:{proxy.port}"})
        yield "a trace through an HTTP proxy of the kubeconfig", done or ("" if proxy.targets else "nothing passed the proxy")
        proxy.targets.clear()
        done = traced(bench, config, HTTPS_PROXY=f"http://127.0.0.1:{proxy.port}")
        yield "through HTTPS_PROXY", done or ("" if proxy.targets else "nothing passed the proxy")
    yield "a credential plugin (exec)", traced(bench, config, user=plugin(bench))
    yield "insecure-skip-tls-verify", traced(bench, config, cluster={"insecure-skip-tls-verify": True, "certificate-authority-data": None,
                                                                   "certificate-authority": None})
    yield "cluster, user and context in files of their own", several(bench, config)
    grant(bench, "team:member")
    try:
        done = bench.trace(CLIENT, SERVER, *PING, "--as", "team:member")
        yield "--as a user with the printed role", arrived(done, CLIENT, SERVER) or "; ".join(done.warnings)
    finally:
        for path in ROLES:
            bench.api.ask("DELETE", path)


def traced(bench, config, cluster=None, user=None, **env):
    changed = json.loads(json.dumps(config))
    for key, value in (cluster or {}).items():
        changed["clusters"][0]["cluster"].pop(key, None)
        if value is not None:
            changed["clusters"][0]["cluster"][key] = value
    if user:
        changed["users"][0]["user"] = user
    path = bench.folder / "access.kubeconfig"
    path.write_text(json.dumps(changed))
    return arrived(bench.trace(CLIENT, SERVER, *PING, KUBECONFIG=str(path), **env), CLIENT, SERVER)


def plugin(bench):
    """A program that prints what kubectl's plugins print: here the admin's own certificate."""
    certificate, key = (open(bench.place.authority.path(f"admin.{end}")).read() for end in ("crt", "key"))
    credential = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential",
                  "status": {"clientCertificateData": certificate, "clientKeyData": key}}
    file = bench.folder / "credential.json"
    file.write_text(json.dumps(credential))
    return {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "cat", "args": [str(file)], "interactiveMode": "Never"}}


def several(bench, config):
    paths = []
    for key in ("clusters", "users", "contexts"):
        part = {"apiVersion": "v1", "kind": "Config", key: config[key]}
        if key == "contexts":
            part["current-context"] = config["current-context"]
        paths.append(bench.folder / f"{key}.kubeconfig")
        paths[-1].write_text(json.dumps(part))
    return arrived(bench.trace(CLIENT, SERVER, *PING, KUBECONFIG=os.pathsep.join(map(str, paths))), CLIENT, SERVER)


class Proxy:
    """An HTTP proxy that can CONNECT, on loopback."""

    def __enter__(self):
        self.targets = []
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self.serve, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.socket.close()

    def serve(self):
        while True:
            try:
                client, _ = self.socket.accept()
            except OSError:
                return
            threading.Thread(target=self.connect, args=(client,), daemon=True).start()

    def connect(self, client):
        asked = b""
        while b"\r\n\r\n" not in asked:
            more = client.recv(4096)
            if not more:
                return
            asked += more
        method, target, _ = asked.decode().split(" ", 2)
        if method != "CONNECT":
            client.sendall(b"HTTP/1.1 405 Method Not Allowed\r\n\r\n")
            return client.close()
        self.targets.append(target)
        host, port = target.rsplit(":", 1)
        server = socket.create_connection((host, int(port)))
        client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        threading.Thread(target=pump, args=(server, client), daemon=True).start()
        pump(client, server)


def pump(source, sink):
    try:
        while data := source.recv(65536):
            sink.sendall(data)
    except OSError:
        pass
    try:
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass
