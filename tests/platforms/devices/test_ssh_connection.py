"""The connection against a real ssh server: who is let in, what is retried, and what is left behind."""

from __future__ import annotations

import logging
import os
import subprocess
import sys

import pytest
from processes import until
from sshd import command_of, descendants

from netadapt.errors import PlatformError
from netadapt.platforms.devices import ssh_connection
from netadapt.platforms.devices.ssh_connection import SshConnection


@pytest.fixture
def connection(sshd):
    connection = SshConnection("127.0.0.1", None, sshd.port)
    yield connection
    connection.close()


@pytest.fixture
def hasty(monkeypatch):
    monkeypatch.setattr(ssh_connection, "BACKOFF_S", (0.1, 0.1))


def run(connection, command="echo hello", stdin=b"", limit_s=60.0):
    return connection.run(command, stdin, limit_s=limit_s)


def test_commands_share_one_login(sshd, connection):
    assert run(connection).output == b"hello\n"
    outcome = run(connection, "head -c 5; echo oops >&2; exit 7", b"12345")
    assert (outcome.output, outcome.tail, outcome.status) == (b"12345", "oops", 7)
    assert (sshd.folder / "log").read_text().count("Accepted publickey") == 1


def test_closing_ends_it_and_the_next_command_opens_it(connection):
    run(connection)
    process, socket = connection._process, connection._socket
    connection.close()
    connection.close()
    assert process.poll() is not None
    assert not socket.parent.exists()
    assert run(connection).output == b"hello\n"


def test_an_unknown_host_key_is_refused_at_once(sshd, connection, caplog):
    sshd.write_client(host_key="stranger")
    with pytest.raises(PlatformError, match=r"(?s)ssh-keyscan -p \d+ 127.0.0.1.*Host key verification failed"):
        run(connection)
    (sshd.folder / "known_hosts").write_text("")
    with pytest.raises(PlatformError, match="is unknown here, or has changed"):
        run(connection)
    assert (sshd.folder / "known_hosts").read_text() == ""
    assert "is repeated" not in caplog.text


def test_a_key_that_is_not_authorised_is_refused_at_once(sshd, connection, caplog):
    sshd.write_client(key="stranger")
    with pytest.raises(PlatformError, match=r"(?s)ssh-copy-id.*Permission denied"):
        run(connection)
    assert "is repeated" not in caplog.text


def test_nobody_there_is_told_after_some_tries(sshd, connection, hasty, caplog):
    sshd.die()
    with caplog.at_level(logging.WARNING), pytest.raises(PlatformError, match=r"(?s)device is on.*Connection refused"):
        run(connection)
    assert caplog.text.count("is repeated") == 2


def test_a_lost_connection_is_made_again(sshd, connection, hasty):
    run(connection)
    sshd.kill_connections()
    assert run(connection).output == b"hello\n"
    assert (sshd.folder / "log").read_text().count("Accepted publickey") == 2


def test_a_server_that_comes_back_is_found(sshd, connection, monkeypatch):
    monkeypatch.setattr(ssh_connection, "BACKOFF_S", (1.0, 2.0, 4.0, 8.0))
    run(connection)
    sshd.die()
    monkeypatch.setattr(ssh_connection.time, "sleep", lambda seconds: sshd.start() if seconds == 2.0 else None)
    assert run(connection).output == b"hello\n"


def test_a_connection_lost_on_the_way_is_a_transport_error(sshd, connection, hasty, tmp_path):
    # It kills the server's process of its own connection; the second time it finds the mark and lives.
    command = f"test -e {tmp_path}/mark && echo lived && exit 0; touch {tmp_path}/mark; kill -9 $PPID; sleep 60"
    assert run(connection, command).output == b"lived\n"


def test_errors_of_the_command_are_not_repeated(connection, tmp_path):
    assert run(connection, f"echo x >> {tmp_path}/count; exit 1").status == 1
    assert (tmp_path / "count").read_text() == "x\n"


def test_what_runs_too_long_loses_its_input(sshd, connection):
    outcome = run(connection, "exec cat", limit_s=1.0)
    assert outcome.ended == "too slow"
    # One `cat` is the master connection's, the other must end.
    assert until(lambda: [command_of(pid) for pid in sshd.connections()].count("cat ") == 1)
    assert run(connection).output == b"hello\n"


ORPHAN = """
import sys
from netadapt.platforms.devices.ssh_connection import SshConnection
connection = SshConnection("127.0.0.1", None, int(sys.argv[1]))
connection.run("true", b"", limit_s=60)
print("ready", flush=True)
sys.stdin.read()
"""


def test_it_dies_with_its_owner(sshd):
    owner = subprocess.Popen(
        [sys.executable, "-c", ORPHAN, str(sshd.port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout.readline() == "ready\n"
    assert sshd.connections()
    owner.kill()
    owner.communicate()
    assert until(lambda: not sshd.connections())


def test_a_forked_process_makes_its_own(sshd, connection):
    run(connection)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = 0 if run(connection).output == b"hello\n" else 2
            connection.close()
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert run(connection).output == b"hello\n"
    assert (sshd.folder / "log").read_text().count("Accepted publickey") == 2


@pytest.mark.parametrize(
    ("alias", "name", "here"),
    [
        ("pi", "127.0.0.1", True),
        ("pi", "::1", True),
        ("pi", "localhost", True),
        ("pi", "192.0.2.7", False),
        ("pi", "pi.example", False),
    ],
)
def test_this_machine_is_recognised_behind_an_alias(sshd, alias, name, here):
    with (sshd.folder / "config").open("a") as file:
        file.write(f"Host {alias}\n  HostName {name}\n")
    assert SshConnection(alias, None, None).is_this_machine() is here


def test_without_a_client_the_hint_is_exact(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PlatformError, match="apt-get install openssh-client"):
        SshConnection("host", None, None)


def test_no_processes_are_left(connection):
    before = set(descendants(os.getpid()))
    run(connection)
    assert set(descendants(os.getpid())) - before
    process = connection._process
    connection.close()
    assert process.poll() is not None
    # The server's own processes of this connection see its end a moment later.
    assert until(lambda: set(descendants(os.getpid())) <= before)
