"""executorch: conformance; every conversion takes seconds, so files are shared between the tests."""

from __future__ import annotations

import pytest

from netadapt.platforms import resolve_platform
from netadapt.testing import PlatformSuite

pytestmark = [pytest.mark.needs("executorch"), pytest.mark.slow]


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NETADAPT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


class TestExecuTorch(PlatformSuite):
    def make_platform(self):
        return resolve_platform("executorch")
