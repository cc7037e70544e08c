"""Conformance suites for those who add to netadapt: subclass one in your own tests, with pytest installed."""

from __future__ import annotations

from netadapt.testing.platform_suite import PlatformSuite, SmallNetwork

__all__ = ["PlatformSuite", "SmallNetwork"]
