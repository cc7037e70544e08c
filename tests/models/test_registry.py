from __future__ import annotations

import sys

import pytest
import torch
from _torchvision import import_torchvision

from netadapt.errors import ModelError
from netadapt.models import list_models, resolve_model


@pytest.mark.parametrize(
    ("text", "shape", "outputs"),
    [
        ("mobilenet_v1?width=0.25&resolution=32&classes=10", (1, 3, 32, 32), 10),
        ("mobilenet_v2?width=0.25&resolution=64&classes=5&batch=2&same_padding=1", (2, 3, 64, 64), 5),
        ("resnet20?classes=3", (1, 3, 32, 32), 3),
    ],
)
def test_a_text_gives_a_network_in_eval_mode_and_its_example(text, shape, outputs):
    model, example = resolve_model(text)
    assert example.shape == shape
    assert model(example).shape == (shape[0], outputs)
    assert not any(module.training for module in model.modules())


@pytest.mark.parametrize("same_padding", [0, 1])
@pytest.mark.parametrize(("stem_stride", "side"), [(1, 2), (2, 1)])
@pytest.mark.parametrize("name", ["mobilenet_v1", "mobilenet_v2"])
def test_the_stem_may_keep_the_resolution(name, same_padding, stem_stride, side):
    arguments = f"width=0.25&resolution=32&classes=10&same_padding={same_padding}&stem_stride={stem_stride}"
    model, _ = resolve_model(f"{name}?{arguments}")
    sizes = []
    model.pool.register_forward_pre_hook(lambda module, inputs: sizes.append(tuple(inputs[0].shape[2:])))
    assert model(torch.randn(1, 3, 32, 32)).shape == (1, 10)
    assert sizes == [(side, side)]


def test_the_same_text_gives_the_same_network_and_leaves_the_random_state_alone():
    state = torch.get_rng_state()
    one, other = (resolve_model("resnet20")[0].state_dict() for _ in range(2))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "mobilnet_v1",
            'unknown model "mobilnet_v1" \\(did you mean "mobilenet_v1"\\?\\); a MODEL is one of: mobilenet_v1',
        ),
        (
            "mobilenet_v1?widht=1",
            'has no argument "widht" \\(did you mean "width"\\?\\); its arguments: width, resolution',
        ),
        ("mobilenet_v1?width=0", "width=0 is not allowed: a number above 0, at most 8 is"),
        ("mobilenet_v1?width=x", "width=x is not allowed"),
        ("mobilenet_v1?stem_stride=3", "stem_stride=3 is not allowed: 1 or 2 is"),
        ("mobilenet_v2?resolution=-3", "resolution=-3 is not allowed: a whole number above 0 is"),
        ("resnet20?classes=0", "classes=0 is not allowed: a whole number above 0 is"),
        ("resnet20?batch=a", "batch=a is not allowed: a whole number above 0 is"),
        ("mobilenet_v1?same_padding=2", "same_padding=2 is not allowed: 1 or 0 is"),
    ],
)
def test_mistakes_are_one_clear_error(text, message):
    with pytest.raises(ModelError, match=message):
        resolve_model(text)


def test_a_users_file(tmp_path):
    (tmp_path / "net.py").write_text(
        "import torch\n"
        "def small(channels: int = 4):\n"
        "    net = torch.nn.Sequential(torch.nn.Conv2d(3, channels, 3), torch.nn.BatchNorm2d(channels))\n"
        "    return net, torch.zeros(1, 3, 8, 8)\n"
        "def wrong():\n"
        "    return torch.nn.Linear(1, 1)\n"
    )
    model, example = resolve_model(f"{tmp_path}/net.py:small?channels=6")
    assert model.eval()(example).shape == (1, 6, 6, 6)
    assert not model.training
    with pytest.raises(ModelError, match=r'wrong" returned a Linear: it must return \(model, example_inputs\)'):
        resolve_model(f"{tmp_path}/net.py:wrong")


@pytest.mark.parametrize("library", ["torchvision", "timm"])
def test_a_library_that_is_not_there(library, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)  # as if not installed
    monkeypatch.setitem(sys.modules, f"{library}.models", None)
    with pytest.raises(ModelError, match=f"needs {library}, which is not installed .*: pip install {library}"):
        resolve_model(f"{library}:resnet18")


def test_a_library_that_does_not_fit_this_torch(tmp_path, monkeypatch):
    (tmp_path / "timm.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "timm", raising=False)
    with pytest.raises(
        ModelError, match=r"cannot be imported \(operator .*: install the build of torchvision .* torch 2"
    ):
        resolve_model("timm:resnet18")


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("torchvision:squeezenet1_1?pretrained=0&resolution=64", (1, 3, 64, 64)),
        ("timm:mobilenetv3_small_050?pretrained=0", (1, 3, 224, 224)),
        ("timm:test_vit?pretrained=0&batch=2", (2, 3, 160, 160)),
    ],
)
def test_networks_of_the_libraries_as_they_are(text, shape):
    import_torchvision()
    model, example = resolve_model(text)
    assert example.shape == shape
    assert model(example).shape == (shape[0], 1000)


STAND_IN = """
import torch
from _torchvision import import_torchvision
def list_models(module=None): return ["resnet18"]
def is_model(name): return name == "resnet18"
def _build(pretrained):
    if pretrained: raise OSError("no route to host")
    net = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(3, 4))
    net.default_cfg = {"input_size": (3, 160, 160)}
    return net
def get_model(name, weights=None): return _build(weights == "DEFAULT")
def create_model(name, pretrained=False): return _build(pretrained)
"""


@pytest.fixture
def libraries(tmp_path, monkeypatch):
    """Stand-ins with the few functions that we call: nothing is downloaded in a test."""
    (tmp_path / "torchvision/models").mkdir(parents=True)
    (tmp_path / "torchvision/__init__.py").write_text("")
    (tmp_path / "torchvision/models/__init__.py").write_text(STAND_IN)
    (tmp_path / "timm.py").write_text(STAND_IN)
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("torchvision", "torchvision.models", "timm"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield
    for name in ("torchvision", "torchvision.models", "timm"):
        sys.modules.pop(name, None)


@pytest.mark.usefixtures("libraries")
@pytest.mark.parametrize(("library", "side"), [("torchvision", 224), ("timm", 160)])
def test_networks_of_libraries(library, side):
    assert resolve_model(f"{library}:resnet18?pretrained=0")[1].shape == (1, 3, side, side)
    assert resolve_model(f"{library}:resnet18?pretrained=0&resolution=96&batch=2")[1].shape == (2, 3, 96, 96)
    with pytest.raises(ModelError, match='"resnet81" \\(did you mean "resnet18"\\?\\)'):
        resolve_model(f"{library}:resnet81")
    with pytest.raises(ModelError, match=r"weights of resnet18 cannot be had .*; add \?pretrained=0 to do without"):
        resolve_model(f"{library}:resnet18")


def test_list_models_names_every_form():
    names = [entry.name for entry in list_models()]
    assert names[:2] == ["mobilenet_v1", "mobilenet_v2"]
    assert {"torchvision:NAME", "timm:NAME", "file.py:function"} <= set(names)
