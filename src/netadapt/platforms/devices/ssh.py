"""A machine that OpenSSH reaches: ``ssh://user@host[:port]/RUNTIME?threads=4&python=~/venv/bin/python``.

No daemon and no port: an archive of the scripts in `on_device/` and the files to be timed are pushed once, named by
their content, into ``~/.cache/netadapt/device`` there, and each session is one command that answers one JSON document.
The device needs an ssh server, Python 3.9 or later, and the runtime.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import shlex
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from netadapt.errors import MeasurementUnusable, PlatformError, SessionLost
from netadapt.platforms.artifacts import artifact_of, sendable
from netadapt.platforms.base import Artifact, Reading
from netadapt.platforms.devices.answers import MOST_BYTES, BadAnswer, Finite, NotNegative, Positive, read_answer
from netadapt.platforms.devices.archive import receiver_source, script_archive
from netadapt.platforms.devices.program import Outcome
from netadapt.platforms.devices.session_client import reading_of
from netadapt.platforms.devices.ssh_connection import SshConnection
from netadapt.platforms.energy import KINDS, check_kind
from netadapt.platforms.parts import Runtime

_log = logging.getLogger("netadapt")

BUSY_S = 3600.0  #: to wait for others who measure on the device, in all
WAIT_S = 10.0  #: and in one request, after which the user is told
_GRACE_S = 60.0  # for what is done around a session: waiting for others, starting Python, importing the runtime
_PUSH_S = 600.0  # for one file
_SENSORS = tuple(kind for kind in KINDS if kind != "auto")  # what is measured must be known before it is asked
_CANNOT_OPEN = 2  # with this status Python ends where there is no such script
_ADDRESS = re.compile(
    r"//(?:(?P<user>[A-Za-z0-9_][\w.+-]*)@)?(?:\[(?P<v6>[0-9A-Fa-f:]+(?:%\w+)?)\]|(?P<host>[A-Za-z0-9_][\w.-]*))"
    r"(?::(?P<port>\d{1,5}))?",
    re.ASCII,
)
_PYTHON = re.compile(r"(~/)?[A-Za-z0-9_/.][A-Za-z0-9_/.+-]*", re.ASCII)
_BOOTSTRAP = "import sys;exec(compile(sys.stdin.buffer.read({size}),'receive.py','exec'))"

Text = Annotated[str, Field(max_length=4000)]


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class Machine(_Strict):
    """What stays the same as long as a device is the same one."""

    processor: Text
    architecture: Text
    board: Text
    cores: Annotated[int, Field(ge=1)]
    memory_mb: NotNegative
    python: Text

    def __str__(self) -> str:
        """Return the board or the processor, and the architecture."""
        return f"{self.board or self.processor} ({self.architecture})"


class _Stored(_Strict):
    path: Text | None


class _Empty(_Strict):
    pass


class _Sensor(_Strict):
    name: Text
    channels: list[Text]

    def __str__(self) -> str:
        """Return its name and what it adds up."""
        return f"{self.name} ({', '.join(self.channels)})"


class _WithVersion(_Strict):
    version: Text | None = None
    lacking: Text | None = None
    executable: Text | None = None
    error: Text | None = None
    sensor: _Sensor | None = None
    no_sensor: Text | None = None


class _Identified(_WithVersion):
    machine: Machine
    state: dict[str, Any]


class _Measured(_WithVersion):
    machine: Machine | None = None
    missing: list[Text] | None = None
    busy: Text | None = None
    timeout: Positive | None = None
    died: int | None = None
    stderr: Text = ""
    latency_ms: Annotated[list[Positive], Field(min_length=1)] | None = None
    memory_mb: NotNegative | None = None
    energy_mj: Positive | None = None
    lost: Text | None = None
    unusable: Text | None = None
    inferences: int | None = None
    window_s: list[Finite] | None = None
    waited: NotNegative | None = None


_Answer = TypeVar("_Answer", bound=BaseModel)


class Ssh:
    """Times files on another machine; measures latency and memory, and energy where asked for, as `Local` does.

    Args:
        address: ``//[user@]host[:port]``; an alias of ``~/.ssh/config`` is a host.
        threads: of one inference; the session is bound to the last so many cores of the device.
        python: the interpreter there that has the runtime; ``~/`` is the home folder there.
        limit_s: seconds after which a session is given up.
        energy: which sensor of the device: ``none``, ``rapl``, ``hwmon[:CHIP]`` (its name or folder), ``nvml[:INDEX]``.

    Raises:
        PlatformError: an argument is wrong, or there is no OpenSSH client here.
    """

    description = "ssh://[user@]host[:port]/RUNTIME, another machine that has Python and the runtime"
    programs: Mapping[str, str] = {"ssh": "apt install openssh-client"}

    def __init__(
        self,
        address: str = "",
        *,
        threads: int = 1,
        python: str = "python3",
        limit_s: float = 300.0,
        energy: str = "none",
    ) -> None:
        found = _ADDRESS.fullmatch(address)
        port = int(found["port"]) if found and found["port"] else None
        if found is None or (port is not None and not 1 <= port <= 65535):
            raise PlatformError(
                f"ssh:{address} is no address; write ssh://user@host:port/RUNTIME (user and port may be left out; "
                f"names begin with a letter or a digit; ports are 1 to 65535)."
            )
        if not _PYTHON.fullmatch(python):
            raise PlatformError(f"ssh: python={python!r} is no path of a Python; write e.g. python=~/venv/bin/python.")
        if threads < 1:
            raise PlatformError(f"threads={threads}: allowed are 1 to the number of the device's cores.")
        if not limit_s > 0:
            raise PlatformError(f"limit_s={limit_s:g}: allowed are seconds above 0.")
        check_kind(energy, _SENSORS)
        self.name, self.threads = f"ssh:{address}", threads
        options = {"python": (python, "python3"), "energy": (energy, "none")}
        self.options: Mapping[str, str | int] = {key: now for key, (now, usual) in options.items() if now != usual}
        self.resources: tuple[str, ...] = ("latency", "memory", *(["energy"] if energy != "none" else []))
        self._energy = energy
        self._python = f"~/{shlex.quote(python[2:])}" if python.startswith("~/") else shlex.quote(python)
        self._limit_s = limit_s
        self._connection = SshConnection(found["v6"] or found["host"], found["user"], port)
        self.exclusive = self._connection.is_this_machine()
        self._script: str | None = None
        self._machine: Machine | None = None
        self._sensor: _Sensor | None = None
        self._versions: dict[str, str] = {}

    def identity(self, runtime: Runtime) -> Mapping[str, str]:
        """Return the device's board or processor with its architecture, and the version of the runtime there.

        Raises:
            PlatformError: the device cannot be reached, lacks the runtime or the sensor, or has too few cores.
        """
        if runtime.name not in self._versions:
            self._identify(runtime)
        return {"device": str(self._machine), "version": self._versions[runtime.name]}

    def _identify(self, runtime: Runtime) -> None:
        found = self._identified(runtime.name)
        if self._sensor is not None:
            self.options = {**self.options, "energy": self._sensor.name}
        self._versions[runtime.name] = self._version(runtime, found)
        if self.threads > found.machine.cores:
            raise PlatformError(
                f"threads={self.threads}: allowed are 1 to {found.machine.cores}, the cores that {self.name} may use."
            )

    def _identified(self, runtime: str | None, packages: Sequence[str] = ()) -> _Identified:
        """Ask the device what and how it is."""
        request = {"do": "identify", "runtime": runtime, "packages": list(packages), "energy": self._energy}
        found = self._ask(request, _Identified, limit_s=_GRACE_S)
        self._same(found.machine)
        self._check_sensor(found)
        return found

    def session(self, runtime: Runtime, artifact: Artifact, *, seconds: float, warmups: int) -> Reading:
        """Time ``artifact`` in a fresh process there, while no other host measures.

        Raises:
            PlatformError: the device cannot be reached or lacks the runtime, the runtime cannot run the file, or the
                file's suffix cannot be sent.
            SessionLost: the process there died, or its sensor could not be read.
            MeasurementUnusable: the session took longer than the limit or needed no more power than the idle device, or
                other hosts measured all the time.
        """
        file = artifact_of(artifact.path)  # its content counts, whatever it was called
        names = {_device_name(file, path): path for path in file.files}
        self.identity(runtime)
        request = {
            "do": "measure",
            "runtime": runtime.name,
            "options": dict(runtime.options),
            "files": list(names),
            "seconds": seconds,
            "warmups": warmups,
            "threads": self.threads,
            "limit_s": self._limit_s,
            "wait_s": WAIT_S,
            "energy": self._energy,
            "shared": not self.exclusive,  # else the stopwatch of this process holds that lock
        }
        answer = self._patiently(request)
        if answer.missing is not None:
            for (sha256, suffix), path in names.items():
                if sha256 in answer.missing:
                    self._push(path, sha256, suffix)
            answer = self._patiently(request)
        return self._reading(runtime, file, seconds, answer)

    def _patiently(self, request: Mapping[str, Any]) -> _Measured:
        """Ask until no other host measures."""
        deadline, told = time.monotonic() + BUSY_S, False
        # Two processes are timed, the empty runtime for its memory and the file; with energy this one may be repeated.
        limit_s = (2 if self._energy == "none" else 3) * self._limit_s + _GRACE_S
        while (answer := self._ask(request, _Measured, limit_s=limit_s)).busy is not None:
            if time.monotonic() > deadline:
                raise MeasurementUnusable(
                    f"waited {BUSY_S:g} s for others who measure on {self.name} (lock file {answer.busy} there). "
                    "Wait for them or end them, then repeat the command."
                )
            if not told:
                _log.warning("waiting for others who measure on %s", self.name)
                told = True
        return answer

    def _reading(self, runtime: Runtime, file: Artifact, seconds: float, answer: _Measured) -> Reading:
        """Return what was measured once all is checked."""
        tail = f"\n{answer.stderr}" if answer.stderr else ""
        if answer.missing is not None:
            raise PlatformError(f"{self.name} lost {file.path.name} as soon as it had it; is its disk full?")
        if answer.error is not None and answer.version is not None:
            raise PlatformError(f"{runtime.name} on {self.name} cannot run {file.path.name}: {answer.error}{tail}")
        version = self._version(runtime, answer)
        if answer.machine is not None:
            self._same(answer.machine)
        if version != self._versions[runtime.name]:
            raise PlatformError(
                f"{runtime.name} on {self.name} was version {self._versions[runtime.name]} and is {version} now; "
                "timings of both do not compare. Start again."
            )
        if answer.timeout is not None:
            raise MeasurementUnusable(
                f"{runtime.name} did not finish a session of {file.path.name} on {self.name} within {self._limit_s:g} "
                f"s; is the device overloaded? Otherwise use a smaller network or write limit_s=SECONDS.{tail}"
            )
        if answer.died is not None:
            raise SessionLost(
                f"the {runtime.name} session of {file.path.name} on {self.name} died with status {answer.died} "
                f"(-9: killed, usually for want of memory).{tail}"
            )
        if answer.unusable is not None:
            raise MeasurementUnusable(f"{self.name}: {answer.unusable}")
        if answer.lost is not None:
            raise SessionLost(f"{self.name}: {answer.lost}")
        self._check_sensor(answer)
        if answer.latency_ms is None or ("energy" in self.resources and answer.energy_mj is None):
            wanted = "latencies and energy" if "energy" in self.resources else "latencies"
            raise PlatformError(f"{self.name} answered a session of {seconds:g} s without {wanted}.{tail}")
        return reading_of(answer.model_dump())

    def _check_sensor(self, answer: _WithVersion) -> None:
        """Check that the device has the sensor asked for, and that it sees what it saw before.

        Raises:
            PlatformError: it has not, or sees something else.
        """
        if answer.no_sensor is not None:
            raise PlatformError(f"{self.name}: {answer.no_sensor}")
        self._sensor = self._sensor or answer.sensor
        if answer.sensor != self._sensor:
            raise PlatformError(
                f"{self.name} measured energy with {self._sensor} and now with {answer.sensor}; these do not compare. "
                "See that its sensor stays the same, and start again."
            )

    def _version(self, runtime: Runtime, answer: _WithVersion) -> str:
        """Return the version of the runtime there, or say how to get it."""
        if answer.lacking is not None:
            package = answer.lacking.partition(".")[0].replace("_", "-")
            raise PlatformError(
                f"{self.name} has no {answer.lacking}, which {runtime.name} needs; run there: "
                f"{answer.executable or 'python3'} -m pip install {package}\n"
                "(or name a Python that has it: python=PATH)"
            )
        if answer.error is not None:
            raise PlatformError(f"{runtime.name} on {self.name} does not start: {answer.error}")
        if answer.version is None:
            raise PlatformError(f"{self.name} does not say which {runtime.name} it has.")
        return answer.version

    def _same(self, machine: Machine) -> None:
        """Check that the device is the one that it was."""
        self._machine = self._machine or machine
        if machine != self._machine:
            raise PlatformError(
                f"{self.name} was {self._machine} with {self._machine.cores} cores and Python {self._machine.python}, "
                f"and is now {machine} with {machine.cores} cores and Python {machine.python}; timings of both do not "
                "compare. See that the name always leads to the same device, and start again."
            )

    def environment(self, runtime: Runtime) -> Mapping[str, Any]:
        """Return a snapshot of the device's state.

        Raises:
            PlatformError: the device cannot be reached.
        """
        found = self._identified(None, [*runtime.distributions, "numpy"])
        board = {"board": found.machine.board} if found.machine.board else {}
        energy = {"energy": {"sensor": found.sensor.name, "channels": found.sensor.channels}} if found.sensor else {}
        return {**found.state, **board, **energy, "memory_mb": found.machine.memory_mb}

    def _push(self, path: Path, sha256: str, suffix: str) -> None:
        """Store a file on the device."""
        content = path.read_bytes()
        request = {"do": "put", "sha256": sha256, "suffix": suffix, "size": len(content)}
        self._ask(request, _Empty, limit_s=_PUSH_S, content=content)

    def _ask(
        self, request: Mapping[str, Any], model: type[_Answer], *, limit_s: float, content: bytes = b""
    ) -> _Answer:
        """Send one request to the scripts on the device, which are pushed first if they are not there."""
        said = json.dumps(request).encode() + b"\n" + content
        known = self._script is not None
        outcome = self._run_script(said, limit_s)
        if known and outcome.status == _CANNOT_OPEN:  # somebody has emptied the folder there
            self._script = None
            outcome = self._run_script(said, limit_s)
        return self._checked(outcome, model, limit_s)

    def _run_script(self, said: bytes, limit_s: float) -> Outcome:
        if self._script is None:
            self._script = self._push_scripts()
        return self._connection.run(f"exec {self._python} {shlex.quote(self._script)}", said, limit_s=limit_s)

    def _push_scripts(self) -> str:
        """Store the archive of scripts on the device unless it is there, and return its path there."""
        archive, source = script_archive(), receiver_source()
        code = shlex.quote(_BOOTSTRAP.format(size=len(source)))
        command = f"exec {self._python} -I -c {code} {hashlib.sha256(archive).hexdigest()} .pyz"
        for size, content in ((0, b""), (len(archive), archive)):
            outcome = self._connection.run(f"{command} {size}", source + content, limit_s=_PUSH_S)
            if (path := self._checked(outcome, _Stored, _PUSH_S).path) is not None:
                return path
        raise PlatformError(f"{self.name} did not store the measuring scripts; is its disk full?")

    def _checked(self, outcome: Outcome, model: type[_Answer], limit_s: float) -> _Answer:
        """Return what a command answered."""
        tail = f"\n{outcome.tail}" if outcome.tail else ""
        if outcome.ended == "too slow":
            raise MeasurementUnusable(f"{self.name} gave no answer within {limit_s:g} s.{tail}")
        if outcome.ended == "too much":
            raise PlatformError(f"{self.name} answered more than {MOST_BYTES} bytes, which our scripts never do.{tail}")
        if outcome.status in (126, 127):
            raise PlatformError(f"{self.name} cannot run {self._python}; name its Python 3: python=PATH.{tail}")
        if outcome.status != 0:
            raise PlatformError(f"the measuring script on {self.name} failed with status {outcome.status}.{tail}")
        try:
            return read_answer(outcome.output, model)
        except BadAnswer as error:
            raise PlatformError(
                f"{self.name} gave {error}. Does a start-up file of its shell print something (.bashrc)?{tail}"
            ) from error

    def close(self) -> None:
        """End the connection; idempotent."""
        self._connection.close()


def _device_name(network: Artifact, path: Path) -> tuple[str, str]:
    """Return the name of one of a network's files on the device: its hash, and a suffix, which a runtime may go by.

    Companions keep the names that the network's first file knows them by, which begin with their hashes.

    Raises:
        PlatformError: a suffix that the device does not take.
    """
    sha256 = network.sha256 if path == network.path else path.name[: len(network.sha256)]
    suffix = path.name[len(sha256) :] if path.name.startswith(sha256) else path.suffix
    return sha256, sendable(suffix)
