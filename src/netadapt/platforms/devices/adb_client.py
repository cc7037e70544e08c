"""Talks to one Android device through the ``adb`` program: shell commands, files, and which errors are worth a retry.

Commands are lists of arguments, never strings for a shell of this machine; `adb.py` is the only caller.
"""

from __future__ import annotations

import hashlib
import logging
import re
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from netadapt.errors import MeasurementUnusable, PlatformError
from netadapt.platforms.artifacts import sendable

_log = logging.getLogger("netadapt")
_Done = subprocess.CompletedProcess[bytes]

ATTEMPTS = 3
RETRY_S = 0.5  # before the second attempt; doubled before the third
SHORT_S = 60.0  # for commands that read or remove something
PUSH_S = 600.0
LARGEST_ANSWER = 1 << 20  # bytes
_SERIAL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,99}")
# Older devices do not hand on the exit status of a command, so it comes as the last line.
_STATUS = re.compile(r"\nnetadapt-status:(\d+)\s*\Z")
_STATES = {
    "unauthorized": "it has not allowed debugging from this computer: unlock it and confirm the question on its screen",
    "offline": "it does not answer: unplug it, plug it in again, then run: adb reconnect offline",
    "no permissions": "this user may not open its USB port: see https://developer.android.com/tools/device",
    "recovery": "it is in recovery mode: start Android",
    "sideload": "it waits for an update: start Android",
    "bootloader": "it is in its boot loader: start Android",
}


class AdbClient:
    """One device.

    Args:
        serial: as ``adb devices`` lists it; empty for the only device there is.

    Raises:
        PlatformError: no device can have this serial.
    """

    def __init__(self, serial: str = "") -> None:
        if serial and not _SERIAL.fullmatch(serial):
            raise PlatformError(f"{serial!r} is no serial of an Android device; the command adb devices lists them.")
        self._given = serial
        self._serial: str | None = None

    @property
    def serial(self) -> str:
        """Return the device's serial, after making sure that it is connected and allows debugging.

        Raises:
            PlatformError: it is not there, or there are several to choose from, or adb is not installed.
        """
        if self._serial is None:
            states = self._states()
            if not self._given and len(states) != 1:
                found = ", ".join(states) or "none"
                raise PlatformError(
                    f"adb without a serial needs exactly one connected device; there are: {found}. "
                    "Connect one, or write adb://SERIAL/RUNTIME."
                )
            serial = self._given or next(iter(states))
            if serial not in states:
                raise PlatformError(
                    f"adb sees no device {serial!r}; connected are: {', '.join(states) or 'none'}. Is it plugged in, "
                    "with USB debugging switched on in its developer options?"
                )
            self._check_state(serial, states[serial])
            self._serial = serial
        return self._serial

    def _states(self) -> dict[str, str]:
        """Return the state of each connected device."""
        done = self._adb(["devices"], SHORT_S)
        if done.returncode != 0:
            raise PlatformError(f"adb devices failed with status {done.returncode}: {_text(done.stderr)}")
        lines = [line.split(None, 1) for line in _text(done.stdout).splitlines()]
        return {line[0]: line[1] for line in lines if len(line) == 2 and line[0] not in ("List", "*")}

    def _check_state(self, serial: str, state: str) -> None:
        if state != "device":
            what = next((text for key, text in _STATES.items() if state.startswith(key)), "it must be in state device")
            raise PlatformError(f"the device {serial} is {state}; {what}.")

    def shell(self, command: str, *, limit_s: float = SHORT_S) -> tuple[int, str]:
        """Run a command in the device's shell and return its exit status and output, errors included.

        Args:
            command: for ``sh``; the caller quotes.
            limit_s: seconds after which it is given up; a program on the device may go on, as it may whenever the
                connection is lost.

        Raises:
            PlatformError: the device could not be reached in three attempts, or answered more than 1 MiB.
            MeasurementUnusable: it took longer than the limit.
        """
        script = f"{{ {command}\n}} 2>&1; printf '\\nnetadapt-status:%d\\n' $?"
        done = self._retried(["shell", script], limit_s, lambda done: _STATUS.search(_text(done.stdout)) is not None)
        output = _text(done.stdout)
        match = _STATUS.search(output)
        assert match is not None
        return int(match[1]), output[: match.start()]

    def push(self, local: Path, folder: str) -> str:
        """Copy a file to ``folder`` on the device, named by its content, unless it is there; return its path.

        Raises:
            PlatformError: it cannot be copied, does not arrive whole, or has a suffix that is not sent.
        """
        with local.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        path = f"{folder}/{digest}{sendable(local.suffix)}"
        if self._sha256(path) == digest:
            return path
        part = f"{path}.part"
        self._checked(f"mkdir -p {folder}")
        self._retried(["push", str(local.resolve()), part], PUSH_S, lambda done: done.returncode == 0)
        if self._sha256(part) != digest:
            self.shell(f"rm -f {part}")
            raise PlatformError(f"{local.name} did not arrive whole on {self.serial}; is its storage full?")
        self._checked(f"mv {part} {path}")
        return path

    def _sha256(self, path: str) -> str:
        _, output = self.shell(f"[ -f {path} ] && sha256sum {path}")
        return output.split(None, 1)[0] if output.strip() else ""

    def _checked(self, command: str) -> None:
        status, output = self.shell(command)
        if status != 0:
            raise PlatformError(f"{self.serial} cannot do {command!r} (status {status}): {output.strip()}")

    def _retried(self, arguments: Sequence[str], limit_s: float, complete: Callable[[_Done], bool]) -> _Done:
        """Run adb until ``complete`` says that the device did its part; only errors of the connection are repeated."""
        what = f"adb {arguments[0]}"
        for attempt in range(1, ATTEMPTS + 1):
            done = self._adb(["-s", self.serial, *arguments], limit_s)
            if len(done.stdout) > LARGEST_ANSWER:
                raise PlatformError(f"{self.serial} answered more than {LARGEST_ANSWER} bytes to {what}.")
            if complete(done):
                return done
            told = (_text(done.stderr).strip() or _text(done.stdout).strip())[-500:] or "the connection closed"
            if "unauthorized" in told:
                self._check_state(self.serial, "unauthorized")
            if "remote " in told:  # the device refused, and will again: no space, no permission
                raise PlatformError(f"{self.serial} refuses {what}: {told}")
            if attempt < ATTEMPTS:
                _log.warning("%s failed and is repeated: %s", what, told)
                time.sleep(RETRY_S * 2 ** (attempt - 1))
        raise PlatformError(
            f"{what} did not get through to {self.serial} in {ATTEMPTS} attempts (status {done.returncode}): {told}. "
            "Check the cable, then repeat the command."
        )

    def _adb(self, arguments: Sequence[str], limit_s: float) -> _Done:
        try:
            return subprocess.run(
                ["adb", *arguments], stdin=subprocess.DEVNULL, capture_output=True, timeout=limit_s, check=False
            )
        except FileNotFoundError:
            raise PlatformError(
                "the program adb is not installed or not in PATH; it comes with Android's platform tools "
                "(https://developer.android.com/tools/releases/platform-tools, Debian and Ubuntu: apt install adb)."
            ) from None
        except subprocess.TimeoutExpired:
            raise MeasurementUnusable(
                f"adb {arguments[2] if arguments[0] == '-s' else arguments[0]} gave no answer within {limit_s:g} s; "
                "is the device busy or asleep? Raise limit_s for slower networks."
            ) from None


def _text(output: bytes) -> str:
    return output.decode(errors="replace").replace("\r\n", "\n")
