"""From the MODEL of a command line or a config to a network and its example input.

``mobilenet_v2?width=0.5&resolution=128``, ``resnet20?weights=FILE``, ``torchvision:NAME``, ``timm:NAME``,
``file.py:function``. Called by cli/, runs/ and every engine's workers (the text is all that travels).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, cast

import torch
from torch import Tensor, nn

from netadapt.errors import ModelError, did_you_mean
from netadapt.models.mobilenet_v1 import MobileNetV1
from netadapt.models.mobilenet_v2 import MobileNetV2
from netadapt.models.resnet_cifar import resnet20, resnet32, resnet56
from netadapt.models.spec import Spec, call_file, call_with, parse_spec
from netadapt.models.weights import Layout, load_weights, read_layout, read_tensors, weights_path


@dataclass(frozen=True)
class ModelEntry:
    """One line of ``netadapt ls models``.

    Attributes:
        name: as written before ``?``.
        arguments: what may follow it, with the defaults.
        description: one line.
    """

    name: str
    arguments: str
    description: str


_MOBILE = "width=1.0 resolution=224 classes=1000 same_padding=0 batch_norm=1 stem_stride=2"
_BUILDERS: dict[str, tuple[Callable[..., nn.Module], str, str]] = {
    "mobilenet_v1": (MobileNetV1, _MOBILE, "MobileNetV1"),
    "mobilenet_v2": (MobileNetV2, _MOBILE, "MobileNetV2"),
    "resnet20": (resnet20, "classes=10 resolution=32", "ResNet-20 for CIFAR, option-A shortcuts"),
    "resnet32": (resnet32, "classes=10 resolution=32", "ResNet-32 for CIFAR, option-A shortcuts"),
    "resnet56": (resnet56, "classes=10 resolution=32", "ResNet-56 for CIFAR, option-A shortcuts"),
}
_LIBRARIES = {
    "torchvision": "any classifier of torchvision, with its weights",
    "timm": "any classifier of timm, with its weights",
}
_COMMON = "weights=FILE batch=1"


def list_models() -> tuple[ModelEntry, ...]:
    """Return every kind of MODEL that `resolve_model` understands."""
    own = [ModelEntry(name, f"{arguments} {_COMMON}", text) for name, (_, arguments, text) in _BUILDERS.items()]
    libraries = [
        ModelEntry(f"{name}:NAME", "pretrained=1 resolution=(the model's) batch=1", text)
        for name, text in _LIBRARIES.items()
    ]
    user = ModelEntry("file.py:function", "(the function's)", "a function returning (model, example_inputs)")
    return (*own, *libraries, user)


def resolve_model(text: str) -> tuple[nn.Module, Any]:
    """Build the network that ``text`` names, in eval mode, with the example input it will be deployed with.

    Without ``weights`` the parameters are drawn with a fixed seed: the same text always gives the same network.

    Args:
        text: e.g. ``mobilenet_v1?width=0.5&resolution=128``; see `list_models`.

    Returns:
        The network and its example input (a tensor ``(batch, 3, resolution, resolution)`` for built-in ones).

    Raises:
        ModelError: unknown name or argument, unreadable weights, or the user's file failed.
    """
    spec = parse_spec(text, ModelError)
    library, colon, rest = spec.name.partition(":")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if colon and library in _LIBRARIES:
            model, example = _from_library(library, rest, spec)
        elif colon:
            model, example = _from_file(spec)
        else:
            model, example = _built_in(spec)
    return model.eval(), example


def _built_in(spec: Spec) -> tuple[nn.Module, Tensor]:
    if spec.name not in _BUILDERS:
        hint = did_you_mean(spec.name, list(_BUILDERS))
        forms = ", ".join(entry.name for entry in list_models())
        raise ModelError(f'unknown model "{spec.name}"{hint}; a MODEL is one of: {forms}')
    arguments: dict[str, Any] = dict(spec.arguments)
    weights, batch = arguments.pop("weights", None), _positive(spec, arguments.pop("batch", "1"), "batch")
    _check_ranges(spec, arguments)
    if weights is None:
        model = call_with(_BUILDERS[spec.name][0], arguments, spec.name, ModelError)
    else:
        model = _with_weights(spec, arguments, weights)
    return model, torch.zeros(batch, 3, model.resolution, model.resolution)


def _with_weights(spec: Spec, arguments: Mapping[str, Any], weights: str) -> nn.Module:
    path = weights_path(weights)
    tensors, metadata = read_tensors(path)
    layout = read_layout(path, metadata)
    if layout.model and layout.model != spec.name:
        raise ModelError(f"{path} holds a {layout.model}, not a {spec.name}: write {layout.model}?weights={weights}")
    wanted = {**layout.arguments, **arguments}
    model: nn.Module = call_with(_BUILDERS[spec.name][0], wanted, spec.name, ModelError)
    _check_against(spec, model, layout, path.name)
    load_weights(model, path, tensors, layout)
    return model


def _check_against(spec: Spec, model: nn.Module, layout: Layout, file: str) -> None:
    """Refuse arguments that contradict the file; the resolution and the padding are the user's to change."""
    if not layout.model:
        return
    stated = call_with(_BUILDERS[spec.name][0], dict(layout.arguments), spec.name, ModelError)
    shapes = {name: tuple(value.shape) for name, value in stated.state_dict().items()}
    if {name: tuple(value.shape) for name, value in model.state_dict().items()} == shapes:
        return
    facts = ", ".join(f"{key}={value}" for key, value in layout.arguments.items())
    extra = ""
    if "classes" in spec.arguments and "classes" in layout.arguments:
        extra = "; for another number of classes leave classes= out and set classes under [model] in the config"
    raise ModelError(f'"{spec.text}" contradicts {file}, which was made for {facts}{extra}')


def _check_ranges(spec: Spec, arguments: Mapping[str, str]) -> None:
    for key in ("resolution", "classes"):
        if key in arguments:
            _positive(spec, arguments[key], key)
    if "width" in arguments:
        try:
            width = float(arguments["width"])
        except ValueError:
            width = -1.0
        if not 0 < width <= 8:
            raise ModelError(f"{spec.name}: width={arguments['width']} is not allowed: a number above 0, at most 8 is")
    if (stride := arguments.get("stem_stride", "2")) not in ("1", "2"):
        raise ModelError(f"{spec.name}: stem_stride={stride} is not allowed: 1 or 2 is")


def _positive(spec: Spec, value: str, key: str) -> int:
    if not value.isdecimal() or int(value) < 1:
        raise ModelError(f"{spec.name}: {key}={value} is not allowed: a whole number above 0 is")
    return int(value)


def _from_file(spec: Spec) -> tuple[nn.Module, Any]:
    result = call_file(spec, ModelError)
    if not (isinstance(result, tuple) and len(result) == 2 and isinstance(result[0], nn.Module)):
        got = type(result).__name__
        raise ModelError(
            f'"{spec.text}" returned a {got}: it must return (model, example_inputs), a torch.nn.Module and the '
            "tensor, tuple or dict that the network is deployed with"
        )
    return result


def _from_library(library: str, name: str, spec: Spec) -> tuple[nn.Module, Tensor]:
    try:
        module = import_module("torchvision.models" if library == "torchvision" else library)
    except ImportError as error:
        raise ModelError(
            f'"{spec.text}" needs {library}, which is not installed ({error}): pip install {library}'
        ) from error
    except RuntimeError as error:  # timm imports torchvision too
        raise ModelError(
            f'"{spec.text}" needs {library}, which is installed but cannot be imported ({error}): install the build of '
            f"torchvision that was made for torch {torch.__version__}"
        ) from error
    builders = {"torchvision": _torchvision, "timm": _timm}

    def build(pretrained: bool = True, resolution: int = 0, batch: int = 1) -> tuple[nn.Module, Tensor]:
        model, side = builders[library](module, name, pretrained)
        return model, torch.zeros(batch, 3, resolution or side, resolution or side)

    result: tuple[nn.Module, Tensor] = call_with(build, spec.arguments, spec.name, ModelError)
    return result


def _torchvision(module: Any, name: str, pretrained: bool) -> tuple[nn.Module, int]:
    known = module.list_models(module=module)
    if name not in known:
        raise ModelError(f'torchvision has no classifier "{name}"{did_you_mean(name, known)}')
    return _fetched(lambda: module.get_model(name, weights="DEFAULT" if pretrained else None), name), 224


def _timm(module: Any, name: str, pretrained: bool) -> tuple[nn.Module, int]:
    if not module.is_model(name):
        raise ModelError(f'timm has no model "{name}"{did_you_mean(name, module.list_models())}')
    model = _fetched(lambda: module.create_model(name, pretrained=pretrained), name)
    return model, int(cast(Any, model).default_cfg["input_size"][-1])


def _fetched(build: Callable[[], nn.Module], name: str) -> nn.Module:
    try:
        return build()
    except (OSError, RuntimeError) as error:  # no network, or no pretrained weights of that name
        raise ModelError(f"the weights of {name} cannot be had ({error}); add ?pretrained=0 to do without") from error
