"""The application: all commands under one name, and every error as one message with its exit code.

Commands import what is heavy (torch above all) when they run, so that ``--help`` answers at once.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Annotated

import typer
from typer.main import get_command

from netadapt.cli import check, env, estimator, explain, export, init, ls, measure, report, run, select, status, tune
from netadapt.cli.output import note, notes
from netadapt.errors import NetAdaptError

_EPILOG = """\b
examples:
  netadapt init                                     write a commented netadapt.toml
  netadapt check 'mobilenet_v1?width=0.5'           look before training
  netadapt run netadapt.toml --out runs/first       adapt; the same command resumes
  netadapt export runs/first --at best --format onnx --out phone

\b
exit codes: 0 done, 2 usage, 3 budget not met (family written), 4 measurement unusable,
5 damaged run folder, 130 interrupted (the same command resumes)
"""

app = typer.Typer(
    name="netadapt",
    help="netadapt: make a trained network fit a device.",
    epilog=_EPILOG,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("check")(check.command)
app.command("measure")(measure.command)
app.command("run")(run.command)
app.command("status")(status.command)
app.command("select")(select.command)
app.command("tune")(tune.command)
app.command("export")(export.command)
app.command("report")(report.command)
app.command("explain")(explain.command)
app.add_typer(estimator.app, name="estimator")
app.command("ls")(ls.command)
app.command("init")(init.command)
app.command("env")(env.command)


def _version(wanted: bool) -> None:
    """Print the version and stop."""
    if wanted:
        from netadapt import __version__

        typer.echo(f"netadapt {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and stop.", callback=_version, is_eager=True)
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say more about what is done, on stderr.")] = False,
) -> None:
    """Take the options that all commands share."""
    del version
    if verbose:
        logging.getLogger("netadapt").setLevel(logging.INFO)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code.

    Args:
        arguments: of the command line; by default those that the process was given.
    """
    with notes():
        return _main(arguments)


def _main(arguments: Sequence[str] | None) -> int:
    """Turn every expected end into its exit code; typer itself does so for signals and a closed pipe."""
    try:
        get_command(app).main(None if arguments is None else list(arguments), prog_name="netadapt")
    except SystemExit as stopped:
        return stopped.code if isinstance(stopped.code, int) else 0
    except NetAdaptError as error:
        note(str(error))
        return error.exit_code
    except OSError as error:
        if error.filename is None:
            raise
        note(f"{error.filename}: {error.strerror}")
        return 2
    return 0
