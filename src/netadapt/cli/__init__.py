"""The command line, one file per command; `netadapt.cli:main` is what the installed script calls."""

from netadapt.cli.app import main as main
