"""Makes the cluster's own authority and what it signs, with the openssl program.

In: a folder, names and addresses. Out: NAME.crt and NAME.key files in it. Keys are readable by root only.
"""

import subprocess


def run(*command, text=None):
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=60)
    if done.returncode != 0:
        raise SystemExit(f"cluster: `{' '.join(command)}` failed ({done.returncode}): {done.stderr.strip()}")
    return done.stdout


class Authority:
    """One certificate authority, for servers and clients alike."""

    def __init__(self, folder):
        self.folder = folder

    def path(self, name):
        return str(self.folder / name)

    def make(self):
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.key("ca")
        run("openssl", "req", "-x509", "-new", "-key", self.path("ca.key"), "-subj", "/CN=trace-drop cluster", "-days", "30",
            "-out", self.path("ca.crt"))
        self.key("accounts")
        run("openssl", "pkey", "-in", self.path("accounts.key"), "-pubout", "-out", self.path("accounts.pub"))

    def key(self, name):
        run("openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", self.path(f"{name}.key"))

    def client(self, name, user, group=None):
        self.sign(name, user, group, "clientAuth", [])

    def server(self, name, user, alternatives):
        """`alternatives` as openssl takes them: IP:10.0.0.1, DNS:name."""
        self.sign(name, user, None, "serverAuth", alternatives)

    def sign(self, name, user, group, usage, alternatives):
        self.key(name)
        subject = (f"/O={group}" if group else "") + f"/CN={user}"
        run("openssl", "req", "-new", "-key", self.path(f"{name}.key"), "-subj", subject, "-out", self.path(f"{name}.csr"))
        lines = ["basicConstraints=critical,CA:FALSE", "keyUsage=critical,digitalSignature", f"extendedKeyUsage={usage}"]
        if alternatives:
            lines.append("subjectAltName=" + ",".join(alternatives))
        (self.folder / f"{name}.ext").write_text("\n".join(lines) + "\n")
        run("openssl", "x509", "-req", "-in", self.path(f"{name}.csr"), "-CA", self.path("ca.crt"), "-CAkey", self.path("ca.key"),
            "-CAcreateserial", "-days", "30", "-extfile", self.path(f"{name}.ext"), "-out", self.path(f"{name}.crt"))
        for end in ("csr", "ext"):
            (self.folder / f"{name}.{end}").unlink()

    def kubeconfig(self, path, server, name):
        """Files are named, not copied in: one place for each key."""
        path.write_text(f"""apiVersion: v1
kind: Config
clusters:
- name: lab
  cluster: {{server: "{server}", certificate-authority: "{self.path('ca.crt')}"}}
users:
- name: {name}
  user: {{client-certificate: "{self.path(f'{name}.crt')}", client-key: "{self.path(f'{name}.key')}"}}
contexts:
- name: lab
  context: {{cluster: lab, user: {name}}}
current-context: lab
""")
        path.chmod(0o600)
