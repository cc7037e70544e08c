"""A real ssh server on loopback with keys, a home folder and a configuration of its own."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

PROGRAMS = ("ssh", "ssh-keygen", "/usr/sbin/sshd")


def missing():
    """Return the programs that these tests lack."""
    return [name for name in PROGRAMS if shutil.which(name) is None]


class Sshd:
    """A server for this user, and a client configuration that trusts it.

    Attributes:
        home: where the sessions think they live.
        bin: holds an ``ssh`` that reads our configuration only; it belongs first in PATH.
        address: as in platform strings, ``ssh://...``.
        sensors: where the device looks for sensors of energy.
    """

    def __init__(self, folder):
        self.folder, self.home, self.bin, self.sensors = folder, folder / "home", folder / "bin", folder / "sys"
        for path in (self.home, self.bin):
            path.mkdir(parents=True)
        for name in ("host", "user", "stranger"):
            subprocess.run(
                ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True, timeout=60
            )
        shutil.copy(folder / "user.pub", folder / "authorized_keys")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.address = f"ssh://{getpass.getuser()}@127.0.0.1:{self.port}"
        self.write_client()
        (folder / "sshd_config").write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nPidFile none\nUsePAM no\n"
            f"AuthorizedKeysFile {folder}/authorized_keys\nStrictModes no\nPasswordAuthentication no\n"
            f"KbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\nMaxStartups 100\n"
            f"SetEnv HOME={self.home} OMP_NUM_THREADS=1 NETADAPT_SYS={self.sensors}\n"
        )
        ssh = shutil.which("ssh")
        (self.bin / "ssh").write_text(f'#!/bin/sh\nexec {ssh} -F {folder}/config "$@"\n')
        (self.bin / "ssh").chmod(0o755)
        self._process = None
        self.start()

    def write_client(self, *, key="user", host_key="host"):
        """Write the client's configuration: which key it shows, and which key of the host it knows."""
        kind, content = (self.folder / f"{host_key}.pub").read_text().split()[:2]
        (self.folder / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {kind} {content}\n")
        (self.folder / "config").write_text(
            f"IdentityFile {self.folder}/{key}\nIdentitiesOnly yes\nIdentityAgent none\n"
            f"UserKnownHostsFile {self.folder}/known_hosts\nGlobalKnownHostsFile none\nUpdateHostKeys no\n"
        )

    def start(self):
        """Start the server and wait until it listens."""
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # else it refuses to start as root
        command = ["/usr/sbin/sshd", "-D", "-e", "-f", str(self.folder / "sshd_config")]
        with (self.folder / "log").open("a") as log:
            self._process = subprocess.Popen(command, stderr=log, stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=5).close()
                return
            except OSError:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    raise AssertionError(f"sshd does not start: {(self.folder / 'log').read_text()}") from None
                time.sleep(0.05)

    def connections(self):
        """Return the processes below the server, nearest first."""
        return descendants(self._process.pid)

    def kill_connections(self):
        """End all connections as a cut cable would; what runs there loses its input."""
        for pid in self.connections():
            if "sshd" in command_of(pid):
                kill(pid)

    def die(self):
        """End the server and all that runs below it, as a power cut would."""
        if self._process.poll() is None:
            for pid in stopped_family(self._process.pid):
                kill(pid)
            self._process.wait()

    def python(self, name, body):
        """Write a stand-in for Python on the device and return its path; ``$real`` is this Python."""
        path = self.folder / name
        path.write_text(f"#!/bin/sh\nreal={sys.executable}\n{body}\n")
        path.chmod(0o755)
        return path


def kill(pid, how=signal.SIGKILL):
    """Kill a process that may be gone."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, how)


def stopped_family(pid):
    """Stop a process and all below it, also what they start meanwhile, and return them: none escapes its end then."""
    family = []
    while found := [one for one in (pid, *descendants(pid)) if one not in family]:
        for one in found:
            kill(one, signal.SIGSTOP)
        family += found
    return family


def command_of(pid):
    """Return the command line of a process, empty if it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def descendants(pid):
    """Return all processes below one, nearest first."""
    children = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            children.setdefault(parent, []).append(int(folder.name))
    found = list(children.get(pid, []))
    for one in found:
        found += children.get(one, [])
    return found
