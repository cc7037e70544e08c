"""The runtime makers' own benchmark programs on a device: how they are called, and what they print.

`adb.py` runs them. They are put on the device by its user, because they are built for its processor. What they print
is read strictly: any other answer is an error, never a guess.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from netadapt.errors import PlatformError
from netadapt.platforms.artifacts import manifest_of
from netadapt.platforms.base import Artifact

FOLDER = "/data/local/tmp/netadapt"
Cores = Literal["big", "little", "all"]


@dataclass(frozen=True)
class Job:
    """One session of one network.

    Attributes:
        artifact: what the runtime compiled.
        model: path on the device of the file that `BenchmarkProgram.file` names.
        threads: of one inference.
        cores: the kind of processors that may be used.
        mask: of these processors, one bit each; 0 for all.
        seconds: to time after the warm-up.
        warmups: inferences before timing.
        options: of the runtime.
        expected_ms: latency of this network as measured before, if it was.
        limit_s: seconds after which the program must end by itself.
    """

    artifact: Artifact
    model: str
    threads: int
    cores: Cores
    mask: int
    seconds: float
    warmups: int
    options: Mapping[str, Any]
    expected_ms: float | None
    limit_s: float


class BenchmarkProgram(ABC):
    """A program that times one network.

    Attributes:
        name: of the program's file.
        dtype: in which it computes, where that is not the runtime's to say.
        source: where its user gets it.
    """

    name: str
    dtype: str | None = None
    source: str

    @abstractmethod
    def file(self, artifact: Artifact) -> Path:
        """Return the one file of an artifact that the program needs."""

    @abstractmethod
    def arguments(self, program: str, job: Job) -> list[str]:
        """Return the command, beginning with ``program`` or what pins it to processors.

        Raises:
            PlatformError: the program cannot do what the runtime's options ask for.
        """

    @abstractmethod
    def latency_ms(self, output: str, job: Job) -> float:
        """Return the mean latency of one inference that the program printed.

        Raises:
            PlatformError: the output is not what the program prints when all went well.
        """

    def needs_longer(self, latency_ms: float, job: Job) -> bool:
        """Return whether the run was shorter than asked for, because its length had to be guessed."""
        del latency_ms, job
        return False


class BenchmarkModel(BenchmarkProgram):
    """The TFLite makers' ``benchmark_model``, with XNNPACK."""

    name = "benchmark_model"
    source = "https://ai.google.dev/edge/litert/models/measurement (native benchmark binary)"
    _RESULT = re.compile(
        r"(?:INFO: )?Inference timings in us: Init: [^ ,]+, First inference: [^ ,]+, "
        r"Warmup \(avg\): [^ ,]+, Inference \(avg\): ([^ ,]+)"
    )

    def file(self, artifact: Artifact) -> Path:
        """Return the ``.tflite`` file."""
        return artifact.path

    def arguments(self, program: str, job: Job) -> list[str]:
        """Return the command; ``taskset`` pins it."""
        _refuse_options(job.options, self.name, allowed=())
        pinned = ["taskset", f"{job.mask:x}"] if job.mask else []
        return [
            *pinned,
            program,
            f"--graph={job.model}",
            f"--num_threads={job.threads}",
            "--num_runs=3",
            f"--min_secs={job.seconds:g}",
            f"--max_secs={job.limit_s:g}",
            f"--warmup_runs={job.warmups}",
            "--warmup_min_secs=0.5",  # the maker's own value: clocks of phones take that long to rise
            "--use_xnnpack=true",
        ]

    def latency_ms(self, output: str, job: Job) -> float:
        """Return the average after the warm-up."""
        del job
        results = [match for line in output.splitlines() if (match := self._RESULT.fullmatch(line.strip()))]
        if len(results) != 1:
            raise PlatformError(f"{self.name} did not print one line of inference timings:\n{_tail(output)}")
        return _number(results[0][1], output, self.name) / 1000


class BenchNcnn(BenchmarkProgram):
    """The ncnn makers' ``benchncnn``: weights are zero, and float16 is used wherever the device has it."""

    name = "benchncnn"
    dtype = "float16"
    source = "https://github.com/Tencent/ncnn/tree/master/benchmark (build it for the device)"
    #: benchncnn prints hundredths of a millisecond; more runs than that resolves are in vain, fewer say little
    FEWEST_LOOPS, MOST_LOOPS = 8, 10_000
    _POWERSAVE: Mapping[Cores, int] = {"all": 0, "little": 1, "big": 2}
    _RESULT = re.compile(r"\s*(\S+)\s+min =\s*(\S+)\s+max =\s*(\S+)\s+avg =\s*(\S+)\s*")

    def file(self, artifact: Artifact) -> Path:
        """Return the ``.param`` file, which is all that it reads."""
        for path in artifact.companions:
            if path.suffix == ".param":
                return path
        raise PlatformError(f"{artifact.path.name} names no .param file; compile it with ncnn.")

    def loops(self, job: Job) -> int:
        """Return how many inferences take about the seconds asked for; few while the latency is not known."""
        if job.expected_ms is None:
            return self.FEWEST_LOOPS
        return min(self.MOST_LOOPS, max(self.FEWEST_LOOPS, math.ceil(1000 * job.seconds / job.expected_ms)))

    def arguments(self, program: str, job: Job) -> list[str]:
        """Return the command; it pins itself, and would undo what ``taskset`` did. It warms up 8 times."""
        _refuse_options(job.options, self.name, allowed=("vulkan",))
        gpu = 0 if job.options.get("vulkan") else -1
        shapes = [_whc(entry) for entry in manifest_of(job.artifact.path)["inputs"]]
        return [
            program,
            str(self.loops(job)),
            str(job.threads),
            str(self._POWERSAVE[job.cores]),
            str(gpu),
            "0",  # it would sleep for 10 s whatever the temperature
            f"param={job.model}",
            f"shape={','.join(shapes)}",
        ]

    def latency_ms(self, output: str, job: Job) -> float:
        """Return the average of the loops."""
        command = self.arguments(self.name, job)
        header = dict(
            zip(("loop_count", "num_threads", "powersave", "gpu_device", "cooling_down"), command[1:6], strict=True)
        )
        expected = {f"{key} = {value}" for key, value in header.items()}
        lines = [line.strip() for line in output.splitlines() if line.strip()]
        if job.options.get("vulkan"):
            lines = [line for line in lines if not line.startswith("[")]  # what the Vulkan device is
        # What it cannot load it times all the same, in no time, and only says so on a line of its own.
        others = [line for line in lines if line not in expected]
        match = self._RESULT.fullmatch(others[0]) if len(others) == 1 else None
        if match is None or match[1] != job.model or not expected <= set(lines):
            raise PlatformError(f"{self.name} printed other lines than its settings and one result:\n{_tail(output)}")
        low, high, average = (_number(text, output, self.name) for text in match.groups()[1:])
        if not low <= average <= high:
            raise PlatformError(f"{self.name} printed an average outside its range:\n{_tail(output)}")
        return average

    def needs_longer(self, latency_ms: float, job: Job) -> bool:
        """Return whether the loops took less than half the time asked for."""
        loops = self.loops(job)
        return loops < self.MOST_LOOPS and loops * latency_ms < 500 * job.seconds


PROGRAMS: Mapping[str, BenchmarkProgram] = {"litert": BenchmarkModel(), "ncnn": BenchNcnn()}


def _refuse_options(options: Mapping[str, Any], program: str, allowed: Sequence[str]) -> None:
    if foreign := sorted(set(options) - set(allowed)):
        raise PlatformError(
            f"{program} on a device has no {', '.join(foreign)}; leave it out, or measure on this machine."
        )


def _whc(entry: Mapping[str, Any]) -> str:
    """Return an input's shape in ncnn's order, width first and without the batch.

    Raises:
        PlatformError: its batch is not 1.
    """
    shape, axis = list(entry["shape"]), entry["batch_axis"]
    if axis is not None and shape.pop(axis) != 1:
        raise PlatformError(f"benchncnn has no batch, and the input {entry['name']!r} has shape {entry['shape']}.")
    return f"[{','.join(str(size) for size in reversed(shape))}]"


def _number(text: str, output: str, program: str) -> float:
    """Return a positive finite number."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise PlatformError(f"{program} printed {text!r} where a time above 0 must stand:\n{_tail(output)}")
    return value


def _tail(output: str) -> str:
    return output.strip()[-1000:]
