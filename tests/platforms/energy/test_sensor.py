"""Which sensor a word opens."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import sensor_trees as trees

from netadapt.errors import PlatformError
from netadapt.platforms.energy import open_sensor


def test_words(tmp_path):
    assert open_sensor("none", tmp_path) is None
    assert open_sensor("auto", tmp_path) is None
    trees.orin_nano(tmp_path)
    assert open_sensor("auto", tmp_path).name == "hwmon:ina3221"
    assert open_sensor("hwmon", tmp_path).name == open_sensor("hwmon:ina3221", tmp_path).name == "hwmon:ina3221"
    trees.rapl(tmp_path)
    assert open_sensor("auto", tmp_path).name == open_sensor("rapl", tmp_path).name == "rapl"


def test_a_desktop_has_no_sensor_of_its_processor(tmp_path):
    trees.desktop(tmp_path)
    assert open_sensor("auto", tmp_path) is None


def test_a_sensor_that_may_not_be_read_is_told_of(tmp_path, monkeypatch, caplog):
    trees.rapl(tmp_path)
    read = Path.read_text

    def refused(path, *arguments, **options):
        if path.name == "energy_uj":
            raise PermissionError(13, "Permission denied")
        return read(path, *arguments, **options)

    monkeypatch.setattr(Path, "read_text", refused)
    with caplog.at_level(logging.WARNING, "netadapt"):
        assert open_sensor("auto", tmp_path) is None
    assert "sudo chmod a+r" in caplog.text


@pytest.mark.parametrize(
    ("word", "message"), [("rappl", 'did you mean "rapl"'), ("", "allowed"), ("rapl:0", "allowed")]
)
def test_other_words_are_refused(tmp_path, word, message):
    with pytest.raises(PlatformError, match=message):
        open_sensor(word, tmp_path)


def test_what_is_asked_for_and_missing_is_an_error(tmp_path):
    for word in ("rapl", "hwmon"):
        with pytest.raises(PlatformError, match=f"energy={word}"):
            open_sensor(word, tmp_path)
