from __future__ import annotations

import pytest
from _record import processor, processor_name

ABOUT = "processor\t: {}\ncpu family\t: 26\nmodel\t\t: 2\nmodel name\t: {}\n"


@pytest.mark.parametrize(
    ("model_name", "folder"),
    [
        ("AMD EPYC", "amd-epyc-family-26-model-2"),  # clouds hide which one it is
        ("AMD EPYC 7763 64-Core Processor", "amd-epyc-7763-64-core"),
        ("Intel(R) Xeon(R) Processor @ 2.50GHz", "intel-xeon-2.50ghz"),
    ],
)
def test_kinds_of_processors_have_names_of_their_own(model_name, folder):
    about = ABOUT.format(0, model_name) + ABOUT.format(1, "another")
    assert processor_name(processor(about)) == folder


def test_a_machine_that_tells_little_still_has_a_name():
    assert processor("CPU implementer : 0x41\nmodel name : ARMv8\n") == "ARMv8"
