"""Images kept once in memory as uint8 and turned into training batches by gathers on whole batches.

`datasets.py` fills an `ImageStore`; `classification.py` takes its batches from it.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from logging import getLogger
from os import cpu_count
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Generator, Tensor

from netadapt.errors import DataError

log = getLogger("netadapt")

Box = tuple[float, float, float, float]
#: of this machine's memory that the images of one split may take
LARGEST_SHARE = 0.5


@dataclass(frozen=True)
class ImageStore:
    """Labelled images of one size.

    Attributes:
        pixels: uint8 ``(n, height, width, 3)``, contiguous.
        labels: int64 ``(n,)``, each in ``0 .. len(classes) - 1``.
        classes: their names.
        name: where the images come from, for messages.
    """

    pixels: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    name: str = "the images"

    def __post_init__(self) -> None:
        if len(self.labels) == 0:
            raise DataError(f"{self.name}: no images; at least one is needed")
        expected = (len(self.labels), *self.pixels.shape[1:3], 3)
        if self.pixels.dtype != torch.uint8 or tuple(self.pixels.shape) != expected:
            found = f"{self.pixels.dtype} {tuple(self.pixels.shape)}"
            raise DataError(f"{self.name}: pixels are {found}; uint8 {expected} is expected, one image per label")
        outside = (self.labels < 0) | (self.labels >= len(self.classes))
        if outside.any():
            row = int(outside.nonzero()[0])
            allowed = f"0..{len(self.classes) - 1} is ({len(self.classes)} classes)"
            raise DataError(f"{self.name}, image {row}: label {int(self.labels[row])} is not allowed: {allowed}")

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def images(self) -> Tensor:
        """The pixels as ``(n, 3, height, width)``, a view in channels-last memory."""
        return self.pixels.permute(0, 3, 1, 2)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.pixels.shape[1], self.pixels.shape[2]


@dataclass(frozen=True)
class Decode:
    """How a compressed image becomes pixels.

    Attributes:
        resolution: side of the square result; ``None`` keeps each image's own size.
        crop: box (left, upper, right, lower) in pixels cut out first; ``None`` takes the largest central square.
    """

    resolution: int | None = None
    crop: Box | None = None

    def __call__(self, source: bytes | Path) -> NDArray[np.uint8]:
        """Return uint8 ``(height, width, 3)``; grey images and palettes become RGB."""
        from PIL import Image

        with Image.open(BytesIO(source) if isinstance(source, bytes) else source) as file:
            image = file.convert("RGB")
        if self.crop is not None:
            image = image.crop(self.crop)
        if self.resolution is not None and image.size != (self.resolution, self.resolution):
            side, (width, height) = min(image.size), image.size
            box = ((width - side) / 2, (height - side) / 2, (width + side) / 2, (height + side) / 2)
            image = image.resize((self.resolution, self.resolution), Image.Resampling.BILINEAR, box=box)
        return np.asarray(image)


def decode_images(
    sources: Sequence[bytes | Path], decode: Callable[[bytes | Path], NDArray[np.uint8]], name_of: Callable[[int], str]
) -> Tensor:
    """Decode compressed images on all cores.

    Args:
        sources: file contents or paths.
        decode: turns one into uint8 ``(height, width, 3)``.
        name_of: names the i-th source in messages, e.g. its file and row.

    Returns:
        uint8 ``(n, height, width, 3)``; if that takes over half of this machine's memory, in a file that is gone
        with the process.

    Raises:
        DataError: a source is unreadable, or sizes differ; the message names it.
    """

    def one(index: int) -> NDArray[np.uint8]:
        try:
            return decode(sources[index])
        except (OSError, ValueError, SyntaxError) as error:  # what Pillow raises for broken files
            raise DataError(f"{name_of(index)} is not a readable image: {error}") from error

    shape = one(0).shape
    pixels = _room((len(sources), *shape))

    def fill(index: int) -> None:
        image = one(index)
        if image.shape != shape:
            sizes = f"{image.shape[1]}x{image.shape[0]} pixels, the first image {shape[1]}x{shape[0]}"
            raise DataError(f"{name_of(index)} has {sizes}: set resolution under [task] to bring all to one size")
        pixels[index] = image

    with ThreadPoolExecutor(cpu_count()) as pool:
        for _ in pool.map(fill, range(len(sources)), chunksize=64):
            pass
    return torch.from_numpy(pixels)


def _room(shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Return an array to decode into: in memory, or mapped from a nameless file where memory would not hold it."""
    needed = int(np.prod(shape))
    installed = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed <= installed * LARGEST_SHARE:
        return np.empty(shape, np.uint8)
    log.warning("%.1f GB of images are kept in a file under %s, not in memory", needed / 1e9, tempfile.gettempdir())
    with tempfile.TemporaryFile() as file:
        file.truncate(needed)
        return np.memmap(file, np.uint8, "r+", shape=shape)


@dataclass(frozen=True)
class Augment:
    """Random changes of a training image.

    Attributes:
        shift: largest shift as a fraction of the side; what comes in is mirrored at the border.
        mirror: swap left and right half of the time.
        smallest_area: below 1, cut out a random part of at least this share of the area, with side ratios of 3/4 to
            4/3, and stretch it to full size (instead of shifting): for long training on large images.
    """

    shift: float = 0.125
    mirror: bool = True
    smallest_area: float = 1.0


def augmented(store: ImageStore, indices: Tensor, augment: Augment, generator: Generator) -> Tensor:
    """Return randomly changed images.

    Args:
        store: where they are.
        indices: int64 ``(b,)``.
        augment: what may change.
        generator: the only source of randomness.

    Returns:
        uint8 ``(b, height, width, 3)``.
    """
    if augment.smallest_area < 1:
        return _random_parts(store, indices, augment, generator)
    height, width = store.size
    rows = _shifted(height, len(indices), augment.shift, generator)
    columns = _shifted(width, len(indices), augment.shift, generator)
    if augment.mirror:
        mirrored = torch.rand(len(indices), generator=generator) < 0.5
        columns = torch.where(mirrored[:, None], columns.flip(1), columns)
    # one gather over pixels does selection, shift and mirror at once
    places = ((indices * height)[:, None] + rows)[:, :, None] * width + columns[:, None, :]
    pixels = store.pixels.view(-1, 3).index_select(0, places.view(-1))
    return pixels.view(len(indices), height, width, 3)


def _shifted(side: int, count: int, shift: float, generator: Generator) -> Tensor:
    """Return source positions ``(count, side)`` of shifted lines, mirrored at the borders."""
    most = min(round(side * shift), side - 1)
    offsets = torch.randint(-most, most + 1, (count, 1), generator=generator)
    positions = (torch.arange(side) + offsets).abs()
    return (side - 1) - ((side - 1) - positions).abs()


def _random_parts(store: ImageStore, indices: Tensor, augment: Augment, generator: Generator) -> Tensor:
    """Cut out random boxes and stretch them to full size by bilinear interpolation."""
    count = len(indices)
    uniform = torch.rand(5, count, generator=generator)
    area = augment.smallest_area + (1 - augment.smallest_area) * uniform[0]
    ratio = torch.exp((uniform[1] * 2 - 1) * np.log(4 / 3))
    scale_y, scale_x = (area / ratio).sqrt().clamp(max=1), (area * ratio).sqrt().clamp(max=1)
    theta = torch.zeros(count, 2, 3)
    flip = torch.where((uniform[4] < 0.5) & torch.tensor(augment.mirror), -1.0, 1.0)
    theta[:, 0, 0], theta[:, 1, 1] = scale_x * flip, scale_y
    theta[:, 0, 2] = (uniform[2] * 2 - 1) * (1 - scale_x)
    theta[:, 1, 2] = (uniform[3] * 2 - 1) * (1 - scale_y)
    images = store.images[indices].float()
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    parts = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    return parts.round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()


@dataclass(frozen=True)
class Normalisation:
    """Pixels to network inputs: ``(x / 255 - mean) / std`` per channel.

    Attributes:
        mean: of red, green, blue, scale 0..1.
        std: likewise, above 0.
    """

    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)

    def __post_init__(self) -> None:
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise DataError(
                f"mean={self.mean}, std={self.std} are not allowed: three numbers each, std above 0 (scale 0..1)"
            )

    def __call__(self, pixels: Tensor) -> Tensor:
        """Map uint8 ``(b, height, width, 3)`` to float32 ``(b, 3, height, width)`` in channels-last memory."""
        count, height, width, _ = pixels.shape
        scale, offset = _rows(self, width)
        rows = pixels.reshape(count, height, width * 3).float().mul_(scale).add_(offset)
        return rows.view(count, height, width, 3).permute(0, 3, 1, 2)


SYMMETRIC = Normalisation((128 / 255,) * 3, (128 / 255,) * 3)
IMAGENET = Normalisation()


@lru_cache(maxsize=16)
def _rows(normalisation: Normalisation, width: int) -> tuple[Tensor, Tensor]:
    """Return scale and offset of a whole row of pixels: 5 times faster than broadcasting three channels."""
    mean = torch.tensor(normalisation.mean, dtype=torch.float64)
    std = torch.tensor(normalisation.std, dtype=torch.float64)
    return (1 / (255 * std)).float().repeat(width), (-mean / std).float().repeat(width)
