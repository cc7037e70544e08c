"""Where images come from: scikit-learn's digits, parquet files in the Hugging Face layout, folders of images.

Each loader decodes once into an `ImageStore`; called by `datasets.resolve_task`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from logging import getLogger
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from netadapt.errors import DataError
from netadapt.training.images import Decode, ImageStore, decode_images

log = getLogger("netadapt")

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
TEST_NAMES = ("test", "val", "validation")
DIGITS_RESOLUTION = 128
DIGITS_TEST_PER_CLASS = 40


def load_digits_pair(decode: Decode) -> tuple[ImageStore, ImageStore]:
    """Return scikit-learn's 1,797 digits, 8x8, enlarged: 1,397 for training, 400 (40 a class) for testing.

    Args:
        decode: only its resolution counts; 128 by default.
    """
    from sklearn.datasets import load_digits

    data = load_digits()
    side = decode.resolution or DIGITS_RESOLUTION
    grey = torch.from_numpy(data.images).float()[:, None] * (255 / 16)
    large = F.interpolate(grey, (side, side), mode="bilinear", align_corners=False)
    pixels = large.round().to(torch.uint8).permute(0, 2, 3, 1).expand(-1, -1, -1, 3)
    labels = torch.from_numpy(data.target).long()
    classes = tuple(str(digit) for digit in range(10))
    # the last of each class: the writers of the end of the file are not those of its beginning
    test = torch.zeros(len(labels), dtype=torch.bool)
    for digit in range(10):
        test[(labels == digit).nonzero().flatten()[-DIGITS_TEST_PER_CLASS:]] = True
    return (
        ImageStore(pixels[~test].contiguous(), labels[~test], classes, "digits/train"),
        ImageStore(pixels[test].contiguous(), labels[test], classes, "digits/test"),
    )


def load_parquet_pair(folder: Path, decode: Decode) -> tuple[ImageStore, ImageStore]:
    """Return the images of ``folder/train.parquet`` and ``folder/test.parquet`` (or ``val``, ``validation``).

    Raises:
        DataError: a file is missing, empty or has other columns; an image or a label cannot be used.
    """
    _check_folder(folder, "parquet")
    found = sorted(path.name for path in folder.glob("*.parquet"))
    train = folder / "train.parquet"
    tests = [folder / f"{name}.parquet" for name in TEST_NAMES if (folder / f"{name}.parquet").is_file()]
    if not train.is_file() or not tests:
        raise DataError(f"{folder} needs train.parquet and test.parquet (or val, validation); it has: {_listed(found)}")
    return load_parquet(train, decode), load_parquet(tests[0], decode)


def load_parquet(path: Path, decode: Decode) -> ImageStore:
    """Return the images of one parquet file: ``image`` = struct(bytes, path), ``label`` = integer.

    Class names come from the Hugging Face metadata of the schema; without them classes are numbers.

    Raises:
        DataError: pyarrow is missing; the file is unreadable, empty or has other columns; an image is unreadable.
    """
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise DataError(f"parquet files need pyarrow ({error}): pip install 'netadapt[parquet]'") from error
    try:
        table = parquet.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is not a readable parquet file: {error}") from error
    names = table.column_names
    if "image" not in names or "label" not in names:
        raise DataError(
            f'{path} has the columns {_listed(names)}; it needs "image" (struct of bytes, path) and "label"'
        )
    labels = table["label"].to_pylist()
    _check_labels(path, labels)
    rows = table["image"].to_pylist()
    sources = [row.get("bytes") if isinstance(row, dict) else row for row in rows]
    for index, source in enumerate(sources):
        if not isinstance(source, bytes):
            raise DataError(f'{path}, row {index}: "image" holds no bytes; images must be inside the file')
    classes = _class_names(table.schema.metadata or {}, labels)
    return _stored(path, sources, labels, classes, decode, lambda index: f"{path}, row {index}")


def _check_labels(path: Path, labels: Sequence[Any]) -> None:
    if not labels:
        raise DataError(f"{path} has no rows; at least one image is needed")
    for index, label in enumerate(labels):
        if not isinstance(label, int) or label < 0:
            raise DataError(f"{path}, row {index}: label {label} is not allowed: whole numbers from 0 are")


def _class_names(metadata: dict[bytes, bytes], labels: Sequence[int]) -> tuple[str, ...]:
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
        return tuple(features["label"]["names"])
    except (KeyError, TypeError, ValueError):
        return tuple(str(label) for label in range(max(labels) + 1))


def load_folder_pair(folder: Path, decode: Decode) -> tuple[ImageStore, ImageStore]:
    """Return the images of ``folder/train/CLASS/*`` and ``folder/test/CLASS/*`` (or ``val``, ``validation``).

    Raises:
        DataError: a folder is missing or empty, a test class is unknown to training, an image is unreadable.
    """
    _check_folder(folder, "folder")
    train = folder / "train"
    tests = [folder / name for name in TEST_NAMES if (folder / name).is_dir()]
    if not train.is_dir() or not tests:
        found = sorted(path.name for path in folder.iterdir())
        raise DataError(f"{folder} needs the folders train and test (or val, validation); it has: {_listed(found)}")
    classes = tuple(sorted(path.name for path in train.iterdir() if path.is_dir()))
    if not classes:
        raise DataError(f"{train} has no folders; one folder of images per class is needed")
    return load_folder(train, classes, decode), load_folder(tests[0], classes, decode)


def load_folder(folder: Path, classes: tuple[str, ...], decode: Decode) -> ImageStore:
    """Return the images of ``folder/CLASS/*``, in order of class and file name.

    Raises:
        DataError: a class is unknown or has no images; an image is unreadable.
    """
    unknown = sorted(p.name for p in folder.iterdir() if p.is_dir() and p.name not in classes)
    if unknown:
        raise DataError(f'{folder} has the class "{unknown[0]}", which train does not have: {_listed(classes)}')
    files: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        place = folder / name
        members = sorted(p for p in place.glob("*") if p.suffix.lower() in SUFFIXES) if place.is_dir() else []
        if not members:
            raise DataError(f'{folder}: class "{name}" has no images ({", ".join(SUFFIXES)})')
        files += members
        labels += [label] * len(members)
    return _stored(folder, files, labels, classes, decode, lambda index: str(files[index]))


def _stored(
    path: Path, sources: Sequence[Any], labels: Sequence[int], classes: tuple[str, ...], decode: Decode, name_of: Any
) -> ImageStore:
    pixels = decode_images(sources, decode, name_of)
    return ImageStore(pixels, torch.tensor(labels, dtype=torch.int64), classes, str(path))


def _check_folder(folder: Path, kind: str) -> None:
    if not folder.is_dir():
        raise DataError(f'"{folder}" is not a folder: write {kind}:DIR with the folder that holds train and test')


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "") if names else "nothing"
