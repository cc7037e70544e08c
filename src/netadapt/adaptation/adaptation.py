"""One adaptation from the first measurement to the report: `netadapt.adapt`, and `Adaptation` as an iterator of steps.

It puts the parts together and keeps the order of things: check everything, measure, refuse impossible budgets, train,
search, finish. The search itself is `algorithm.py`; what it calls is in `tools.py`; the end is in `finish.py`.
"""

from __future__ import annotations

import contextlib
import copy
import logging
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import nn

from netadapt.adaptation import finish, limits, methods
from netadapt.adaptation.metering import Metering
from netadapt.adaptation.preparation import (
    build_model,
    build_task,
    python_config,
    start_network,
    structure_of,
    warn_if_seen,
)
from netadapt.adaptation.store import Listener, Store
from netadapt.adaptation.tools import SearchTools
from netadapt.adaptation.tuning import Tuner
from netadapt.algorithm import Step as Step
from netadapt.algorithm import netadapt
from netadapt.budget import Budget
from netadapt.errors import BudgetUnreachable, Interrupted
from netadapt.family import Family, Variant
from netadapt.network import Network, trace
from netadapt.network.importance import FilterChoice
from netadapt.platforms import Measurement, Platform, StopwatchProtocol, resolve_platform
from netadapt.resources.build import build_estimators
from netadapt.resources.meter import Meter
from netadapt.runs.config import fingerprint
from netadapt.runs.folder import ENVIRONMENT, RunFolder
from netadapt.runs.settings import RunConfig
from netadapt.scores import Score
from netadapt.training.task import Task

log = logging.getLogger("netadapt")

START = "000"


def _ignore(type_: str, data: Mapping[str, Any]) -> None:
    """Listen to nothing."""


class Adaptation:
    """An adaptation as an iterator of `Step`: stop, look, go on; what was done before is not done again.

    Args:
        model: trained network; it is not changed.
        example_inputs: tensor, tuple or dict; the deployment shape, batch included.
        task: the user's training and evaluation.
        budget: ``"50%"``, ``"8 ms"``, ``{"latency": "8 ms", "parameters": "2 M"}``, or a MODEL ("as fast as this one").
        platform: where it is measured.
        run: folder that keeps everything; the same call resumes.
        listener: told every journal record as ``listener(type, data)``, and the progress of long work.
        **search: keys of the sections search, training, measure, report and run of a configuration.

    Raises:
        UsageError: the input cannot be used; nothing has been started.
    """

    def __init__(
        self,
        model: nn.Module,
        example_inputs: Any,
        task: Task,
        budget: str | Budget | Mapping[str, str] = "50%",
        platform: str = "local/onnxruntime?threads=1",
        run: str | Path = "runs/netadapt",
        *,
        listener: Listener = _ignore,
        **search: Any,
    ) -> None:
        config = python_config(type(model).__name__, type(task).__name__, budget, platform, Path(run), search)
        self._open(config, Path(run), model, example_inputs, task, listener)

    @classmethod
    def from_config(cls, config: RunConfig, *, folder: Path, listener: Listener = _ignore) -> Adaptation:
        """Return the adaptation that a configuration describes, kept in ``folder``."""
        adaptation = cls.__new__(cls)
        model, example_inputs = build_model(config)
        adaptation._open(config, folder, model, example_inputs, build_task(config, example_inputs), listener)
        return adaptation

    def _open(
        self, config: RunConfig, path: Path, model: nn.Module, example_inputs: Any, task: Task, listener: Listener
    ) -> None:
        """Check the input and take the folder; nothing is measured or trained yet."""
        self.config = config
        self.task = task
        self._given = model
        self._listener = listener
        self._stopping = False
        self._open_resources = contextlib.ExitStack()
        self.platform: Platform = resolve_platform(config.platform.name)
        self._open_resources.callback(self.platform.close)
        listener("prepare", {"what": "tracing the network"})
        start = structure_of(config, model, example_inputs, task)
        self.network: Network = trace(start, example_inputs, **config.model.tracing)
        needed_mb = 60 * 4e-6 * self.network.parameters()
        self.folder = RunFolder(path, config, needed_mb=needed_mb)
        self._open_resources.callback(self.folder.close)
        self.store = Store(self.folder, self.network, self._tell)

    def stop(self) -> None:
        """Ask for a stop at the next safe point; the work so far is kept and `Interrupted` is raised there."""
        self._stopping = True

    def close(self) -> None:
        """Release the folder and the platform; idempotent."""
        self._open_resources.close()

    def __iter__(self) -> Iterator[Step]:
        """Run what remains of the search, one step at a time.

        Raises:
            BudgetUnreachable: no proposal can go on; the steps so far are kept.
            MeasurementUnusable: the platform is too noisy.
            Interrupted: `stop` was called.
        """
        self._begin()
        net = self._last_step()
        if all(net.resources[name] <= limit for name, limit in self.budget.items()):
            return
        tools = self._tools()
        margins = limits.margins(self.metering, self.budget, self._initial)
        try:
            search = netadapt(net, self.budget, self.schedules, tools, margins=margins, rule=self.config.search.pick)
            for step in search:
                yield step
                self._check_stop()
        except BudgetUnreachable as error:
            self.store.record("stop", {"reason": "unreachable", "detail": str(error)})
            raise

    def finish(self) -> Family:
        """Run what remains: search, long-term fine-tune, uniform network, final measurement, report; idempotent."""
        from netadapt.report import write_report

        try:
            for step in self:
                log.info("step %d: %s", step.iteration, "+".join(step.groups))
            self._finish()
        finally:
            if self.folder.state().start is not None:
                self.folder.write_curve()
                write_report([self.folder.path], self.folder.path / "report.html")
        return Family.read(self.folder.path)

    def _finish(self) -> None:
        state = self.folder.state()
        last = self._last_step()
        name = f"{last.iteration:03d}"
        if name in state.long_terms:
            done = state.long_terms[name]
            tuned = self.store.load_variant(done["folder"])
            score = Score(done["accuracy_test"], done["loss_test"])
        else:
            tuned, score = finish.long_term(self.store, self.tuner, self.config, name, last.model)
        if state.final is None:
            finish.final(self.store, self.metering, tuned, name, score, self.budget)
        is_uniform = self.config.search.method in ("uniform", "from-scratch")  # it would be compared with itself
        if self.config.report.uniform and state.uniform is None and not is_uniform:
            tools = (self.store, self.tuner, self.metering, self._filters())
            finish.uniform(self.network, *tools, self.config, last.widths, list(self.budget))
        self.store.drop_checkpoints()

    def tune(self, variant: str) -> Variant:
        """Run the long-term fine-tune of any variant of the family, e.g. ``"007"``; idempotent.

        Raises:
            KeyError: there is no such variant.
            NonFinite: its loss did not stay finite.
            Interrupted: `stop` was called; epochs are kept.
        """
        found = Family.read(self.folder.path)[variant]
        if not found.tuned:
            self._take_up()
            model = self.store.load_variant(f"variants/{variant}")
            finish.long_term(self.store, self.tuner, self.config, variant, model)
            self.folder.write_curve()
        return Family.read(self.folder.path)[variant]

    def plan(self) -> dict[str, Any]:
        """Measure and check everything, train nothing; return what a run would start from.

        Returns:
            ``initial``, ``floor`` and ``budget`` (by resource), ``noise`` (of a measurement of latency, relative),
            ``noise_by_resource`` (of all measured ones), ``sessions`` (per measurement), ``first_step`` and
            ``iterations`` (by resource), all in canonical units.

        Raises:
            BudgetError: above the start, below the floor.
            MeasurementUnusable: the platform is too noisy.
        """
        self._measure()
        floor = limits.measure_floor(self.metering, self.config.search, self.budget, self._initial)
        return {
            "initial": dict(self._initial),
            "floor": floor,
            "budget": dict(self.budget),
            "noise": self.metering.noise["latency"],
            "noise_by_resource": dict(self.metering.noise),
            "sessions": self.metering.protocol.sessions,
            "first_step": {name: schedule.step(0) for name, schedule in self.schedules.items()},
            "iterations": {
                name: schedule.iterations(self._initial[name] - self.budget[name])
                for name, schedule in self.schedules.items()
            },
        }

    def _begin(self) -> None:
        """Measure, refuse impossible budgets, prepare the start network, build the estimators; or take up a run."""
        measurement = self._measure()
        if measurement is not None:
            self._start(measurement, self._initial)
        else:
            self._take_up()
        self._build_estimators()
        for step in self.folder.state().steps:
            self.metering.learn(step["widths"], Measurement(**step["measurement"]))

    def _take_up(self) -> None:
        """Give the network the weights that the run had started from."""
        self.network.model.load_state_dict(self.store.load_variant(f"variants/{START}").state_dict())
        self.tuner = self._tuner()

    def _measure(self) -> Measurement | None:
        """Set budget, schedules and the original's resources: measured now, or as a started run had found them."""
        start = self.folder.state().start
        known: dict[str, float] = {} if start is None else start["initial"]["resources"]
        measured = {name: known[name] for name in self.platform.resources if name in known}
        yardsticks_ms = None if start is None else start["initial"].get("yardsticks_ms")
        meter = Meter(self.network, self.platform, initial=measured or None, yardsticks_ms=yardsticks_ms)
        self.metering = Metering(self.network, meter, self._protocol())
        measurement = None
        if start is None:
            self._listener("prepare", {"what": "measuring the original network"})
            measurement, self._initial = self.metering.initial()
            self.budget = limits.resolve_budget(self.config.budget, self.metering, self._initial)
            # also for methods that go in one step: how far below its budget the last step aims follows from the noise
            given = (self.config.search, self.metering, self.budget, self._initial)
            self.metering.measure_longer(limits.excess_noise(*given))
            limits.refuse_noise(self.metering, self.budget)
        else:
            self._initial, self.budget = known, start["budget"]
            sessions = start["noise"].get("sessions", self.config.measure.sessions)
            self.metering.resume(self.folder.state().noise, sessions, known["size"])
        self.schedules = limits.schedules(methods.search_of(self.config), self.metering, self.budget, self._initial)
        return measurement

    def _start(self, measurement: Measurement, resources: Mapping[str, float]) -> None:
        """Prepare the start network, score it, and write the first record."""
        floor = limits.measure_floor(self.metering, self.config.search, self.budget, resources)
        given = (self.config, self._given, self.network.example_inputs, self.task)
        progress, should_stop = self._progress("start"), self._asked_to_stop
        prepared = start_network(*given, self.store.checkpoint("start"), progress, should_stop)
        self.network.model.load_state_dict(prepared.state_dict())
        self.tuner = self._tuner()
        selection, test = self.tuner.score(self.network.model), self.tuner.score(self.network.model, "test")
        warn_if_seen(selection, test)
        self.store.keep_variant(START, self.network.model, measurement)
        self.folder.write_json(ENVIRONMENT, dict(measurement.environment))
        initial: dict[str, Any] = {"resources": dict(resources), "measurement": asdict(measurement)}
        initial |= {"accuracy_selection": selection.metric, "loss_selection": selection.loss}
        initial |= {"accuracy_test": test.metric, "accuracy_se": test.error}
        initial |= {"macs": resources["macs"], "parameters": resources["parameters"]}
        initial |= {"yardsticks_ms": self.metering.meter.yardsticks_ms}
        self.store.record(
            "start",
            {
                "config_sha": fingerprint(self.config),
                "seed": self.config.run.seed,
                "model": self.config.model.source,
                "method": self.config.search.method,
                "platform": self.platform.name,
                "budget": self.budget,
                "metric": test.name,
                "initial": initial,
                "groups": [{"name": g.name, "width": g.width, "layers": list(g.layers)} for g in self.network.groups],
                "pinned": [asdict(pinned) for pinned in self.network.pinned],
                "pinned_share": self.network.pinned_share,
                "noise": {
                    "half_width_ms": measurement.half_width_ms,
                    "relative": measurement.relative_half_width,
                    "of_a_step": self.metering.noise["latency"],
                    "of_a_step_by_resource": dict(self.metering.noise),
                    "sessions": self.metering.protocol.sessions,
                },
                "floor": floor,
            },
        )

    def _build_estimators(self) -> None:
        search = self.config.search
        wanted = list(dict.fromkeys([*self.budget, "latency"]))
        estimators = build_estimators(
            self.network,
            self.platform,
            wanted,
            kind=search.estimator,
            networks=search.networks,
            meter=self.metering.meter,
            progress=lambda done, total: self._tell("estimator_progress", {"done": done, "total": total}),
        )
        self.metering.use(estimators)
        if self.folder.state().estimator is None:
            meter = self.metering.meter
            left_out = getattr(estimators["latency"], "left_out_error", None)
            self.store.record(
                "estimator",
                {
                    "kind": search.estimator,
                    "networks_measured": len(meter.data("latency")[0]),
                    "seconds": meter.build_seconds,
                    "loo_error": left_out,
                },
            )

    def _last_step(self) -> Step:
        """Return the last finished step with its weights, or the original network as Net_0."""
        state = self.folder.state()
        assert state.start is not None
        if not state.steps:
            initial = state.start["initial"]
            score = Score(initial["accuracy_selection"], initial["loss_selection"])
            return Step(0, self.network.model, self.network.widths, initial["resources"], score)
        last = state.steps[-1]
        return Step(
            iteration=last["iteration"],
            model=self.store.load_variant(f"variants/{last['variant']}"),
            widths=last["widths"],
            resources=last["measured"],
            score=Score(last["accuracy"], last["loss"]),
            groups=tuple(last["group"].split("+")),
            estimated=last["estimated"],
        )

    def _tools(self) -> SearchTools:
        search, filters = methods.search_of(self.config), self._filters()
        search = search.model_copy(update={"groups_per_step": limits.groups_per_step(search, self.schedules)})
        parts = (self.network, self.metering, list(self.budget), filters, self.tuner, self.store)
        chooser = methods.num_filters(search, self.config.run.seed, *parts)
        cut_from = None if search.method == "netadapt" else self.network.model
        recipe = methods.short_term(self.config)
        return SearchTools(chooser, filters, self.tuner, self.metering, self.store, search, recipe, cut_from)

    def _protocol(self) -> StopwatchProtocol:
        return StopwatchProtocol(sessions=self.config.measure.sessions, seconds=self.config.measure.seconds)

    def _filters(self) -> FilterChoice:
        return methods.filter_choice(self.config, self.network, self.tuner)

    def _tuner(self) -> Tuner:
        distils = getattr(self.task, "distillation", 0.0) > 0
        return Tuner(
            self.task,
            copy.deepcopy(self.network.model).eval() if distils else None,
            self.config.run.seed,
            calibration_images=self.config.search.calibration_images,
            should_stop=self._asked_to_stop,
        )

    def _progress(self, key: str) -> Any:
        return lambda done, loss: self._tell("training", {"key": key, "images": done, "total": None, "loss": loss})

    def _tell(self, type_: str, data: Mapping[str, Any]) -> None:
        """Show progress; every place that does is a safe point to stop at."""
        self._listener(type_, data)
        self._check_stop()

    def _asked_to_stop(self) -> bool:
        return self._stopping

    def _check_stop(self) -> None:
        if self._stopping:
            raise Interrupted(f"Stopped. {self.folder.path} is complete so far; the same command goes on from there.")


def adapt(
    model: nn.Module,
    example_inputs: Any,
    task: Task,
    budget: str | Budget | Mapping[str, str] = "50%",
    platform: str = "local/onnxruntime?threads=1",
    run: str | Path = "runs/netadapt",
    **search: Any,
) -> Family:
    """Adapt a trained network to a budget and return the family of networks found; see `Adaptation`.

    Raises:
        UsageError: the input cannot be used; nothing has been started.
        BudgetUnreachable: no network meets the budget; the family so far is in the run's folder.
        MeasurementUnusable: the platform is too noisy.
        Interrupted: stopped; the same call resumes.
    """
    with contextlib.closing(Adaptation(model, example_inputs, task, budget, platform, run, **search)) as adaptation:
        return adaptation.finish()
