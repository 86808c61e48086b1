"""PixMix in a run: by position alone, of any images, resumed to the bit, and what it refuses."""

import random

import pytest
import torch
from torch.utils.data import Dataset, TensorDataset

from gradood.data import Preprocess
from gradood.errors import ConfigError, DataError
from gradood.training import FractalPictures, Options, Trainer, TrainingData, load_recipe
from gradood.training._checkpoint import load
from gradood.training._pixmix import Mixer
from gradood.training._samples import Samples
from gradood.training.data import DataSplit
from gradood.training.recipe import Augment, PixMix

BLACK, WHITE = torch.tensor([-2.0, -1.0, -1.5]), torch.tensor([2.0, 3.0, 2.5])


def pixels(n=40, size=(8, 8), channels=3, dtype=torch.float32):
    generator = torch.Generator().manual_seed(n)
    return torch.rand(n, channels, *size, generator=generator).to(dtype)


def normalized(images):
    return images * (WHITE - BLACK).view(-1, 1, 1) + BLACK.view(-1, 1, 1)


def mixer(pictures=None, **given):
    return Mixer(PixMix(), pictures, **given)


def images_of(made):
    return [image for image, _ in made]


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.head = torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.Linear(8, 4)

    def forward(self, x):
        return self.head(torch.relu(self.conv(x)).mean((2, 3)))


def data(**given):
    return TrainingData(id=TensorDataset(pixels(), torch.arange(40) % 4), **given)


def recipe(*changes):
    small = ["batch.id=8", "validation.id=8", "schedule.epochs=2", "checkpoint.every=1"]
    return load_recipe("pixmix", [*small, *changes])


def test_a_mixture_depends_on_seed_and_position_alone():
    made = mixer(seed=3)
    image = pixels(1)[0]
    found = [made(image, position) for position in range(20)]
    again = [mixer(seed=3)(image, position) for position in reversed(range(20))][::-1]
    assert all(torch.equal(a, b) for a, b in zip(found, again, strict=True))
    assert sum(torch.equal(a, mixer(seed=4)(image, i)) for i, a in enumerate(found)) < 8
    untouched = [a for a in found if torch.equal(a, image)]
    assert 0 < len(untouched) < 10 and any(a is image for a in untouched)


@pytest.mark.parametrize(
    ("size", "channels", "dtype"),
    [((8, 8), 3, torch.float32), ((5, 9), 1, torch.float64), ((7, 3), 4, torch.float16),
     ((1, 1), 2, torch.bfloat16)],
)  # fmt: skip
def test_images_of_any_size_channels_and_type(size, channels, dtype):
    gray = TensorDataset(pixels(4, (6, 5), 1))
    pictures = gray if channels != 3 else None
    image = pixels(1, size, channels, dtype)[0]
    for position in range(12):
        found = mixer(pictures)(image, position)
        assert found.shape == image.shape and found.dtype == dtype
        assert 0 <= found.min() and found.max() <= 1


def test_pixels_are_those_before_the_normalization():
    images, made = pixels(6), mixer(TensorDataset(pixels(9, (12, 10))))
    scaled = mixer(TensorDataset(pixels(9, (12, 10))), black=BLACK, white=WHITE)
    for position, image in enumerate(images):
        found = scaled(normalized(image), position)
        torch.testing.assert_close(found, normalized(made(image, position)), atol=2e-5, rtol=0)
    preprocess = Preprocess(mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
    torch.testing.assert_close(preprocess.white, torch.tensor([2.5, 2.0, 1.75]))


def test_known_images_alone_are_mixed_and_in_workers_alike():
    given = data(aux=TensorDataset(pixels(50)))
    chosen = recipe("augment.crop_padding=0", "augment.flip=false", "validation.aux=8")
    split = DataSplit(given, chosen)
    outliers = split.outliers
    for position in range(10):
        place = outliers.indices[outliers.order[position]]
        assert torch.equal(outliers[position][0], given.aux[place][0])
    changed = [
        not torch.equal(split.known[i][0], given.id[split.known.indices[split.known.order[i]]][0])
        for i in range(20)
    ]
    assert any(changed)
    here, there = (
        torch.cat(images_of(split.known.batches([range(4), range(4, 9)], workers=w)))
        for w in (0, 2)
    )
    assert torch.equal(here, there)
    held = split.held.id.plain(range(8))[0]
    assert all(any(torch.equal(x, image) for image in given.id.tensors[0]) for x in held)


def test_drawing_leaves_the_global_generators_alone():
    class Drawn(Dataset):
        def __len__(self):
            return 5

        def __getitem__(self, index):
            return torch.rand(3, 9, 9)

    before = torch.get_rng_state(), random.getstate()
    first = [mixer(Drawn())(pixels(1)[0], i) for i in range(8)]
    assert all(torch.equal(a, mixer(Drawn())(pixels(1)[0], i)) for i, a in enumerate(first))
    assert torch.equal(before[0], torch.get_rng_state()) and before[1] == random.getstate()


def test_a_resumed_run_is_the_same_to_the_bit(tmp_path):
    whole = Trainer(Net(), recipe(), data(), out=tmp_path / "whole").fit().model

    def stop(step):
        if step == 3:
            raise KeyboardInterrupt

    options = Options(after_step=stop)
    with pytest.raises(KeyboardInterrupt):
        Trainer(Net(), recipe(), data(), out=tmp_path / "part", options=options).fit()
    resumed = Trainer(Net(), recipe(), data(), out=tmp_path / "part").fit(resume=True).model
    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_run_is_not_resumed_with_other_pictures(tmp_path):
    chosen = recipe("schedule.steps=2")
    given = data(mixing_set=TensorDataset(pixels(40, (9, 9))))
    Trainer(Net(), chosen, given, out=tmp_path).fit()
    assert len(load(tmp_path / "checkpoint.safetensors").document["origin"]["data"]["mixing"]) == 32
    other = data(mixing_set=TensorDataset(pixels(41, (9, 9))))
    with pytest.raises(DataError, match="other mixing images"):
        Trainer(Net(), chosen, other, out=tmp_path).fit(resume=True)


def test_recipes_without_it_have_the_records_that_they_had(tmp_path):
    small = ["batch.id=8", "validation.id=8", "schedule.steps=1"]
    Trainer(Net(), load_recipe("plain", small), data(), out=tmp_path).fit()
    document = load(tmp_path / "checkpoint.safetensors").document
    assert document["recipe"]["augment"] == {"crop_padding": 4, "flip": True}
    assert "mixing" not in document["origin"]["data"]
    assert load_recipe("ish", ["augment.pixmix.rounds=2"]).augment.pixmix == PixMix(rounds=2)


def test_fractals_are_a_function_of_seed_and_index():
    pictures = FractalPictures(count=6, size=20, seed=1)
    found = torch.stack([pictures[i] for i in range(len(pictures))])
    assert found.shape == (6, 3, 20, 20) and found.dtype == torch.float32
    assert found.isfinite().all() and 0 <= found.min() and found.max() <= 1
    assert torch.equal(found[4], FractalPictures(count=9, size=20, seed=1)[4])
    assert not torch.equal(found[4], FractalPictures(count=6, size=20, seed=2)[4])
    assert (found.std((1, 2, 3)) > 0.02).all() and found.unique(dim=0).shape[0] == 6
    with pytest.raises(IndexError):
        pictures[6]
    with pytest.raises(ConfigError, match="size=0"):
        FractalPictures(size=0)


@pytest.mark.parametrize(
    ("pictures", "message"),
    [
        (TensorDataset(pixels(4, channels=2)), "has 2 channels, and images have 3"),
        (TensorDataset(4 * pixels(4)), "not normalized"),
        (TensorDataset((255 * pixels(4)).byte()), "no floating-point image"),
        (TensorDataset(pixels(4) * float("nan")), "not normalized"),
    ],
)
def test_a_picture_that_cannot_be_mixed_is_told(pictures, message):
    with pytest.raises(DataError, match=message):
        for position in range(20):
            mixer(pictures)(pixels(1)[0], position)


def test_what_it_refuses():
    with pytest.raises(DataError, match="the mixing set has no pictures"):
        mixer(TensorDataset(pixels(4)[:0]))
    with pytest.raises(DataError, match="no length"):
        mixer(iter([pixels(1)[0]]))
    ids = TensorDataset(torch.zeros(40, 7, dtype=torch.int64), torch.arange(40) % 4)
    with pytest.raises(DataError, match=r"PixMix mixes images, and an input is \(7,\) torch.int64"):
        DataSplit(TrainingData(id=ids), recipe())
    beyond = TensorDataset(normalized(pixels()), torch.arange(40) % 4)
    with pytest.raises(DataError, match="expected black= and white="):
        DataSplit(TrainingData(id=beyond), recipe())
    DataSplit(TrainingData(id=beyond, black=BLACK, white=WHITE), recipe())
    with pytest.raises(ConfigError, match="recipe 'plain' does not mix"):
        DataSplit(
            data(mixing_set=TensorDataset(pixels(4))), load_recipe("plain", ["validation.id=8"])
        )
    for wrong in ("rounds=-1", "strength=0", "severity=11"):
        with pytest.raises(ConfigError, match=wrong.split("=")[0]):
            load_recipe("pixmix", [f"augment.pixmix.{wrong}"])


def test_it_comes_after_crop_and_mirror():
    image = pixels(1)[0]
    flipped = Samples([(image, 0)], [0], purpose="id", seed=0, augment=Augment(crop_padding=0))
    both = Samples(
        [(image, 0)], [0], purpose="id", seed=0, augment=Augment(crop_padding=0), mixer=mixer()
    )
    for position in range(6):
        assert torch.equal(both[position][0], mixer()(flipped[position][0], position))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"black": torch.zeros(2)}, "black= of the training data has 2 values, and an image 3"),
        ({"black": float("nan")}, "black=nan of the training data is no pixel"),
        ({"white": "white"}, "white='white' of the training data is no pixel"),
        ({"black": 1.0}, "equal in a channel"),
    ],
)
def test_a_black_or_white_that_is_no_pixel_is_told(given, message):
    with pytest.raises(DataError, match=message):
        Mixer(PixMix(), None, **given)(torch.rand(3, 8, 8), 0)


def test_numbers_are_pixels_of_every_channel():
    image = torch.rand(3, 8, 8)
    plain = Mixer(PixMix(), None)(image, 3)
    assert torch.equal(Mixer(PixMix(), None, black=0, white=[1.0, 1, 1])(image, 3), plain)


@pytest.mark.parametrize("image", [torch.rand(3, 0, 5), torch.full((3, 2, 2), float("nan"))])
def test_an_image_that_is_none_is_told(image):
    with pytest.raises(DataError, match="PixMix mixes images"):
        Mixer(PixMix(), None)(image, 0)


class Broken(torch.utils.data.Dataset):
    """Pictures of which none can be read."""

    def __len__(self):
        return 3

    def __getitem__(self, index):
        raise OSError("cut off.")


def test_a_picture_that_cannot_be_read_is_named():
    mixer = Mixer(PixMix(rounds=50), Broken())
    with pytest.raises(DataError, match=r"picture \d of the mixing set cannot be read: cut off"):
        for position in range(20):
            mixer(torch.rand(3, 8, 8), position)


@pytest.mark.parametrize("rounds", [2.5, True, "3"])
def test_rounds_are_a_whole_number(rounds):
    with pytest.raises(ConfigError, match="rounds"):
        PixMix(rounds=rounds)
