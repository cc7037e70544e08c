"""An Android device on a USB cable: ``adb://SERIAL/litert`` and ``adb://SERIAL/ncnn``.

A session pushes the network (named by its content), waits until the device is cool, and runs the runtime makers' own
benchmark program, pinned to processors. No program of ours runs there, and nothing listens on a port. A program that
lost its connection to us may go on there: the next one ends it first, as does whoever gives it up.
"""

from __future__ import annotations

import hashlib
import logging
import re
import shlex
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from netadapt.errors import MeasurementUnusable, PlatformError, SessionLost
from netadapt.platforms.base import Artifact, Reading
from netadapt.platforms.devices.adb_client import AdbClient
from netadapt.platforms.devices.adb_programs import FOLDER, PROGRAMS, BenchmarkProgram, Cores, Job
from netadapt.platforms.lock import MeasuringLock, lock_path
from netadapt.platforms.parts import Runtime

_log = logging.getLogger("netadapt")
_COOL_POLL_S = 2.0
_KILLED = range(129, 193)  # what a shell says of a program that a signal ended
_KINDS: tuple[Cores, ...] = ("big", "little", "all")
_PROPERTIES = ("ro.product.model", "ro.board.platform", "ro.build.version.release")
_CORES = r'for f in /sys/devices/system/cpu/cpu[0-9]*/cpufreq/cpuinfo_max_freq; do echo "$f $(cat "$f")"; done'
_CORE = re.compile(r"/sys/devices/system/cpu/cpu(\d+)/cpufreq/cpuinfo_max_freq (\d+)")
_ZONES = r'for z in /sys/class/thermal/thermal_zone*; do echo "$(cat "$z/type") $(cat "$z/temp")"; done 2>/dev/null'
_RUNNING = f"{FOLDER}/running"  # holds the process of the program that was started last, and stays when it has ended
_OURS = " ".join(f"-e {program.name}" for program in PROGRAMS.values())
_END = f"p=$(cat {_RUNNING} 2>/dev/null) && grep -qs {_OURS} /proc/$p/cmdline && kill -9 $p 2>/dev/null"
_START = f'echo $$ >{_RUNNING} && exec "$@"'
_END_S = 10.0  # to reach a device that has just been given up
# Of the many zones those at the processors; "soc" is the battery's charge on some devices.
_PROCESSOR_ZONE = re.compile(r"cpu|cluster|\b(big|mid|little)\b", re.IGNORECASE)


class Adb:
    """Times files on an Android device.

    Args:
        address: ``//SERIAL`` as `adb devices` lists it; empty for the only device there is.
        threads: of one inference.
        cores: ``big``, ``little`` or ``all``: the processors that may be used. ``benchmark_model`` is pinned to the
            ``threads`` fastest of them, ``benchncnn`` to all of them.
        below_c: degrees Celsius at the processors below which a session may begin.
        cool_s: seconds to wait for that at most.
        limit_s: seconds after which a session is given up.
        allow_tcp: accept a ``HOST:PORT`` serial. That connection is neither encrypted nor authenticated.

    Raises:
        PlatformError: an argument that cannot be.
    """

    description = "adb://SERIAL/litert or ncnn, an Android phone with the maker's benchmark program"
    programs: Mapping[str, str] = {"adb": "apt install adb"}
    exclusive = False
    resources: tuple[str, ...] = ("latency",)
    runtimes = tuple(PROGRAMS)

    def __init__(
        self,
        address: str = "",
        *,
        threads: int = 1,
        cores: str = "big",
        below_c: float = 50.0,
        cool_s: float = 120.0,
        limit_s: float = 300.0,
        allow_tcp: bool = False,
    ) -> None:
        serial = address.removeprefix("//") if address != "/" else ""
        if ":" in serial and not allow_tcp:
            raise PlatformError(
                f"{serial} is a connection over the network, open to everybody on it; "
                "use the USB cable, or add allow_tcp=true in a network that you trust."
            )
        if not 1 <= threads <= 64:
            raise PlatformError(f"threads={threads}: allowed are 1 to 64.")
        kinds = {kind: kind for kind in _KINDS}
        if cores not in kinds:
            raise PlatformError(f"cores={cores!r}: allowed are {', '.join(_KINDS)}.")
        for key, value in {"below_c": below_c, "cool_s": cool_s, "limit_s": limit_s}.items():
            if not value > 0:
                raise PlatformError(f"{key}={value:g}: allowed are numbers above 0.")
        self.name = f"adb://{serial}" if serial else "adb"
        self.threads = threads
        self.options: Mapping[str, str | int] = {} if cores == "big" else {"cores": cores}
        self._cores: Cores = kinds[cores]
        self._below_c, self._cool_s, self._limit_s = below_c, cool_s, limit_s
        self._client = AdbClient(serial)
        self._properties: tuple[str, ...] = ()
        self._programs: dict[str, tuple[str, str]] = {}  # runtime -> path and hash
        self._mask: int | None = None
        self._pushed: set[str] = set()
        self._latency_ms: dict[str, float] = {}  # of artifacts timed before, by hash
        self._silent_zones = False
        self._measuring_lock: MeasuringLock | None = None

    def identity(self, runtime: Runtime) -> Mapping[str, str]:
        """Return model, board, Android version and kind of cores, and which benchmark program there is.

        Raises:
            PlatformError: the device is not there, or the program is not on it.
        """
        program = _program(runtime)
        version = f"{program.name} {self._located(program)[1][:12]}"
        identity = {"device": self._device(), "version": version}
        return identity | ({"dtype": program.dtype} if program.dtype else {})

    def _device(self) -> str:
        if not self._properties:
            _, output = self._client.shell("; ".join(f"getprop {name}" for name in _PROPERTIES))
            lines = tuple(line.strip() or "unknown" for line in output.splitlines())
            if len(lines) != len(_PROPERTIES):
                raise PlatformError(f"{self._client.serial} does not tell what it is; getprop gave: {output[:200]!r}.")
            self._properties = lines
        model, board, release = self._properties
        return f"{model} ({board}, Android {release}, {self._cores} cores)"

    def _located(self, program: BenchmarkProgram) -> tuple[str, str]:
        """Return path and hash of the program on the device."""
        if program.name not in self._programs:
            places = (f"{FOLDER}/{program.name}", f"/data/local/tmp/{program.name}")
            tries = " || ".join(f"{{ [ -x {place} ] && sha256sum {place}; }}" for place in places)
            status, output = self._client.shell(tries)
            words = output.split()
            if status != 0 or len(words) != 2 or words[1] not in places or not re.fullmatch("[0-9a-f]{64}", words[0]):
                raise PlatformError(
                    f"the program {program.name} is not on {self._client.serial}, or cannot be executed. "
                    f"Get it for the device's processor ({program.source}), then run:\n"
                    f"  adb -s {self._client.serial} shell mkdir -p {FOLDER}\n"
                    f"  adb -s {self._client.serial} push {program.name} {places[0]}\n"
                    f"  adb -s {self._client.serial} shell chmod +x {places[0]}"
                )
            self._programs[program.name] = words[1], words[0]
        return self._programs[program.name]

    def session(self, runtime: Runtime, artifact: Artifact, *, seconds: float, warmups: int) -> Reading:
        """Time ``artifact``: one run of the benchmark program, which gives one mean.

        Raises:
            PlatformError: the device is gone, lacks the program, or cannot run the file.
            SessionLost: the program was killed.
            MeasurementUnusable: others use the device, it does not cool down, or the session took too long.
        """
        program = _program(runtime)
        file = program.file(artifact)
        if not file.is_file():
            raise PlatformError(f"there is no file {file}; compile the network again.")
        with self._lock().hold(f"{self.name}/{runtime.name}"):
            model = self._client.push(file, FOLDER)
            self._pushed.add(model)
            job = Job(
                artifact=artifact,
                model=model,
                threads=self.threads,
                cores=self._cores,
                mask=self._core_mask(),
                seconds=seconds,
                warmups=warmups,
                options=runtime.options,
                expected_ms=self._latency_ms.get(artifact.sha256),
                limit_s=self._limit_s,
            )
            return Reading(latency_ms=(self._timed(program, job),))

    def _timed(self, program: BenchmarkProgram, job: Job) -> float:
        """Run the program, and again where its length had to be guessed and was too short."""
        self._wait_until_cool()
        latency_ms = self._run(program, job)
        if program.needs_longer(latency_ms, job):
            latency_ms = self._run(program, replace(job, expected_ms=latency_ms))
        self._latency_ms[job.artifact.sha256] = latency_ms
        return latency_ms

    def _run(self, program: BenchmarkProgram, job: Job) -> float:
        command = shlex.join(["sh", "-c", _START, "sh", *program.arguments(self._located(program)[0], job)])
        try:
            # Repeated as a whole where the connection is lost, so that no two of them are timed at once.
            status, output = self._client.shell(f"{_END}; cd {FOLDER} && {command}", limit_s=self._limit_s)
        except BaseException:  # also where the user interrupts us
            with suppress(PlatformError, MeasurementUnusable):
                self._client.shell(_END, limit_s=_END_S)
            raise
        if status != 0:
            raise (SessionLost if status in _KILLED else PlatformError)(
                f"{program.name} on {self._client.serial} ended with status {status} (126: built for another "
                f"processor; 137: killed, usually for want of memory).\n{output.strip()[-1000:]}"
            )
        return program.latency_ms(output, job)

    def _lock(self) -> MeasuringLock:
        """Return the lock on this device for all users of this computer."""
        if self._measuring_lock is None:
            digest = hashlib.sha256(self._client.serial.encode()).hexdigest()[:16]
            self._measuring_lock = MeasuringLock(lock_path().with_name(f"netadapt-adb-{digest}.lock"))
        return self._measuring_lock

    def _core_mask(self) -> int:
        """Return the processors to use, one bit each; 0 for all. Big is what ncnn takes for big.

        Raises:
            PlatformError: the device has too few of them, or does not tell.
        """
        if self._cores == "all":
            return 0
        if self._mask is None:
            _, output = self._client.shell(_CORES)
            clocks = {int(m[1]): int(m[2]) for line in output.splitlines() if (m := _CORE.fullmatch(line.strip()))}
            if not clocks:
                raise PlatformError(f"{self._client.serial} does not tell its processors' clocks; add cores=all.")
            middle = (min(clocks.values()) + max(clocks.values())) // 2
            big = {core for core, clock in clocks.items() if clock >= middle}
            chosen = big if self._cores == "big" else set(clocks) - big
            if len(chosen) < self.threads:
                raise PlatformError(
                    f"threads={self.threads}: {self._client.serial} has {len(chosen)} {self._cores} cores of "
                    f"{len(clocks)}; use fewer threads, or cores=all."
                )
            fastest = sorted(chosen, key=lambda core: (clocks[core], core))[-self.threads :]
            self._mask = sum(1 << core for core in fastest)
        return self._mask

    def temperature_c(self) -> float | None:
        """Return the hottest processor's temperature in degrees Celsius, ``None`` where the device does not tell."""
        _, output = self._client.shell(_ZONES)
        found = []
        for line in output.splitlines():
            kind, _, value = line.strip().rpartition(" ")
            if _PROCESSOR_ZONE.search(kind) and re.fullmatch(r"-?\d+", value):
                degrees = int(value) / 1000 if abs(int(value)) >= 1000 else float(value)
                if 0 < degrees < 130:  # sensors that are off report anything
                    found.append(degrees)
        return max(found, default=None)

    def _wait_until_cool(self) -> None:
        deadline = time.monotonic() + self._cool_s
        while (degrees := self.temperature_c()) is not None and degrees >= self._below_c:
            if time.monotonic() > deadline:
                raise MeasurementUnusable(
                    f"{self._client.serial} still has {degrees:.0f} C at its processors after {self._cool_s:g} s; "
                    f"let it cool, or allow more than below_c={self._below_c:g}."
                )
            time.sleep(min(_COOL_POLL_S, self._cool_s))
        if degrees is None and not self._silent_zones:
            self._silent_zones = True
            _log.warning("%s does not tell its temperature: nothing waits until it is cool", self._client.serial)

    def environment(self, runtime: Runtime) -> Mapping[str, Any]:
        """Return what the device is, its load, governor and temperature, as far as it tells."""
        governor = "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"
        _, load = self._client.shell("cat /proc/loadavg 2>/dev/null")
        status, clock = self._client.shell(f"cat {governor} 2>/dev/null")
        words = load.split()
        seen = {
            "processor": self._device(),
            "versions": {runtime.name: self.identity(runtime)["version"]},
            "temperature_c": self.temperature_c(),
            "load_1_min": float(words[0]) if words and re.fullmatch(r"\d+(\.\d+)?", words[0]) else None,
            "governor": clock.strip() if status == 0 and clock.strip() else None,
        }
        return {key: value for key, value in seen.items() if value is not None}

    def close(self) -> None:
        """Remove the networks that were pushed, as far as the device is still there; idempotent."""
        if self._pushed:
            with suppress(PlatformError, MeasurementUnusable):
                self._client.shell(f"rm -f {shlex.join(sorted(self._pushed))}")
        self._pushed.clear()


def _program(runtime: Runtime) -> BenchmarkProgram:
    if runtime.name not in PROGRAMS:
        raise PlatformError(f"Android devices run {', '.join(PROGRAMS)}, not {runtime.name}.")
    return PROGRAMS[runtime.name]
