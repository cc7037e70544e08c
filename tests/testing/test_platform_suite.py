"""The suite must find what is wrong with a platform: each defect is built in and must be seen."""

from __future__ import annotations

from dataclasses import replace

import pytest

from netadapt.network import trace
from netadapt.platforms.base import Artifact
from netadapt.platforms.simulated import SimulatedPlatform
from netadapt.testing import platform_suite
from netadapt.testing.platform_suite import PlatformSuite


class WrongHash(SimulatedPlatform):
    def compile(self, model, example_inputs, folder):
        return replace(super().compile(model, example_inputs, folder), sha256="0" * 64)


class TouchesTheModel(SimulatedPlatform):
    def compile(self, model, example_inputs, folder):
        model.eval()
        return super().compile(model, example_inputs, folder)


class IgnoresWidths(SimulatedPlatform):
    def compile_widths(self, network, widths, folder):
        return super().compile_widths(network, {}, folder)


class AlwaysTheSame(SimulatedPlatform):
    def session(self, artifact: Artifact, *, seconds, warmups):
        return replace(super().session(artifact, seconds=seconds, warmups=warmups), latency_ms=(1.0,))


class Infinite(SimulatedPlatform):
    def session(self, artifact: Artifact, *, seconds, warmups):
        return replace(super().session(artifact, seconds=seconds, warmups=warmups), latency_ms=(float("inf"),))


@pytest.mark.parametrize(
    ("platform", "test"),
    [
        (WrongHash(), "test_compile_names_its_content"),
        (TouchesTheModel(), "test_compile_leaves_the_model_alone"),
        (AlwaysTheSame(), "test_much_more_arithmetic_is_slower"),
        (Infinite(), "test_session_gives_finite_latencies"),
    ],
)
def test_a_defect_is_found(platform, test, tmp_path):
    with pytest.raises(AssertionError):
        getattr(PlatformSuite(), test)(platform, tmp_path)


def test_ignored_widths_are_found(tmp_path):
    network = trace(platform_suite._network(), platform_suite._IMAGES, prove=False)
    with pytest.raises(AssertionError):
        PlatformSuite().test_widths_equal_the_shrunk_network(IgnoresWidths(), network, tmp_path)
