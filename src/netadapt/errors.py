"""Every error that netadapt raises on purpose; each message says what, the value, what is allowed, what to do next.

NetAdaptError
├── UsageError                 exit code 2: the input is wrong; nothing has been started
│   ├── ConfigError            a configuration or a command line
│   ├── ModelError             a network that cannot be loaded, traced or saved
│   ├── DataError              images or labels that cannot be used
│   ├── PlatformError          a platform that is unknown, not installed or fails on this network
│   │   └── SessionLost        a session that broke off, perhaps for no fault of the network: worth one more try
│   └── BudgetError            a budget without unit, above the start, of an unknown resource
├── BudgetUnreachable          exit code 3: no network meets the budget; the family so far is kept
├── MeasurementUnusable        exit code 4: the platform is too noisy to decide anything
├── RunDamaged                 exit code 5: a run folder cannot be trusted
├── Interrupted                exit code 130: stopped by a signal; the same command resumes
├── NonFinite                  a loss or a weight is NaN or infinite: a proposal fails, not the run
└── SurgeryError               a shrunk network does not equal the masked original: a defect, never hidden
"""

from __future__ import annotations


class NetAdaptError(Exception):
    """Root of all errors that netadapt raises on purpose."""

    exit_code = 1


class UsageError(NetAdaptError):
    """The input is wrong; nothing has been started."""

    exit_code = 2


class ConfigError(UsageError):
    """A configuration file or a command line cannot be used."""


class ModelError(UsageError):
    """A network cannot be loaded, traced or saved."""


class DataError(UsageError):
    """Images or labels cannot be used."""


class PlatformError(UsageError):
    """A platform is unknown, not installed, or cannot run this network."""


class SessionLost(PlatformError):
    """A session broke off, perhaps for no fault of the network: a process was killed, a program lost its device.

    The stopwatch repeats such a session once; what is wrong for good is a plain `PlatformError`.
    """


class BudgetError(UsageError):
    """A budget has no unit, lies above the start, or names an unknown resource."""


class BudgetUnreachable(NetAdaptError):
    """No network that the search may build meets the budget; the family so far is kept."""

    exit_code = 3


class MeasurementUnusable(NetAdaptError):
    """The platform is too noisy for any decision."""

    exit_code = 4


class RunDamaged(NetAdaptError):
    """A run folder cannot be trusted."""

    exit_code = 5


class Interrupted(NetAdaptError):
    """A signal stopped the run; the same command resumes it."""

    exit_code = 130


class NonFinite(NetAdaptError):
    """A loss or a weight became NaN or infinite."""


class SurgeryError(NetAdaptError):
    """A shrunk network does not equal the masked original: a defect, never hidden."""


def did_you_mean(name: str, allowed: list[str]) -> str:
    """Return `` (did you mean "x"?)`` for the closest of ``allowed`` names, or an empty string.

    Args:
        name: what the user wrote.
        allowed: the names that exist.
    """
    from difflib import get_close_matches

    close = get_close_matches(name, allowed, n=1)
    return f' (did you mean "{close[0]}"?)' if close else ""
