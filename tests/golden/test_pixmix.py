"""PixMix against a transcription pixel by pixel, and its operations against Pillow."""

import random

import numpy as np
import pytest
import torch
from naive.pixmix import pixmix
from PIL import Image, ImageOps

from gradood.training._picture_operations import OPERATIONS, Operation, drawn_operation
from gradood.training._pixmix import Mixture, Round, drawn_mixture, mixed
from gradood.training.recipe import PixMix

SIZE = (8, 6)


def picture(seed, size=SIZE, channels=3, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(channels, *size, generator=generator, dtype=dtype)


def plain(operation):
    return None if operation is None else (operation.name, operation.amount)


def expected(image, other, mixture):
    turns = [(plain(t.partner), t.product, t.a, t.b) for t in mixture.rounds]
    return torch.from_numpy(pixmix(image.numpy(), other.numpy(), plain(mixture.first), turns))


@pytest.mark.parametrize("seed", range(12))
def test_a_mixture_is_that_of_the_transcription(seed):
    image, other = picture(seed), picture(100 + seed)
    mixture = drawn_mixture(PixMix(severity=10), 1, SIZE, random.Random(seed))
    found = mixed(image, other, mixture)
    assert (found - expected(image, other, mixture)).abs().max() <= 1e-12


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_is_that_of_the_transcription(name):
    generator = random.Random(name)
    amounts = {"posterize": (3, 4), "solarize": (100, 256)}
    slopes = (0.21, -0.3) if name.startswith("shear") else (2, -17)
    for channels, size in ((1, (5, 7)), (3, (9, 8))):
        image = picture(generator.randrange(1000), size, channels)
        for amount in amounts.get(name, slopes):
            mixture = Mixture(Operation(name, amount), (), 0, (0, 0))
            found = mixed(image, image, mixture)
            assert (found - expected(image, image, mixture)).abs().max() <= 1e-12


@pytest.mark.parametrize(
    ("name", "of"),
    [
        ("autocontrast", lambda image, _: ImageOps.autocontrast(image)),
        ("equalize", lambda image, _: ImageOps.equalize(image)),
        ("posterize", lambda image, amount: ImageOps.posterize(image, int(amount))),
        ("solarize", lambda image, amount: ImageOps.solarize(image, int(amount))),
        ("rotate", lambda image, amount: image.rotate(amount, resample=Image.Resampling.BILINEAR)),
        ("shear-x", lambda image, amount: warped(image, (1, amount, 0, 0, 1, 0))),
        ("shear-y", lambda image, amount: warped(image, (1, 0, 0, amount, 1, 0))),
        ("translate-x", lambda image, amount: warped(image, (1, 0, amount, 0, 1, 0))),
        ("translate-y", lambda image, amount: warped(image, (1, 0, 0, 0, 1, amount))),
    ],
)
def test_an_operation_is_that_of_pillow_to_a_level(name, of):
    pixels = np.random.default_rng(0).integers(20, 200, (32, 28, 3), dtype=np.uint8)
    image = torch.from_numpy(pixels).permute(2, 0, 1).double() / 255
    rng = random.Random(1)
    amounts = {
        op.amount
        for op in (drawn_operation(rng, (32, 28), 10) for _ in range(120))
        if op.name == name
    }
    for amount in sorted(amounts)[:4]:
        theirs = torch.from_numpy(np.array(of(Image.fromarray(pixels), amount))).permute(2, 0, 1)
        ours = 255 * Operation(name, amount)(image)
        assert (ours - theirs).abs().max() <= 1.01, amount


def warped(image, matrix):
    return image.transform(
        image.size, Image.Transform.AFFINE, matrix, resample=Image.Resampling.BILINEAR
    )


def test_sums_and_products_of_known_numbers():
    image, other = torch.full((1, 1, 1), 0.5), torch.full((1, 1, 1), 0.25)

    def of(product, a, b):
        mixture = Mixture(None, (Round(None, product, a, b),), 0, (0, 0))
        return float(mixed(image, other, mixture))

    assert of(False, 1.0, 1.0) == 0.25
    assert of(False, 1.5, -0.5) == 0.625
    assert of(True, 1.0, 1.0) == 0.25
    assert of(True, 1.0, -3.0) == 1.0  # 4, cut.
    black = torch.zeros(1, 1, 1)
    power = Mixture(None, (Round(None, True, 1.5, -0.9),), 0, (0, 0))
    assert float(mixed(black, black, power)) == 0.0
    assert float(mixed(image, black, power)) == 1.0


def test_rounds_weights_and_partners_are_drawn_as_the_paper_has_it():
    rng = random.Random(0)
    drawn = [drawn_mixture(PixMix(), 5, (32, 32), rng) for _ in range(2000)]
    counts = np.bincount([len(m.rounds) for m in drawn], minlength=5)
    assert len(counts) == 5 and abs(counts - 400).max() < 80
    assert abs(sum(m.first is None for m in drawn) - 1000) < 100
    assert {m.picture for m in drawn} == set(range(5))
    turns = [turn for m in drawn for turn in m.rounds]
    share = np.mean([turn.partner is None for turn in turns])
    products = np.mean([turn.product for turn in turns])
    assert abs(share - 0.5) < 0.03 and abs(products - 0.5) < 0.03
    within = [turn for turn in turns if turn.b >= 0]
    beyond = [turn for turn in turns if turn.b < 0]
    assert abs(len(within) / len(turns) - 0.5) < 0.03
    # Beta(3, 1) has the mean 3/4, Beta(1, 3) 1/4.
    for some, a, b in ((within, 0.75, 0.25), (beyond, 1.25, -0.25)):
        assert abs(np.mean([turn.a for turn in some]) - a) < 0.02
        assert abs(np.mean([turn.b for turn in some]) - b) < 0.02
    names = {m.first.name for m in drawn if m.first is not None}
    assert names == set(OPERATIONS)
