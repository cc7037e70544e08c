"""A tiny real classification task, and files with images."""

from __future__ import annotations

import json
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from netadapt.training.classification import Classification
from netadapt.training.images import SYMMETRIC, Augment, ImageStore


@pytest.fixture
def store():
    """Images of 3 classes, told apart by which channel is bright."""

    def build(per_class: int = 30, side: int = 12, seed: int = 0) -> ImageStore:
        generator = torch.Generator().manual_seed(seed)
        labels = torch.arange(3).repeat(per_class)
        pixels = torch.randint(0, 120, (len(labels), side, side, 3), generator=generator, dtype=torch.uint8)
        pixels[torch.arange(len(labels)), :, :, labels] += 60
        return ImageStore(pixels, labels, ("red", "green", "blue"), f"store{seed}")

    return build


@pytest.fixture
def task(store):
    """The task on them: 90 images, 15 of which are the selection split."""
    return Classification(
        store(), store(seed=1), batch_size=16, selection=5, augment=Augment(), normalisation=SYMMETRIC
    )


@pytest.fixture
def network():
    """A convolutional network with batch norm, depthwise convolution and dropout."""

    def build(classes: int = 3, seed: int = 0) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return nn.Sequential(
                nn.Conv2d(3, 8, 3, 2, 1, bias=False),
                nn.BatchNorm2d(8),
                nn.ReLU6(),
                nn.Conv2d(8, 8, 3, 1, 1, groups=8, bias=False),
                nn.BatchNorm2d(8),
                nn.AdaptiveAvgPool2d(1),
                nn.Flatten(),
                nn.Dropout(0.1),
                nn.Linear(8, classes),
            )

    return build


@pytest.fixture
def encoded():
    """Encode an image of a given size and colour mode."""

    def build(size=(6, 6), mode="RGB", kind="PNG", colour=None) -> bytes:
        rng = np.random.default_rng(0)
        image = Image.fromarray(rng.integers(0, 255, (size[1], size[0], 3), np.uint8))
        if colour is not None:
            image = Image.new("RGB", size, colour)
        buffer = BytesIO()
        image.convert(mode).save(buffer, kind)
        return buffer.getvalue()

    return build


@pytest.fixture
def write_parquet():
    """Write a parquet file in the Hugging Face layout."""

    def write(path, images, labels, names=("a", "b")):
        import pyarrow as pa
        from pyarrow import parquet

        rows = [{"bytes": image, "path": None} for image in images]
        kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        table = pa.table({"image": pa.array(rows, kind), "label": pa.array(labels, pa.int64())})
        if names is not None:
            info = {"info": {"features": {"label": {"names": list(names), "_type": "ClassLabel"}}}}
            table = table.replace_schema_metadata({"huggingface": json.dumps(info)})
        parquet.write_table(table, path)

    return write
