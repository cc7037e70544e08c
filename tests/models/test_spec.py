from __future__ import annotations

import sys

import pytest

from netadapt.errors import ModelError
from netadapt.models.spec import call_file, call_with, expand_path, parse_spec


def test_a_text_has_a_name_and_arguments():
    spec = parse_spec(" net?width=0.5&weights=/a b/c=d.safetensors", ModelError)
    assert spec.name == "net"
    assert spec.arguments == {"width": "0.5", "weights": "/a b/c=d.safetensors"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("net?width", '"width" in "net\\?width" is not an argument: write name\\?key=value&key=value'),
        ("net?=1", '"=1" in .* is not an argument'),
        ("net?a=1&a=2", '"a" appears twice in "net\\?a=1&a=2": leave one of them out'),
    ],
)
def test_broken_texts_are_refused(text, message):
    with pytest.raises(ModelError, match=message):
        parse_spec(text, ModelError)


def test_environment_variables_are_filled_in(monkeypatch, tmp_path):
    monkeypatch.setenv("SOME_PLACE", str(tmp_path))
    assert expand_path("${SOME_PLACE}/x", ModelError) == tmp_path / "x"
    assert expand_path("$SOME_PLACE/x", ModelError) == tmp_path / "x"


def test_an_unset_variable_is_named(monkeypatch):
    monkeypatch.delenv("NOT_SET_ANYWHERE", raising=False)
    with pytest.raises(ModelError, match=r"variable NOT_SET_ANYWHERE in .* is not set: export NOT_SET_ANYWHERE="):
        expand_path("${NOT_SET_ANYWHERE}/x", ModelError)


def function(width: float = 1.0, classes: int = 10, flag: bool = False, untyped=3, optional: int | None = None):
    return width, classes, flag, untyped, optional


def test_arguments_take_the_types_of_the_signature():
    given = {"width": "0.5", "classes": "7", "flag": "yes", "untyped": "4", "optional": "5"}
    assert call_with(function, given, "f", ModelError) == (0.5, 7, True, 4, 5)
    assert call_with(function, {"flag": False, "width": 2}, "f", ModelError) == (2, 10, False, 3, None)


def need(this: int):
    return this


@pytest.mark.parametrize(
    ("called", "given", "message"),
    [
        (function, {"widht": "1"}, 'f has no argument "widht" \\(did you mean "width"\\?\\); its arguments: width, cl'),
        (function, {"classes": "7.5"}, "f: classes=7.5 is not allowed: a whole number is"),
        (function, {"width": "wide"}, "f: width=wide is not allowed: a number is"),
        (function, {"flag": "perhaps"}, "f: flag=perhaps is not allowed: 1 or 0 is"),
        (need, {}, 'f needs the argument "this": write f\\?this=...'),
    ],
)
def test_wrong_arguments_are_refused(called, given, message):
    with pytest.raises(ModelError, match=message):
        call_with(called, given, "f", ModelError)


def called(tmp_path, code, text="net.py:build", **options):
    (tmp_path / "net.py").write_text(code)
    return call_file(parse_spec(f"{tmp_path}/{text}", ModelError), ModelError, options)


def test_a_users_function_gets_its_arguments_and_its_neighbours(tmp_path):
    (tmp_path / "neighbour_of_net.py").write_text("value = 7\n")
    code = "def build(width: float = 1, seed: int = 0):\n    import neighbour_of_net as other\n"
    code += "    return width, seed, other.value\n"
    path = list(sys.path)
    assert called(tmp_path, code, "net.py:build?width=0.5", seed=3, unknown=4) == (0.5, 3, 7)
    assert sys.path == path


def test_classes_of_a_users_file_stay_the_same_on_a_second_call(tmp_path):
    code = "class Net: ...\ndef build():\n    return Net()\n"
    assert type(called(tmp_path, code)) is type(called(tmp_path, code))


@pytest.mark.parametrize(
    ("code", "text", "message"),
    [
        ("", "other.py:build", 'other.py" in ".*" is not a file \\(looked for'),
        (
            "def build(): ...",
            "net.py:biuld",
            'net.py has no function "biuld" \\(did you mean "build"\\?\\); its functions: build',
        ),
        ("x = (", "net.py:build", "net.py, line 1: not valid Python: '\\(' was never closed"),
        (
            "import no_such_thing",
            "net.py:build",
            "net.py, line 1, while loading .*ModuleNotFoundError: No module named",
        ),
        ("def build():\n    raise KeyError(3)", "net.py:build", "net.py, line 2, while loading .*KeyError: 3"),
        ("def build(): ...", "net.py:build?x=1", 'has no argument "x"; its arguments: none'),
    ],
)
def test_broken_files_are_one_clear_error(tmp_path, code, text, message):
    with pytest.raises(ModelError, match=message):
        called(tmp_path, code, text)


def test_a_file_that_is_not_python(tmp_path):
    (tmp_path / "net.txt").write_text("")
    with pytest.raises(ModelError, match=r"is not a Python file: MODEL and TASK files end in .py"):
        call_file(parse_spec(f"{tmp_path}/net.txt:build", ModelError), ModelError)
