"""The sections and keys of a run's configuration; every field says its unit and, where there is one, its source.

`config.py` reads, writes and compares them; `adaptation/` obeys them. "Paper" is arXiv 1804.03230.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from netadapt.budget import UNITS, parse_limit
from netadapt.errors import BudgetError

Positive = Annotated[int, Field(gt=0)]


class Section(BaseModel):
    """A table of the configuration: unknown keys are refused, types are strict, values cannot be changed later."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Recipe(Section):
    """How long and how a network is fine-tuned; subclasses say how long by default."""

    length: ClassVar[dict[str, float]] = {}

    images: Annotated[int, Field(ge=0)] | None = Field(
        default=None, description="training images to see, 0 for none; give images or epochs", examples=[20_000]
    )
    epochs: float | None = Field(
        default=None, gt=0, description="passes over the training data; give images or epochs", examples=[10]
    )
    lr: float = Field(default=0.01, gt=0, description="highest learning rate; it falls to zero along a cosine")
    momentum: float = Field(default=0.9, ge=0, lt=1, description="momentum of SGD")
    weight_decay: float = Field(default=4e-5, ge=0, description="L2 penalty (paper's MobileNet recipe: 4e-5)")
    ema: float = Field(
        default=0.0, ge=0, lt=1, description="decay of the moving average of weights; 0 = none (paper's recipe: 0.9999)"
    )

    clip_norm: float = Field(
        default=0.0, ge=0, description="largest norm of the gradient, 0 = no limit; un-folded networks need about 1"
    )

    @model_validator(mode="before")
    @classmethod
    def _one_length(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        if data.get("images") is not None and data.get("epochs") is not None:
            raise ValueError("gives both images and epochs; give one of them")
        if data.get("images") is None and data.get("epochs") is None:
            return {**data, **cls.length}
        return data


class FirstTune(Recipe):
    """Fine-tune of the original network before anything is removed; the default length is 5 epochs."""

    length: ClassVar[dict[str, float]] = {"epochs": 5.0}


class ShortTerm(Recipe):
    """Fine-tune of every proposal (paper: 40,000 iterations of 128 images at a rate of 0.0045)."""

    length: ClassVar[dict[str, float]] = {"images": 2000}

    lr: float = Field(
        default=1e-3, gt=0, description="highest learning rate (paper: 0.0045; after a re-fit rates above 1e-3 hurt)"
    )


class LongTerm(Recipe):
    """Fine-tune of the last network, on training and selection split (paper: rate 0.045, to convergence)."""

    length: ClassVar[dict[str, float]] = {"epochs": 10.0}

    from_scratch: bool = Field(
        default=False,
        description="draw all weights anew first, so that the widths alone are kept (where the task distils, the "
        "original still teaches); wants the rate and the epochs of a whole training",
    )


#: keys of ``[model]`` that say what may be removed, and nothing of the start network
TRACING = ("keep", "exact", "blocks")


class ModelSection(Section):
    """Which network."""

    source: str = Field(
        min_length=1,
        description="name?arguments | file.py:function | torchvision:NAME | timm:NAME",
        examples=["mobilenet_v1?width=0.25&resolution=32&classes=10"],
    )
    classes: Positive | None = Field(
        default=None,
        description="replace the classifier by a new one with this many outputs, fitted alone first",
        examples=[10],
    )
    unfold_batch_norm: bool = Field(
        default=False, description="put batch norms back behind convolutions whose norms were folded into them"
    )
    keep: tuple[str, ...] = Field(
        default=(), strict=False, description="channel groups never touched, by name; * and ? are wildcards"
    )
    exact: bool = Field(
        default=True,
        description="only groups whose removal leaves other values as they were; false: also those that a norm sees",
    )
    blocks: bool = Field(
        default=False,
        description="whole residual blocks may go too, those whose parameters at zero would leave what comes in",
    )
    first_tune: FirstTune | None = Field(default=None, description="fine-tune before the adaptation")

    @property
    def tracing(self) -> dict[str, Any]:
        """What `netadapt.trace` is told."""
        return self.model_dump(include=set(TRACING))


class PlatformSection(Section):
    """Where the networks are measured."""

    name: str = Field(
        default="local/onnxruntime?threads=1",
        min_length=1,
        description="device/runtime?options; see: netadapt ls platforms",
    )


class BudgetSection(Section):
    """Limits on resources; each with a unit, or as a percentage of the original network."""

    latency: str | None = Field(
        default=None, description="of one inference of the example input", examples=["50%", "8 ms"]
    )
    latency_of: str | None = Field(
        default=None,
        description="a MODEL instead: as fast as this one",
        examples=["mobilenet_v1?width=0.5&resolution=128"],
    )
    energy: str | None = Field(default=None, description="of one inference", examples=["3 mJ"])
    memory: str | None = Field(default=None, description="peak while running", examples=["40 MB"])
    size: str | None = Field(default=None, description="of the exported file", examples=["4 MB"])
    macs: str | None = Field(default=None, description="multiply-accumulates of one inference", examples=["40 MMAC"])
    parameters: str | None = Field(default=None, description="number of weights", examples=["2 M"])

    @field_validator(*UNITS)
    @classmethod
    def _readable(cls, text: str | None, info: Any) -> str | None:
        if text is not None:
            try:
                parse_limit(text, info.field_name)
            except BudgetError as error:
                raise ValueError(str(error).removeprefix("Budget: ")) from error
        return text

    @model_validator(mode="after")
    def _some_limit(self) -> BudgetSection:
        if not self.limits() and self.latency_of is None:
            raise ValueError('gives no limit; give at least one, e.g. latency = "50%"')
        if self.latency is not None and self.latency_of is not None:
            raise ValueError("gives both latency and latency_of; give one of them")
        return self

    def limits(self) -> dict[str, str]:
        """Return the limits given as text, by resource; what `Budget.parse` reads."""
        return {name: text for name in UNITS if (text := getattr(self, name)) is not None}


class TaskSection(Section):
    """What the network is trained and judged on."""

    source: str = Field(
        min_length=1, description="digits | parquet:DIR | folder:DIR | file.py:function", examples=["digits"]
    )
    resolution: Positive | None = Field(
        default=None, description="pixels of the square images; by default what the network expects", examples=[128]
    )
    batch_size: Positive = Field(default=64, description="images in a training batch (paper: 128)")
    selection: Annotated[float, Field(gt=0, lt=1)] | Positive = Field(
        default=10,
        description="the split that decides, carved out of training: images per class (paper: 10) or a fraction",
    )
    augment: bool = Field(default=True, description="random crops and mirror images in training")
    label_smoothing: float = Field(default=0.0, ge=0, lt=1, description="share of the target spread over all classes")
    distillation: float = Field(
        default=0.0, ge=0, le=1, description="weight of the original network's outputs in the loss; 0 = labels alone"
    )
    mean: tuple[float, ...] | None = Field(
        default=None,
        strict=False,
        description="subtracted from the channels, scale 0..1; default by source",
        examples=[[0.5, 0.5, 0.5]],
    )
    std: tuple[float, ...] | None = Field(
        default=None,
        strict=False,
        description="channels are divided by it, scale 0..1; default by source",
        examples=[[0.5, 0.5, 0.5]],
    )
    seed: int = Field(default=0, ge=0, description="of the carving of the selection split")


class SearchSection(Section):
    """How smaller networks are found (paper, Algorithm 1)."""

    method: Literal["netadapt", "one-shot", "uniform", "from-scratch"] = Field(
        default="netadapt",
        description="netadapt (paper) | one-shot: all widths at once, by loss curves | uniform: one width multiplier | "
        "from-scratch: uniform with fresh weights",
    )
    mode: Literal["fast", "faithful"] = Field(
        default="fast",
        description="faithful tunes every proposal (paper); fast only the most promising, by untuned loss",
    )
    pick: Literal["accuracy", "accuracy_per_resource"] = Field(
        default="accuracy",
        description="which proposal wins: highest accuracy (paper), or least drop per resource saved (its code)",
    )
    filters: Literal["refit", "norm"] = Field(
        default="refit",
        description="which filters stay: least-squares re-fit of the consumers, or largest L2 norm (paper)",
    )
    first_step: str = Field(
        default="3.3%",
        description="netadapt: first reduction, of the start or with a unit (paper: 0.5 ms, about 3.3%); other methods "
        "make one step",
    )
    decay: float = Field(
        default=0.96, gt=0, le=1, description="each reduction is this times the one before (paper: 0.96)"
    )
    min_step: str = Field(
        default="3 noise", description="no reduction is smaller; noise = half-width of a measurement's 95 % interval"
    )
    multiple: Positive = Field(default=8, description="widths are multiples of so many channels (paper's code: 8)")
    minimum_width: Positive = Field(default=8, description="no group becomes narrower, in channels")
    contenders: Positive = Field(
        default=3,
        description="netadapt in fast mode: how many proposals of an iteration are tuned; one if groups share a step",
    )
    groups_per_step: Positive = Field(
        default=1,
        description="netadapt in fast mode: about so many groups share a step, those that lose least untuned; "
        "more where noise raises the steps",
    )
    exchanges: Annotated[int, Field(ge=0)] = Field(
        default=0,
        description="one-shot: so many whole networks at the budget are scored, untuned, to find widths of less loss "
        "than the loss curves lead to; 0 for none",
    )
    curve_images: Positive = Field(
        default=1000,
        description="one-shot: each group's loss curve is measured on so many images of the selection split at most, "
        "on all of it if an own task has no evaluate_part; whole networks are scored on all of it",
    )
    calibration_images: Annotated[int, Field(ge=2)] = Field(
        default=800,
        description="training images for the re-fit, of which 200 tell the shift of batch-norm statistics; with norm "
        "all of them for the statistics",
    )
    estimator: Literal["network", "table", "macs"] = Field(
        default="network",
        description="fitted to whole measured networks, the paper's layer-wise look-up table, or blindly MACs alone",
    )
    networks: Annotated[int, Field(ge=8)] | None = Field(
        default=None,
        description="networks measured to fit the estimator; by default 64, or 40 where each takes many seconds before "
        "it can be timed (litert, executorch, compiled torch)",
        examples=[64],
    )

    @field_validator("first_step", "min_step")
    @classmethod
    def _step(cls, text: str, info: Any) -> str:
        if info.field_name == "min_step" and re.fullmatch(r"\s*\d+(\.\d*)?\s*noise\s*", text):
            return text
        try:
            parse_limit(text)
        except BudgetError as error:
            also = ', or a multiple of the noise such as "3 noise"' if info.field_name == "min_step" else ""
            raise ValueError(f'cannot be read as a step; write e.g. "3.3%" or "0.5 ms"{also}') from error
        return text

    @model_validator(mode="after")
    def _shared_steps(self) -> SearchSection:
        if self.groups_per_step > 1 and (self.method, self.mode) != ("netadapt", "fast"):
            raise ValueError(
                f'groups_per_step = {self.groups_per_step} needs method = "netadapt" and mode = "fast"; write 1'
            )
        return self

    @model_validator(mode="after")
    def _exchanging(self) -> SearchSection:
        if self.exchanges and self.method != "one-shot":
            raise ValueError(f'exchanges = {self.exchanges} needs method = "one-shot"; write 0')
        return self


class TrainingSection(Section):
    """The two fine-tunes of the paper."""

    short_term: ShortTerm = Field(default_factory=ShortTerm, description="fine-tune of every tuned proposal")
    long_term: LongTerm = Field(default_factory=LongTerm, description="fine-tune of the final network")


class MeasureSection(Section):
    """How long the stopwatch runs."""

    sessions: Annotated[int, Field(ge=2)] = Field(
        default=5,
        description="fresh sessions per network (3 or more tell noise from change); "
        "up to 6 times as many where noise would raise the steps",
    )
    seconds: float = Field(
        default=0.05, gt=0, description="seconds per session; more sessions help, longer ones do not"
    )


class ReportSection(Section):
    """What the report contains."""

    uniform: bool = Field(
        default=True, description="also build and tune a uniformly narrower network of the same cost, for the verdict"
    )


class RunSection(Section):
    """The run itself."""

    folder: str = Field(
        default="runs/netadapt", min_length=1, description="where everything is kept; the same command resumes"
    )
    seed: int = Field(default=0, ge=0, description="all random choices follow from it")


class RunConfig(Section):
    """The whole configuration of a run."""

    schema_: Literal[1] = Field(default=1, alias="schema", description="version of this file's format")
    model: ModelSection
    platform: PlatformSection = Field(default_factory=PlatformSection)
    budget: BudgetSection
    task: TaskSection
    search: SearchSection = Field(default_factory=SearchSection)
    training: TrainingSection = Field(default_factory=TrainingSection)
    measure: MeasureSection = Field(default_factory=MeasureSection)
    report: ReportSection = Field(default_factory=ReportSection)
    run: RunSection = Field(default_factory=RunSection)

    @property
    def from_scratch(self) -> bool:
        """Whether the final networks inherit no weights."""
        return self.search.method == "from-scratch" or self.training.long_term.from_scratch

    @model_validator(mode="after")
    def _trained(self) -> RunConfig:
        if self.from_scratch and self.training.long_term.images == 0:
            raise ValueError(
                "training.long_term.images = 0, but the network is to be trained from scratch: "
                "give more images, or epochs"
            )
        return self
