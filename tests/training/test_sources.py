from __future__ import annotations

import sys

import pytest
import torch

from netadapt.errors import DataError
from netadapt.training.images import Decode
from netadapt.training.sources import load_digits_pair, load_folder_pair, load_parquet, load_parquet_pair


def test_digits_are_enlarged_and_split_by_class():
    train, test = load_digits_pair(Decode(16))
    assert train.images.shape == (1397, 3, 16, 16)
    assert torch.bincount(test.labels).tolist() == [40] * 10
    assert train.classes == tuple("0123456789")
    assert train.pixels.max() > 240
    assert (train.pixels[..., 0] == train.pixels[..., 2]).all()
    assert load_digits_pair(Decode())[0].size == (128, 128)


@pytest.fixture
def parquet_folder(tmp_path, encoded, write_parquet):
    images = [encoded(), encoded(mode="L"), encoded(kind="WEBP"), encoded(kind="JPEG")]
    write_parquet(tmp_path / "train.parquet", images, [0, 1, 0, 1])
    write_parquet(tmp_path / "val.parquet", images[:2], [1, 0])
    return tmp_path


def test_parquet_files_in_the_hugging_face_layout(parquet_folder):
    train, test = load_parquet_pair(parquet_folder, Decode())
    assert train.pixels.shape == (4, 6, 6, 3)
    assert train.labels.tolist() == [0, 1, 0, 1]
    assert train.classes == test.classes == ("a", "b")
    assert len(test) == 2


def test_without_names_classes_are_numbers(tmp_path, encoded, write_parquet):
    write_parquet(tmp_path / "x.parquet", [encoded()] * 2, [0, 2], names=None)
    assert load_parquet(tmp_path / "x.parquet", Decode()).classes == ("0", "1", "2")


def refused(action, message):
    with pytest.raises(DataError, match=message):
        action()


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, -1], "x.parquet, row 1: label -1 is not allowed: whole numbers from 0 are"),
        ([0, None], "x.parquet, row 1: label None is not allowed"),
        ([0, 2], r"x.parquet, image 1: label 2 is not allowed: 0..1 is \(2 classes\)"),
    ],
)
def test_labels_out_of_range_are_refused(tmp_path, encoded, write_parquet, labels, message):
    write_parquet(tmp_path / "x.parquet", [encoded()] * 2, labels)
    refused(lambda: load_parquet(tmp_path / "x.parquet", Decode()), message)


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (b"not an image", "x.parquet, row 1 is not a readable image: cannot identify image file"),
        (None, 'x.parquet, row 1: "image" holds no bytes; images must be inside the file'),
    ],
)
def test_an_unreadable_image_names_its_file_and_row(tmp_path, encoded, write_parquet, second, message):
    write_parquet(tmp_path / "x.parquet", [encoded(), second], [0, 1])
    refused(lambda: load_parquet(tmp_path / "x.parquet", Decode()), message)


def test_parquet_files_that_cannot_be_used(tmp_path, encoded, write_parquet):
    import pyarrow as pa
    from pyarrow import parquet

    refused(lambda: load_parquet_pair(tmp_path / "no", Decode()), '"/.*no" is not a folder: write parquet:DIR')
    refused(lambda: load_parquet_pair(tmp_path, Decode()), "needs train.parquet and test.parquet .*; it has: nothing")
    write_parquet(tmp_path / "train.parquet", [], [])
    refused(
        lambda: load_parquet_pair(tmp_path, Decode()), "needs train.parquet and test.parquet .*; it has: train.parquet"
    )
    refused(lambda: load_parquet(tmp_path / "train.parquet", Decode()), "train.parquet has no rows; at least one image")
    parquet.write_table(pa.table({"img": [b""], "label": [0]}), tmp_path / "y.parquet")
    message = 'y.parquet has the columns img, label; it needs "image"'
    refused(lambda: load_parquet(tmp_path / "y.parquet", Decode()), message)
    (tmp_path / "z.parquet").write_bytes(b"no parquet")
    refused(lambda: load_parquet(tmp_path / "z.parquet", Decode()), "z.parquet is not a readable parquet file")


def test_parquet_without_pyarrow_says_how_to_get_it(parquet_folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    refused(lambda: load_parquet_pair(parquet_folder, Decode()), r"need pyarrow .*: pip install 'netadapt\[parquet\]'")


@pytest.fixture
def image_folder(tmp_path, encoded):
    for split in ("train", "test"):
        for number, name in enumerate(("cat", "dog")):
            (tmp_path / split / name).mkdir(parents=True)
            for index in range(3):
                data = encoded(colour=(number, index, 0))
                (tmp_path / split / name / f"{index}.PNG").write_bytes(data)
    (tmp_path / "train/cat/notes.txt").write_text("no image")
    return tmp_path


def test_folders_of_images(image_folder):
    train, _ = load_folder_pair(image_folder, Decode())
    assert train.classes == ("cat", "dog")
    assert train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert train.pixels[:, 0, 0, 0].tolist() == [0, 0, 0, 1, 1, 1]
    assert train.pixels[:, 0, 0, 1].tolist() == [0, 1, 2, 0, 1, 2]


def test_folders_that_cannot_be_used(image_folder, tmp_path):
    load = lambda: load_folder_pair(image_folder, Decode())  # noqa: E731
    refused(lambda: load_folder_pair(image_folder / "no", Decode()), "is not a folder: write folder:DIR")
    refused(
        lambda: load_folder_pair(image_folder / "train", Decode()),
        "needs the folders train and test .*; it has: cat, dog",
    )
    (image_folder / "test/cow").mkdir()
    refused(load, 'test has the class "cow", which train does not have: cat, dog')
    (image_folder / "train/cow").mkdir()
    refused(load, 'train: class "cow" has no images .*jpg')
    (image_folder / "train/cow/x.jpg").write_bytes(b"no image")
    refused(load, "train/cow/x.jpg is not a readable image")
    (tmp_path / "empty/train").mkdir(parents=True)
    (tmp_path / "empty/test").mkdir()
    refused(
        lambda: load_folder_pair(tmp_path / "empty", Decode()), "train has no folders; one folder of images per class"
    )
