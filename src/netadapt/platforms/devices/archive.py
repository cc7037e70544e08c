"""Packs the scripts of `on_device/`, and what they import, into one archive that a device's own Python runs.

`ssh.py` pushes it.
"""

from __future__ import annotations

import io
import zipfile
from functools import cache
from pathlib import Path

_PLATFORMS = Path(__file__).parents[1]
_PACKAGE = _PLATFORMS.parent
#: what the scripts import by its full name; the packages around it are empty there
_IMPORTED = ("errors.py", *(f"platforms/energy/{path.name}" for path in sorted((_PLATFORMS / "energy").glob("*.py"))))
_MAIN = """\
import sys

if sys.version_info < (3, 9):
    sys.exit("netadapt needs Python 3.9 or later on a device, this is " + sys.version.split()[0])

import measure_once

measure_once.main()
"""


@cache
def script_archive() -> bytes:
    """Return a zip file of all scripts, whose main program is `measure_once`; equal scripts give equal bytes."""
    sources = {path.name: path.read_text() for path in sorted((_PLATFORMS / "on_device").glob("*.py"))}
    del sources["__init__.py"]
    sources |= {f"netadapt/{name}": (_PACKAGE / name).read_text() for name in _IMPORTED}
    sources |= {"netadapt/__init__.py": "", "netadapt/platforms/__init__.py": ""}
    sources |= {"environment.py": (_PLATFORMS / "environment.py").read_text(), "__main__.py": _MAIN}
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, source in sorted(sources.items()):
            archive.writestr(zipfile.ZipInfo(name), source)  # dated 1980: the time must not count
    return content.getvalue()


def receiver_source() -> bytes:
    """Return the script that stores the archive on a device which has nothing yet."""
    return (_PLATFORMS / "on_device/receive.py").read_bytes()
