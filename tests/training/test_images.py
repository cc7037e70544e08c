from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from netadapt.errors import DataError
from netadapt.training.images import (
    IMAGENET,
    SYMMETRIC,
    Augment,
    Decode,
    ImageStore,
    Normalisation,
    augmented,
    decode_images,
)


def pixels(n=4, side=8):
    return torch.arange(n * side * side * 3).reshape(n, side, side, 3).to(torch.uint8)


def test_a_store_shows_its_pixels_channels_first():
    store = ImageStore(pixels(), torch.tensor([0, 1, 0, 1]), ("a", "b"))
    assert store.images.shape == (4, 3, 8, 8)
    assert store.images.is_contiguous(memory_format=torch.channels_last)
    assert len(store) == 4
    assert store.size == (8, 8)


@pytest.mark.parametrize(
    ("values", "labels", "message"),
    [
        (torch.zeros(0, 8, 8, 3, dtype=torch.uint8), [], "mine: no images; at least one is needed"),
        (pixels(), [0, 1, 2, 0], r"mine, image 2: label 2 is not allowed: 0..1 is \(2 classes\)"),
        (pixels(), [0, -1, 1, 0], "mine, image 1: label -1 is not allowed"),
        (pixels(), [0, 1], r"mine: pixels are torch.uint8 \(4, 8, 8, 3\); uint8 \(2, 8, 8, 3\) is expected"),
        (pixels().float(), [0, 1, 0, 1], "pixels are torch.float32"),
        (pixels().permute(0, 3, 1, 2), [0, 1, 0, 1], r"pixels are torch.uint8 \(4, 3, 8, 8\)"),
    ],
)
def test_a_store_that_cannot_be_used_is_refused(values, labels, message):
    with pytest.raises(DataError, match=message):
        ImageStore(values, torch.tensor(labels, dtype=torch.int64), ("a", "b"), "mine")


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "1"])
def test_every_colour_mode_becomes_rgb(encoded, mode):
    assert Decode()(encoded(mode=mode)).shape == (6, 6, 3)


def test_grey_becomes_three_equal_channels(encoded):
    image = Decode()(encoded(mode="L"))
    assert (image[..., 0] == image[..., 2]).all()


def test_an_oblong_image_loses_its_ends_not_its_shape(encoded):
    image = np.zeros((6, 12, 3), np.uint8)
    image[:, 2:10] = 200  # the central square and what the resize looks at beside it
    from io import BytesIO

    from PIL import Image

    buffer = BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    assert (Decode(4)(buffer.getvalue()) == 200).all()


def test_a_crop_box_comes_before_the_resize(encoded):
    assert Decode(8, (1, 1, 5, 5))(encoded(colour=(1, 2, 3))).shape == (8, 8, 3)
    assert (Decode(None, (1, 1, 5, 4))(encoded(colour=(1, 2, 3))) == (1, 2, 3)).all()


def test_decoding_keeps_the_order(encoded):
    sources = [encoded(colour=(i, 0, 0)) for i in range(150)]
    decoded = decode_images(sources, Decode(), str)
    assert decoded[:, 0, 0, 0].tolist() == list(range(150))


def test_images_that_memory_would_not_hold_are_kept_in_a_file(encoded, monkeypatch, caplog):
    sources = [encoded(), encoded(kind="JPEG"), encoded()]
    in_memory = decode_images(sources, Decode(), str)
    monkeypatch.setattr("netadapt.training.images.LARGEST_SHARE", 0.0)
    assert torch.equal(decode_images(sources, Decode(), str), in_memory)
    assert "kept in a file" in caplog.text


def test_an_unreadable_image_is_named(encoded):
    sources = [encoded(), b"not an image", encoded()]
    with pytest.raises(DataError, match="row 1 is not a readable image: cannot identify image file"):
        decode_images(sources, Decode(), lambda i: f"row {i}")
    with pytest.raises(DataError, match="row 2 is not a readable image"):
        decode_images([encoded(), encoded(), encoded(kind="JPEG")[:-200]], Decode(), lambda i: f"row {i}")


def test_another_size_is_named(encoded):
    with pytest.raises(DataError, match="row 1 has 5x6 pixels, the first image 6x6: set resolution under"):
        decode_images([encoded(), encoded((5, 6))], Decode(), lambda i: f"row {i}")


@given(seed=st.integers(0, 1000), mirror=st.booleans(), shift=st.floats(0, 1))
def test_augmented_images_equal_a_slow_reference(seed, mirror, shift):
    side, count = 9, 5
    rng = np.random.default_rng(seed)
    source = torch.from_numpy(rng.integers(0, 255, (7, side, side, 3), np.uint8))
    store = ImageStore(source, torch.zeros(7, dtype=torch.int64), ("a",))
    indices = torch.from_numpy(rng.integers(0, 7, count))
    result = augmented(store, indices, Augment(shift, mirror), torch.Generator().manual_seed(seed)).numpy()
    most = min(round(side * shift), side - 1)
    for index, image in zip(indices.tolist(), result, strict=True):
        wide = np.pad(source[index].numpy(), ((most, most), (most, most), (0, 0)), mode="reflect")
        crops = [wide[y : y + side, x : x + side] for y in range(2 * most + 1) for x in range(2 * most + 1)]
        crops += [crop[:, ::-1] for crop in crops] if mirror else []
        assert any((crop == image).all() for crop in crops)


@pytest.mark.parametrize("augment", [Augment(), Augment(smallest_area=0.3)])
def test_the_same_seed_gives_the_same_images_and_another_other_ones(augment):
    store = ImageStore(torch.randint(0, 255, (9, 16, 16, 3), dtype=torch.uint8), torch.zeros(9).long(), ("a",))
    one, same, other = (
        augmented(store, torch.arange(9), augment, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert one.dtype == torch.uint8
    assert one.shape == (9, 16, 16, 3)


def test_random_parts_stay_inside_the_image():
    ramp = torch.arange(32, dtype=torch.uint8)[None, None, :, None].expand(64, 32, 32, 3).contiguous() * 8
    store = ImageStore(ramp, torch.zeros(64).long(), ("a",))
    parts = augmented(store, torch.arange(64), Augment(smallest_area=0.25), torch.Generator().manual_seed(0)).int()
    spans = parts[:, 0, :, 0].amax(1) - parts[:, 0, :, 0].amin(1)
    assert spans.min() >= 0.4 * 248  # sqrt(0.25 * 3/4) of the width at least
    assert spans.max() <= 248
    rising = (parts[:, 0, -1, 0] > parts[:, 0, 0, 0]).float().mean()
    assert 0.2 < rising < 0.8, "about half are mirrored"


def test_normalisation_is_that_of_the_references():
    values = pixels()
    channels = values.permute(0, 3, 1, 2).float()
    torch.testing.assert_close(SYMMETRIC(values), (channels - 128) / 128)
    mean, std = (torch.tensor(v)[:, None, None] for v in (IMAGENET.mean, IMAGENET.std))
    torch.testing.assert_close(IMAGENET(values), (channels / 255 - mean) / std)
    assert IMAGENET(values).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(("mean", "std"), [((0.5,), (0.5,) * 3), ((0.5,) * 3, (0.5, 0, 0.5))])
def test_a_wrong_normalisation_is_refused(mean, std):
    with pytest.raises(DataError, match="are not allowed: three numbers each, std above 0"):
        Normalisation(mean, std)
