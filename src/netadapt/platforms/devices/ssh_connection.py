"""One connection of the OpenSSH client that is kept open while a device is used; `ssh.py` is its only caller.

A master connection runs `cat` on the device and ends with this process, however that ends; every command is a channel
of it. Nothing is ever asked of the user: unknown host keys and passwords are errors. What ``~/.ssh/config`` says about
the host (keys, jump hosts, ports) holds.
"""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import os
import shutil
import socket
import subprocess
import tempfile
import time
import weakref
from pathlib import Path
from typing import IO, Any

from netadapt.errors import PlatformError
from netadapt.platforms.devices.answers import MOST_BYTES
from netadapt.platforms.devices.program import TAIL_BYTES, Outcome, run_program

_log = logging.getLogger("netadapt")

BACKOFF_S = (1.0, 3.0, 9.0)  #: pauses between tries after the connection was lost
_CONNECT_S = 10  # for the network
_LOGIN_S = 60.0  # for all until commands can be run
_FAILED = 255  # ssh's own status; commands of ours never end with it
_OPTIONS = {
    "BatchMode": "yes",
    "StrictHostKeyChecking": "yes",
    "ConnectTimeout": str(_CONNECT_S),
    "ServerAliveInterval": "5",
    "ServerAliveCountMax": "4",
    "ControlPersist": "no",
    "ClearAllForwardings": "yes",
    "ForwardAgent": "no",
    "ForwardX11": "no",
    "PermitLocalCommand": "no",
    "RequestTTY": "no",
    "RemoteCommand": "none",
    "LogLevel": "ERROR",
}
#: what waiting does not mend
_FOR_GOOD = ("Host key verification failed", "Permission denied", "Too many authentication failures", "Bad owner")


class _Lost(Exception):
    """The connection could not be made, or broke."""


def _end(process: subprocess.Popen[bytes], errors: IO[bytes], folder: str, owner: int) -> None:
    """End the master connection; a forked copy of its owner leaves it alone."""
    errors.close()
    if os.getpid() != owner:
        return
    assert process.stdin is not None
    process.stdin.close()
    process.terminate()
    try:
        process.wait(timeout=5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    shutil.rmtree(folder, ignore_errors=True)


class SshConnection:
    """Runs commands on a host.

    Args:
        host: a name, an address, or an alias of ``~/.ssh/config``; checked by the caller.
        user: ``None`` for what the configuration says.
        port: likewise.

    Raises:
        PlatformError: there is no OpenSSH client here.
    """

    def __init__(self, host: str, user: str | None, port: int | None) -> None:
        if shutil.which("ssh") is None:
            raise PlatformError("ssh:// needs the OpenSSH client; install it, e.g.: apt-get install openssh-client")
        self._target = [*(["-l", user] if user else []), *(["-p", str(port)] if port else []), "--", host]
        self._port = f" -p {port}" if port else ""
        self._shown = " ".join(["ssh", *(part for part in self._target if part != "--")])
        self._process: subprocess.Popen[bytes] | None = None
        self._errors: IO[bytes] | None = None
        self._finalizer: weakref.finalize[Any, Any] | None = None
        self._owner, self._socket = 0, Path()

    def is_this_machine(self) -> bool:
        """Return whether the host's name leads to this machine; nothing is connected for that."""
        outcome = run_program(["ssh", "-G", *self._target], limit_s=_CONNECT_S, most_bytes=MOST_BYTES)
        words = [line.split(maxsplit=1) for line in outcome.output.decode(errors="replace").splitlines()]
        [name] = [word[1] for word in words if word[0] == "hostname" and len(word) == 2] or [""]
        with contextlib.suppress(ValueError):
            return ipaddress.ip_address(name).is_loopback
        return name == "localhost" or name.endswith(".localhost") or name == socket.gethostname()

    def run(self, command: str, stdin: bytes, *, limit_s: float) -> Outcome:
        """Run a command line of the remote shell; again if the connection was lost, a few times.

        Args:
            command: quoted by the caller; it must not end with status 255 itself.
            stdin: its input, which is held open until it ends.
            limit_s: seconds after which it is given up.

        Raises:
            PlatformError: the host cannot be reached or does not let us in.
        """
        for pause_s in (*BACKOFF_S, None):
            try:
                return self._once(command, stdin, limit_s)
            except _Lost as lost:
                self.close()
                said = str(lost)
                if pause_s is None or any(words in said for words in _FOR_GOOD):
                    raise PlatformError(self._explain(said)) from lost
                _log.warning("%s failed and is repeated in %g s: %s", self._shown, pause_s, said)
                time.sleep(pause_s)
        raise AssertionError("unreachable")

    def _once(self, command: str, stdin: bytes, limit_s: float) -> Outcome:
        self._open()
        outcome = run_program(
            self._argv(["-S", str(self._socket)], command),
            limit_s=limit_s,
            most_bytes=MOST_BYTES,
            stdin=stdin,
            hold_stdin=True,
        )
        if outcome.ended == "by itself" and outcome.status == _FAILED:
            raise _Lost(outcome.tail or "the connection was lost, or what ran there was killed")
        return outcome

    def _argv(self, control: list[str], command: str) -> list[str]:
        options = [part for key, value in _OPTIONS.items() for part in ("-o", f"{key}={value}")]
        return ["ssh", *options, *control, *self._target, command]

    def _open(self) -> None:
        """Make the master connection unless it stands."""
        if self._process is not None and self._owner == os.getpid() and self._process.poll() is None:
            return
        self.close()
        # The path of a socket has about 100 characters at most, which TMPDIR alone may take.
        folder = tempfile.mkdtemp(prefix="netadapt-ssh-", dir="/tmp" if Path("/tmp").is_dir() else None)
        self._socket, self._owner = Path(folder) / "s", os.getpid()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  lives as long as the connection
        self._process = subprocess.Popen(
            self._argv(["-M", "-S", str(self._socket)], "exec cat"),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self._errors,
            start_new_session=True,
        )
        self._finalizer = weakref.finalize(self, _end, self._process, self._errors, folder, self._owner)
        deadline = time.monotonic() + _LOGIN_S
        while not self._socket.exists():  # made once commands can be run
            if self._process.poll() is not None:
                raise _Lost(self._said() or f"ssh ended with status {self._process.returncode}")
            if time.monotonic() > deadline:
                raise _Lost(f"no login within {_LOGIN_S:g} s")
            time.sleep(0.02)

    def _said(self) -> str:
        """Return the end of what the master connection wrote on standard error."""
        assert self._errors is not None
        size = self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, size - TAIL_BYTES))
        return self._errors.read().decode(errors="replace").strip()

    def _explain(self, said: str) -> str:
        """Return an error with what to do next."""
        host = self._target[-1]
        if "Host key verification failed" in said:
            todo = (
                f"the key of the host is unknown here, or has changed. Compare `ssh-keyscan{self._port} {host} | "
                "ssh-keygen -lf -` with what the device itself says (`ssh-keygen -lf "
                f"/etc/ssh/ssh_host_ed25519_key.pub`); if they agree, connect once by hand with `{self._shown}`"
            )
        elif "Permission denied" in said:
            todo = f"log in with a key that needs no typing (ssh-copy-id, ssh-agent) until `{self._shown} true` works"
        else:
            todo = f"see that the device is on and `{self._shown} true` works"
        return f"{self._shown} cannot be used: {todo}.\n{said}"

    def close(self) -> None:
        """End the connection; idempotent."""
        if self._finalizer is not None:
            self._finalizer()
        self._process, self._finalizer, self._errors = None, None, None
