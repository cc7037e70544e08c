"""The application: help, version, exit codes, messages without tracebacks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

COMMANDS = ["check", "measure", "run", "status", "select", "tune", "export", "report", "estimator", "ls", "init", "env"]


def test_help_names_every_command_and_imports_nothing_heavy() -> None:
    code = (
        "import sys; from netadapt.cli import main; code = main(['--help']); "
        "assert not {'torch', 'numpy', 'onnx', 'plotly'} & set(sys.modules), 'heavy import'; sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for command in COMMANDS:
        assert f"  {command} " in done.stdout
    assert "exit codes" in done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(cli, command: str) -> None:
    answer = cli(command, "--help")
    assert answer.code == 0
    assert "Usage: netadapt" in answer.out


def test_version(cli) -> None:
    from netadapt import __version__

    answer = cli("--version")
    assert (answer.code, answer.out) == (0, f"netadapt {__version__}\n")


def test_an_unknown_command_or_option_is_usage(cli) -> None:
    assert cli("prune").code == 2
    assert cli("ls", "models", "--jason").code == 2


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["run", "nothing.toml"], 2, ["nothing.toml", "cannot be read", "netadapt init"]),
        (["check", "mobilenet_v9"], 2, ["mobilenet_v9", "did you mean"]),
        (["check", "nothing.py:build"], 2, ["nothing.py", "not a file"]),
        (["measure", "mobilenet_v1?resolution=32&width=0.25", "-p", "local/onxruntime"], 2, ["did you mean"]),
        (["measure", "nothing.onnx"], 2, ["nothing.onnx", "does not exist"]),
        (["status", "nothing"], 5, ["nothing", "run folder"]),
        (["select", "nothing", "--budget", "8 ms"], 5, ["nothing"]),
        (["export", "nothing", "--out", "x"], 5, ["nothing"]),
        (["report", "nothing", "--out", "x.html"], 5, ["nothing"]),
    ],
)
def test_errors_are_one_message_with_their_exit_code(here, cli, arguments, code, words) -> None:
    answer = cli(*arguments)
    assert answer.code == code
    assert answer.err.startswith("netadapt: ")
    assert "Traceback" not in answer.err
    assert answer.out == ""
    for word in words:
        assert word in answer.err


def test_a_file_that_cannot_be_written_is_named(here: Path, cli, finished: Path) -> None:
    answer = cli("report", finished, "--out", here / "missing" / "page.html")
    assert answer.code == 2
    assert "missing" in answer.err


def test_verbose_says_more_and_leaves_the_log_as_it_was(cli) -> None:
    import logging

    log = logging.getLogger("netadapt")
    before = (log.level, list(log.handlers))
    assert cli("--verbose", "ls", "formats").code == 0
    assert (log.level, list(log.handlers)) == before
