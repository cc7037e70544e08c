"""A device that exists only as formulas: deterministic latency, energy and memory, with faults on request.

For tests, for trying netadapt out, and for judging the search itself: noise, drift, bursts, a staircase over the
channel counts and failing sessions can be injected. Nothing is timed, so it never takes the measuring lock.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from netadapt.errors import PlatformError, SessionLost
from netadapt.platforms.artifacts import store
from netadapt.platforms.assembled import checked_widths
from netadapt.platforms.base import Artifact, Reading
from netadapt.platforms.environment import whole_vectors

if TYPE_CHECKING:
    from torch import nn

    from netadapt.network import Network
    from netadapt.network.structure import Layer

_FORMAT = "netadapt-simulated"
_BYTES = 4
OVERHEAD_MS = 0.005
GMACS_PER_S = {"conv": 40.0, "depthwise": 8.0, "grouped": 20.0, "linear": 10.0, "other": 20.0}
GBYTES_PER_S = 10.0
PICOJOULES_PER_MAC = 4.0
PICOJOULES_PER_BYTE = 100.0
STATIC_WATTS = 0.5
SLICE_S = 0.006


@dataclass(frozen=True)
class LayerRecord:
    """One layer with its channel counts: what the formulas need, and what a simulated device's file consists of.

    Attributes:
        name: qualified module name.
        kind: as in `netadapt.network.structure.Layer`.
        inputs, outputs: channels.
        fan_in: channels summed over by one output; 0 for layers without multiply-accumulates.
        kernel_area: product of the kernel's sizes.
        input_area, output_area: products of the spatial sizes.
        batch: images per call.
    """

    name: str
    kind: str
    inputs: int
    outputs: int
    fan_in: int
    kernel_area: int
    input_area: int
    output_area: int
    batch: int


@dataclass(frozen=True)
class Cost:
    """What one inference costs on a simulated device without any fault."""

    latency_ms: float
    energy_mj: float
    memory_mb: float


def evaluated(layers: Sequence[Layer], vector: np.ndarray) -> list[LayerRecord]:
    """Return those of ``layers`` that are there with their channel counts at ``vector`` of shape ``(groups,)``."""
    return [
        LayerRecord(
            name=layer.name,
            kind=layer.kind,
            inputs=int(layer.inputs(vector)),
            outputs=int(layer.outputs(vector)),
            fan_in=int(layer.fan_in(vector)),
            kernel_area=int(np.prod(layer.kernel)),
            input_area=int(np.prod(layer.input_size)),
            output_area=int(np.prod(layer.output_size)),
            batch=layer.batch,
        )
        for layer in layers
        if layer.there(vector[None])[0]
    ]


class SimulatedPlatform:
    """A simulated device.

    Of each layer, with channel counts rounded up to a multiple of ``staircase`` where marked by a tilde:

        macs        = outputs~ * fan_in~ * kernel_area * output_area * batch      (fan_in of depthwise: 1, unrounded)
        bytes       = 4 * (inputs * input_area * batch + outputs * output_area * batch + outputs * fan_in * kernel_area)
        latency_ms  = 0.005 + tail * macs / GMACS_PER_S[kind] / 1e6 + bytes / GBYTES_PER_S / 1e6
        tail        = 1 where outputs is a multiple of staircase, else 1 + ragged

    Layers without multiply-accumulates (norms, activations, pooling) count as fused and cost nothing. Of the network:

        latency_ms  = sum
        energy_mj   = (PICOJOULES_PER_MAC * macs + PICOJOULES_PER_BYTE * bytes) / 1e9 + STATIC_WATTS * latency_ms
        memory_mb   = (weights of all layers + largest inputs plus outputs of one layer) / 1e6

    Args:
        staircase: channels per vector of the device; 1: none.
        ragged: share by which a layer with a vector that is not full is slower than with that vector full.
        noise: relative standard deviation between sessions (log-normal); a quarter of it between slices.
        drift: the n-th session of this object is slower by ``n * drift``.
        bursts: probability that a session is disturbed.
        burst_factor: how much slower a disturbed session is.
        failures: every n-th session fails; 0: none.
        seed: of noise and bursts. Noise depends on the seed, the file and how often it was timed, not on the order.

    Raises:
        PlatformError: a value out of range.
    """

    requires = None
    description = "a device made of formulas, for tests and for trying things out"
    resources: tuple[str, ...] = ("latency", "energy", "memory")
    exclusive = False

    def __init__(
        self,
        *,
        staircase: int = 1,
        ragged: float = 0.0,
        noise: float = 0.0,
        drift: float = 0.0,
        bursts: float = 0.0,
        burst_factor: float = 1.5,
        failures: int = 0,
        seed: int = 0,
    ) -> None:
        given = {
            "staircase": staircase,
            "ragged": ragged,
            "noise": noise,
            "drift": drift,
            "bursts": bursts,
            "burst_factor": burst_factor,
            "failures": failures,
            "seed": seed,
        }
        _check_ranges(given)
        self.staircase, self.ragged, self.noise, self.drift = staircase, ragged, noise, drift
        self.bursts, self.burst_factor, self.failures, self.seed = bursts, burst_factor, failures, seed
        defaults = SimulatedPlatform.__init__.__kwdefaults__ or {}
        changed = "&".join(f"{key}={value:g}" for key, value in given.items() if value != defaults[key])
        self.name = f"simulated?{changed}" if changed else "simulated"
        self._sessions = 0
        self._timed: Counter[str] = Counter()

    def fingerprint(self) -> Mapping[str, str | int]:
        """Return what a noiseless latency depends on."""
        shape = {"staircase": self.staircase} | ({"ragged": f"{self.ragged:g}"} if self.ragged else {})
        return {"device": "simulated", "runtime": "simulated", "version": 1, **shape}

    def cost(self, layers: Sequence[LayerRecord]) -> Cost:
        """Return what one inference of these layers costs, by the formulas of the class."""
        latency_ms = picojoules = weights = activations = 0.0
        for layer in layers:
            if not layer.fan_in:
                continue
            fan_in = layer.fan_in if layer.kind == "depthwise" else whole_vectors(layer.fan_in, self.staircase)
            outputs = whole_vectors(layer.outputs, self.staircase)
            tail = 1.0 if outputs == layer.outputs else 1.0 + self.ragged
            macs = outputs * fan_in * layer.kernel_area * layer.output_area * layer.batch
            moved = layer.batch * (layer.inputs * layer.input_area + layer.outputs * layer.output_area) * _BYTES
            held = layer.outputs * layer.fan_in * layer.kernel_area * _BYTES
            speed = GMACS_PER_S.get(layer.kind, GMACS_PER_S["other"])
            latency_ms += OVERHEAD_MS + tail * macs / speed / 1e6 + (moved + held) / GBYTES_PER_S / 1e6
            picojoules += PICOJOULES_PER_MAC * macs + PICOJOULES_PER_BYTE * (moved + held)
            weights += held
            activations = max(activations, moved)
        return Cost(latency_ms, picojoules / 1e9 + STATIC_WATTS * latency_ms, (weights + activations) / 1e6)

    def predict(self, network: Network, widths: Mapping[str, int] | None = None) -> Cost:
        """Return what ``network`` costs at ``widths`` (default: its own): the truth that measurements scatter around.

        Raises:
            PlatformError: an unknown group or a width out of range.
        """
        return self.cost(self._layers(network, widths or {}))

    def _layers(self, network: Network, widths: Mapping[str, int]) -> list[LayerRecord]:
        return evaluated(network.layers, network.vector(network.widths | checked_widths(network, widths)))

    def compile(self, model: nn.Module, example_inputs: Any, folder: Path) -> Artifact:
        """Write the layers of ``model`` as JSON into ``folder``.

        Raises:
            PlatformError: the network cannot be traced.
        """
        from netadapt.network import trace

        try:
            network = trace(model, example_inputs, prove=False)
        except Exception as error:
            raise PlatformError(f"the simulated platform cannot trace this network: {error}") from error
        return self._store(self._layers(network, {}), folder)

    def compile_widths(self, network: Network, widths: Mapping[str, int], folder: Path) -> Artifact:
        """Write the layers of ``network`` at ``widths`` as JSON into ``folder``.

        Raises:
            PlatformError: an unknown group or a width out of range.
        """
        return self._store(self._layers(network, widths), folder)

    def _store(self, layers: Sequence[LayerRecord], folder: Path) -> Artifact:
        document = {"format": _FORMAT, "v": 1, "layers": [asdict(layer) for layer in layers]}
        return store(json.dumps(document, indent=1).encode(), folder, ".json")

    def session(self, artifact: Artifact, *, seconds: float, warmups: int) -> Reading:
        """Return what one session gives: no time passes, ``seconds`` only sets the number of slices.

        Raises:
            PlatformError: the file is not one of this platform's.
            SessionLost: a failure was asked for.
        """
        del warmups
        self._sessions += 1
        if self.failures and self._sessions % self.failures == 0:
            raise SessionLost(f"simulated failure of session {self._sessions}.")
        cost = self.cost(_load(artifact.path))
        repeat = self._timed[artifact.sha256]
        self._timed[artifact.sha256] += 1
        random = np.random.default_rng(_seed(self.seed, artifact.sha256, repeat))
        factor = np.exp(self.noise * random.standard_normal()) * (1 + self.drift * self._sessions)
        if random.random() < self.bursts:
            factor *= self.burst_factor
        slices = max(3, round(seconds / SLICE_S))
        latency = cost.latency_ms * factor * np.exp(self.noise / 4 * random.standard_normal(slices))
        return Reading(tuple(latency.tolist()), energy_mj=cost.energy_mj * float(factor), memory_mb=cost.memory_mb)

    def environment(self) -> Mapping[str, Any]:
        """Return the parameters of the simulation."""
        return {"processor": "simulated", "platform": self.name, "sessions": self._sessions}

    def close(self) -> None:
        """Do nothing: there is nothing to release."""


def _check_ranges(given: Mapping[str, float]) -> None:
    """Refuse values that no device can have."""
    ranges = {
        "staircase": (1, 4096),
        "ragged": (0, 100),
        "noise": (0, 1),
        "drift": (0, 1),
        "bursts": (0, 1),
        "burst_factor": (1, 1000),
        "failures": (0, 10**9),
        "seed": (0, 2**63),
    }
    for key, (low, high) in ranges.items():
        if not low <= given[key] <= high:
            raise PlatformError(f"simulated: {key}={given[key]:g} is out of range; allowed are {low} to {high}.")


def _seed(seed: int, sha256: str, repeat: int) -> int:
    """Return a seed that depends on nothing but what is timed and how often it was."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{sha256}/{repeat}".encode()).digest()[:8], "little")


def _load(path: Path) -> list[LayerRecord]:
    """Read a file that `compile` wrote."""
    try:
        document = json.loads(path.read_bytes())
        if document["format"] != _FORMAT or document["v"] != 1:
            raise ValueError("unknown format")
        return [LayerRecord(**layer) for layer in document["layers"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PlatformError(f"{path} is not a file of the simulated platform: {error}") from error
