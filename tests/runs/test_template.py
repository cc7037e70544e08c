"""The commented configuration of `netadapt init`."""

from __future__ import annotations

import re
import tomllib

from netadapt.runs.config import keys, make_config, section_of
from netadapt.runs.template import template


def test_every_key_is_there_with_a_comment():
    text = template()
    for key, field in keys():
        if section_of(field) is None:
            line = next(line for line in text.splitlines() if re.match(rf"(# )?{key.rpartition('.')[2]} = ", line))
            assert "  # " in line


def test_what_is_commented_out_can_be_switched_on():
    lines = template().splitlines()
    on = {"classes", "resolution", "mean", "std", "macs", "parameters", "memory", "size", "energy"}
    text = "\n".join(line[2:] if line.startswith("# ") and line[2:].split(" ")[0] in on else line for line in lines)
    config = make_config(tomllib.loads(text))
    assert config.model.classes == 10
    assert set(config.budget.limits()) == {"latency", "energy", "memory", "size", "macs", "parameters"}
