"""Any program that times a model file: ``command:./measure.sh?resources=latency,energy``.

The program gets the file's path as its last argument, and in the environment ``NETADAPT_SECONDS`` and
``NETADAPT_WARMUPS``, how long and after how many inferences it should time. It prints one JSON object on standard
output: ``latency_ms`` (a number, or a list with one per slice of time), and where it can ``energy_mj`` (millijoules per
inference, idle power subtracted) and ``memory_mb``; whatever else the object holds is kept in the record of the
measurement. Everything else belongs on standard error; an exit status other than 0 means that it failed.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from netadapt.errors import MeasurementUnusable, PlatformError, SessionLost, did_you_mean
from netadapt.platforms.assembled import checked_widths
from netadapt.platforms.base import Artifact, Reading
from netadapt.platforms.devices.answers import MOST_BYTES, BadAnswer, Finite, NotNegative, Positive, read_answer
from netadapt.platforms.devices.program import Outcome, run_program
from netadapt.platforms.environment import package_version

if TYPE_CHECKING:
    from torch import nn

    from netadapt.network import Network

#: which runtime writes the files of a format
FORMATS = {"onnx": "onnxruntime", "tflite": "litert", "pte": "executorch"}
RESOURCES = ("latency", "energy", "memory")


class Printed(BaseModel):
    """What a measuring program prints."""

    model_config = ConfigDict(strict=True, extra="allow", frozen=True)

    latency_ms: Annotated[list[Positive], Field(min_length=1)] | Positive
    energy_mj: Finite | None = None
    memory_mb: NotNegative | None = None


class CommandPlatform:
    """Times files with a program of the user's.

    Args:
        address: the program and its arguments, quoted as for a shell but never given to one. A path is taken from the
            current folder.
        format: of the files that it gets: ``onnx``, ``tflite`` or ``pte`` (ExecuTorch with XNNPACK); what writes the
            last two must be installed here.
        resources: what it prints in every answer, separated by commas; ``latency`` is always among them.
        limit_s: seconds after which a session is given up.
        exclusive: whether it uses this machine, which must then do nothing else; ``false`` for a program that only
            talks to another device.

    Raises:
        PlatformError: there is no such program, an argument is wrong, or what writes the format is not installed.
    """

    description = "command:PROGRAM, any program that times a model file and prints JSON (latency, energy, memory)"

    def __init__(
        self,
        address: str = "",
        *,
        format: str = "onnx",  # the user's word
        resources: str = "latency",
        limit_s: float = 300.0,
        exclusive: bool = True,
    ) -> None:
        from netadapt.platforms.registry import make_runtime

        given = _split(address)
        if format not in FORMATS:
            raise PlatformError(f"command: format={format!r}{did_you_mean(format, list(FORMATS))}; {_list(FORMATS)}.")
        if not limit_s > 0:
            raise PlatformError(f"command: limit_s={limit_s:g}: allowed are seconds above 0.")
        self.resources = _resources(resources)
        self.exclusive = exclusive
        self._argv = [str(_program(given[0])), *given[1:]]
        self._folder, self._format, self._limit_s = Path.cwd(), format, limit_s
        self._recorded: dict[str, Any] = {}
        self._runtime = make_runtime(FORMATS[format])
        self.costly: bool = getattr(self._runtime, "costly", False)
        rest = "" if exclusive else "&exclusive=false"
        self.name = f"command:{shlex.join(given)}?format={format}&resources={','.join(self.resources)}{rest}"

    def fingerprint(self) -> Mapping[str, str | int]:
        """Return the program with its arguments and content, and the form of our files.

        A program that is edited counts as another platform: nobody can know what the edit did to the numbers.
        """
        return {
            "device": "command",
            "program": shlex.join(self._argv),
            "content": self._content(),
            "runtime": self._runtime.name,
            "version": package_version(self._runtime.distributions[0]),
            "dtype": self._runtime.dtype,
            "form": self._runtime.form,
        }

    def _content(self) -> str:
        """Return a hash of the program and of all arguments that are files."""
        digest = hashlib.sha256()
        for argument in self._argv:
            path = self._folder / argument
            if path.is_file() and path.stat().st_size < 1 << 28:
                digest.update(hashlib.sha256(path.read_bytes()).digest())
        return digest.hexdigest()

    def compile(self, model: nn.Module, example_inputs: Any, folder: Path) -> Artifact:
        """Write ``model`` as it stands in the program's format.

        Raises:
            PlatformError: the network cannot be converted.
        """
        return self._runtime.compile(model, example_inputs, folder)

    def compile_widths(self, network: Network, widths: Mapping[str, int], folder: Path) -> Artifact:
        """Write ``network`` with the first ``widths`` units of each group; for timing only.

        Raises:
            PlatformError: an unknown group, a width out of range, or a network that cannot be converted.
        """
        return self._runtime.compile_widths(network, checked_widths(network, widths), folder)

    def session(self, artifact: Artifact, *, seconds: float, warmups: int) -> Reading:
        """Let the program time ``artifact``.

        Raises:
            PlatformError: the program cannot be started, or printed something else than it must.
            SessionLost: it failed, be it that it lost its device.
            MeasurementUnusable: it took longer than the limit.
        """
        if not artifact.path.is_file():
            raise PlatformError(f"there is no file {artifact.path}; give a file that {self._argv[0]} can load.")
        try:
            outcome = run_program(
                [*self._argv, str(artifact.path.resolve())],
                limit_s=self._limit_s,
                most_bytes=MOST_BYTES,
                environment={"NETADAPT_SECONDS": f"{seconds:g}", "NETADAPT_WARMUPS": str(warmups)},
                folder=self._folder,
            )
        except OSError as error:
            raise PlatformError(
                f"{self._argv[0]} cannot be started: {error}. A script must begin with a line like #!/bin/sh."
            ) from error
        printed = self._printed(outcome, artifact)
        self._recorded = dict(printed.model_extra or {})
        latencies = printed.latency_ms if isinstance(printed.latency_ms, list) else [printed.latency_ms]
        return Reading(tuple(latencies), energy_mj=printed.energy_mj, memory_mb=printed.memory_mb)

    def _printed(self, outcome: Outcome, artifact: Artifact) -> Printed:
        """Return what the program printed once all is checked."""
        program, file = Path(self._argv[0]).name, artifact.path.name
        tail = f"\n{outcome.tail}" if outcome.tail else ""
        if outcome.ended == "too slow":
            raise MeasurementUnusable(
                f"{program} did not finish a session of {file} within {self._limit_s:g} s and was ended; "
                f"if it needs longer write limit_s=SECONDS.{tail}"
            )
        if outcome.ended == "too much":
            raise PlatformError(
                f"{program} printed more than {MOST_BYTES} bytes on standard output and was ended; it must print one "
                f"JSON object, and everything else on standard error.{tail}"
            )
        if outcome.status != 0:
            raise SessionLost(f"{program} failed on {file} with status {outcome.status}.{tail}")
        try:
            printed = read_answer(outcome.output, Printed)
        except BadAnswer as error:
            raise PlatformError(
                f'{program} must print one JSON object like {{"latency_ms": 12.5}} on standard output, and everything '
                f"else on standard error; it printed {error}{tail}"
            ) from error
        given = {"latency": printed.latency_ms, "energy": printed.energy_mj, "memory": printed.memory_mb}
        if missing := [name for name in self.resources if not _above_zero(given[name])]:
            raise PlatformError(
                f"{program} was said to measure {', '.join(self.resources)}, but gave no {' and no '.join(missing)} "
                f"above 0 for {file}; mend it, or take the word out of resources=."
            )
        return printed

    def environment(self) -> Mapping[str, Any]:
        """Return the program and what else it printed in its last session."""
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        return {"time": now, "program": list(self._argv), **({"recorded": self._recorded} if self._recorded else {})}

    def close(self) -> None:
        """Forget what was kept for conversions; idempotent."""
        self._runtime.close()


def _above_zero(given: list[float] | float | None) -> bool:
    """Tell whether a resource was given; latencies in lists are all positive."""
    return isinstance(given, list) or (given is not None and given > 0)


def _split(address: str) -> list[str]:
    try:
        given = shlex.split(address)
    except ValueError as error:
        raise PlatformError(f"command:{address}: {error}; quote it as for a shell.") from error
    if not given:
        raise PlatformError("command: names no program; write e.g. command:./measure.sh.")
    return given


def _program(name: str) -> Path:
    """Return where the program lies."""
    if "/" not in name:
        if (found := shutil.which(name)) is None:
            raise PlatformError(
                f"command: there is no program {name!r} in PATH; for one in this folder write ./{name}."
            )
        return Path(found).absolute()
    path = Path(name).expanduser().absolute()
    if not path.is_file():
        raise PlatformError(f"command: there is no program {name} (looked for {path}).")
    if not os.access(path, os.X_OK):
        raise PlatformError(f"command: {name} may not be executed; run: chmod +x {shlex.quote(name)}")
    return path


def _resources(text: str) -> tuple[str, ...]:
    """Return the resources in their usual order."""
    words = [word.strip() for word in text.split(",")]
    for word in words:
        if word not in RESOURCES:
            hint = did_you_mean(word, list(RESOURCES))
            raise PlatformError(f"command: resources={text!r}: {word!r} is unknown{hint}; {_list(RESOURCES)}.")
    if "latency" not in words:
        raise PlatformError(
            f"command: resources={text!r} lacks latency, by which noise and drift are judged; print it and name it."
        )
    return tuple(name for name in RESOURCES if name in words)


def _list(allowed: Mapping[str, str] | tuple[str, ...]) -> str:
    return f"allowed: {', '.join(allowed)}"
