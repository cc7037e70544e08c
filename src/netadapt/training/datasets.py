"""From the TASK of a command line or a config to a task object.

``digits``, ``parquet:DIR``, ``folder:DIR`` or ``file.py:function``, each with ``?key=value&...``. Called by runs/, cli/
and the engines' workers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from netadapt.errors import DataError, did_you_mean
from netadapt.models.spec import Spec, call_file, call_with, expand_path, parse_spec
from netadapt.training.classification import Classification
from netadapt.training.images import IMAGENET, SYMMETRIC, Augment, Decode, ImageStore, Normalisation
from netadapt.training.sources import load_digits_pair, load_folder_pair, load_parquet_pair
from netadapt.training.task import Task

Load = Callable[[Decode], tuple[ImageStore, ImageStore]]
_LOADERS = {"parquet": load_parquet_pair, "folder": load_folder_pair}


def resolve_task(text: str, **options: Any) -> Task:
    """Build the task that ``text`` names.

    Arguments in the text win over ``options``. Both may be: ``resolution`` (side in pixels), ``batch_size``,
    ``selection`` (images per class, or a fraction below 1), ``augment``, ``label_smoothing``, ``distillation``,
    ``temperature``, ``mean``, ``std`` (three numbers each), ``crop`` (box cut out first: left, upper, right, lower),
    ``seed``; ``None`` means the source's default.

    Args:
        text: ``digits``, ``parquet:DIR``, ``folder:DIR`` or ``file.py:function``, with ``?key=value&...``.
        options: the same arguments as values, e.g. from a config; a user's function gets those that it names.

    Raises:
        DataError: unknown name or argument, no data, unreadable images.
    """
    spec = parse_spec(text, DataError)
    given = {key: value for key, value in options.items() if value is not None}
    kind, colon, place = spec.name.partition(":")
    if colon and kind in _LOADERS:
        load = partial(_LOADERS[kind], expand_path(place, DataError))
        return _built(spec, load, given, mirror=True, normalisation=IMAGENET)
    if colon:
        return _from_file(spec, given)
    if spec.name == "digits":
        # a mirrored digit is another digit
        return _built(spec, load_digits_pair, given, mirror=False, normalisation=SYMMETRIC)
    hint = did_you_mean(spec.name, ["digits", *_LOADERS])
    raise DataError(f'unknown task "{text}"{hint}; a TASK is digits, parquet:DIR, folder:DIR or file.py:function')


def _built(
    spec: Spec,
    load: Load,
    given: Mapping[str, Any],
    *,
    mirror: bool,
    normalisation: Normalisation,
) -> Classification:
    def build(
        resolution: int | None = None,
        batch_size: int = 64,
        selection: Any = 10,
        augment: bool = True,
        label_smoothing: float = 0.0,
        distillation: float = 0.0,
        temperature: float = 2.0,
        mean: Any = normalisation.mean,
        std: Any = normalisation.std,
        crop: Any = None,
        seed: int = 0,
    ) -> Classification:
        box = _numbers(crop, 4, "crop") if crop is not None else None
        scaling = Normalisation(_numbers(mean, 3, "mean"), _numbers(std, 3, "std"))  # type: ignore[arg-type]
        train, test = load(Decode(resolution, box))  # type: ignore[arg-type]
        return Classification(
            train,
            test,
            batch_size=batch_size,
            selection=_selection(selection),
            augment=Augment(mirror=mirror) if augment else None,
            label_smoothing=label_smoothing,
            distillation=distillation,
            temperature=temperature,
            normalisation=scaling,
            seed=seed,
        )

    task: Classification = call_with(build, {**given, **spec.arguments}, spec.name, DataError)
    return task


def _numbers(value: Any, count: int, name: str) -> tuple[float, ...]:
    try:
        numbers = tuple(float(part) for part in (value.split(",") if isinstance(value, str) else value))
    except (TypeError, ValueError):
        numbers = ()
    if len(numbers) != count:
        raise DataError(f"{name}={value} is not allowed: {count} numbers are, separated by commas")
    return numbers


def _selection(value: Any) -> int | float:
    if not isinstance(value, str):
        return value  # type: ignore[no-any-return]
    try:
        return int(value) if value.isdecimal() else float(value)
    except ValueError:
        raise DataError(f"selection={value} is not allowed: images per class or a fraction below 1 is") from None


def _from_file(spec: Spec, given: Mapping[str, Any]) -> Task:
    task = call_file(spec, DataError, given)
    if not isinstance(task, Task):
        missing = [name for name in ("batches", "size", "forward", "loss", "evaluate") if not hasattr(task, name)]
        raise DataError(
            f'"{spec.text}" returned a {type(task).__name__} without {", ".join(missing)}: it must return an object '
            "with the methods of netadapt.Task"
        )
    return task
