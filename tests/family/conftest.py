"""The fixture `make_run` of the report's tests."""

import importlib.util
from pathlib import Path

_spec = importlib.util.spec_from_file_location("run_folders", Path(__file__).parents[1] / "report" / "conftest.py")
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)
make_run = _module.make_run
