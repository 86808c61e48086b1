"""Runs that share a folder, resumed on other data, with cut logs, random transforms."""

import multiprocessing
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from test_training_trainer import Killed, data, kill_at, net, recipe, rows, same
from torch import Tensor, nn
from torch.utils.data import (
    ConcatDataset,
    DataLoader,
    Dataset,
    IterableDataset,
    Subset,
    TensorDataset,
)

from gradood._io.lock import exclusive
from gradood.data import Preprocess, open_images
from gradood.errors import ConfigError, DataError
from gradood.training import Options, Trainer, TrainingData
from gradood.training._checkpoint import load, save
from gradood.training._samples import Samples, decodes_alike
from gradood.training.data import DataSplit


class Augmented(Dataset[Any]):
    """A data set with a random transform, which counts its reads."""

    def __init__(self) -> None:
        self.reads: dict[int, int] = {}

    def __len__(self) -> int:
        return 150

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        self.reads[index] = self.reads.get(index, 0) + 1
        return torch.randn(3, 8, 8), index % 4


def test_images_with_random_transforms_are_read_anew_in_every_epoch(tmp_path):
    augmented = Augmented()
    chosen = recipe("plain", "schedule.epochs=5")
    Trainer(net(), chosen, TrainingData(id=augmented), out=tmp_path).fit()
    assert min(augmented.reads.values()) >= 5


def folder_of_images(folder: Path) -> Path:
    for label in range(2):
        (folder / str(label)).mkdir(parents=True)
        for i in range(4):
            Image.new("RGB", (4, 4), (60 * i, 90 * label, 0)).save(folder / str(label) / f"{i}.png")
    return folder


def test_only_images_that_decode_alike_are_cached(tmp_path):
    images = open_images(folder_of_images(tmp_path / "images"), Preprocess())
    assert decodes_alike(images) and decodes_alike(ConcatDataset([images, Subset(images, [1])]))
    random_crop = open_images(tmp_path / "images", lambda image: torch.rand(3, 4, 4))
    assert not decodes_alike(random_crop)
    assert not decodes_alike(ConcatDataset([images, random_crop]))
    assert not decodes_alike(TensorDataset(torch.zeros(4, 3, 4, 4)))
    cached, fresh = (
        Samples(dataset, range(8), purpose="id", seed=0) for dataset in (images, random_crop)
    )
    assert cached.item(2)[0] is cached.item(2)[0]
    assert not torch.equal(fresh.item(2)[0], fresh.item(2)[0])


def test_images_exchanged_between_the_folders_of_two_classes_are_other_data(tmp_path):
    fingerprints = []
    for name, exchanged in (("a", False), ("moved", False), ("b", True)):
        folder = folder_of_images(tmp_path / name)
        if exchanged:
            (folder / "0" / "1.png").rename(folder / "1" / "9.png")
            (folder / "1" / "1.png").rename(folder / "0" / "9.png")
        split = DataSplit(TrainingData(id=open_images(folder)), recipe("plain", "validation.id=2"))
        fingerprints.append(split.fingerprint()["labels"])
    assert fingerprints[0] == fingerprints[1] != fingerprints[2]


def test_a_resumed_run_with_random_transforms_is_bit_for_bit_the_same(tmp_path):
    chosen = recipe("plain", "checkpoint.every=3")
    whole, resumed = net(), net(seed=5)
    Trainer(whole, chosen, TrainingData(id=Augmented()), out=tmp_path / "a").fit()
    with pytest.raises(Killed):
        options = Options(after_step=kill_at(6))
        Trainer(
            net(), chosen, TrainingData(id=Augmented()), out=tmp_path / "b", options=options
        ).fit()
    Trainer(resumed, chosen, TrainingData(id=Augmented()), out=tmp_path / "b").fit(resume=True)
    assert same(whole, resumed)


class Drawn(Dataset[Any]):
    """A data set that draws by every global generator."""

    def __len__(self) -> int:
        return 60

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        draws = torch.tensor([float(torch.rand(())), random.random(), np.random.rand()])
        return draws.view(3, 1, 1), index % 4


def drawn(seed: int = 0, purpose: str = "id", workers: int = 0, start: int = 0) -> Tensor:
    samples = Samples(Drawn(), range(60), purpose=purpose, seed=seed)
    positions = (range(i, i + 10) for i in range(start, 120, 10))
    return torch.cat([images for images, _ in samples.batches(positions, workers=workers)])[..., 0]


def test_random_transforms_depend_on_seed_purpose_and_position_alone():
    found = drawn()
    assert len(found.flatten().unique()) == found.numel()  # Anew in the second epoch.
    assert torch.equal(drawn(), found)
    assert torch.equal(drawn(start=60), found[60:])
    assert torch.equal(drawn(workers=2), found)
    assert not torch.equal(drawn(seed=1), found)
    assert not torch.equal(drawn(purpose="aux"), found)


def test_reading_random_transforms_leaves_the_global_generators_alone():
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    drawn()
    assert torch.equal(torch.get_rng_state(), states[0]) and random.getstate() == states[1]
    assert np.array_equal(np.random.get_state()[1], states[2])


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter(data().id)


class SizedStream(Stream):
    def __len__(self) -> int:
        return 150


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (Stream, r"a Stream without a length; expected a map-style data set"),
        (SizedStream, r"a SizedStream without access by index; expected a map-style data set"),
        (lambda: DataLoader(data().id), r"a DataLoader; expected its data set \(loader\.dataset\)"),
        (lambda: data().id.tensors, r"whole tensors; expected .*TensorDataset\(images, labels\)"),
        (lambda: data().id.tensors[0], r"whole tensors; expected .*TensorDataset"),
        (lambda: set(range(150)), r"a set without access by index"),
    ],
)
@pytest.mark.parametrize("purpose", ["id", "aux"])
def test_what_is_no_map_style_data_set_is_refused(tmp_path, make, said, purpose):
    source = data()
    given = TrainingData(**{"id": source.id, "aux": source.aux} | {purpose: make()})
    with pytest.raises(DataError, match=f"the {purpose} data is .*{said}"):
        Trainer(net(), recipe("energy"), given, out=tmp_path).fit()


@pytest.fixture
def interrupted(tmp_path) -> Path:
    """A run of seven steps, whose last checkpoint is of the sixth."""
    options = Options(after_step=kill_at(7), log_every=2)
    chosen = recipe("energy", "checkpoint.every=3")
    with pytest.raises(Killed):
        Trainer(net(), chosen, data(), out=tmp_path / "run", options=options).fit()
    return tmp_path / "run"


def resume(folder: Path, model: nn.Module, source: TrainingData) -> None:
    chosen = recipe("energy", "checkpoint.every=3")
    Trainer(model, chosen, source, out=folder, options=Options(log_every=2)).fit(resume=True)


def test_a_run_is_not_resumed_on_other_data_of_equal_size(interrupted):
    source = data()
    images, labels = source.id.tensors
    wrong_labels = TrainingData(id=TensorDataset(images, labels.flip(0)), aux=source.aux)
    with pytest.raises(
        DataError, match=r"these are other in-distribution labels or file names\. Re"
    ):
        resume(interrupted, net(), wrong_labels)
    wrong_images = TrainingData(id=TensorDataset(images + 5, labels), aux=source.aux)
    with pytest.raises(DataError, match=r"these are other in-distribution images"):
        resume(interrupted, net(), wrong_images)
    wrong_aux = TrainingData(id=source.id, aux=TensorDataset(source.aux.tensors[0].flip(0)))
    with pytest.raises(DataError, match=r"these are other auxiliary images"):
        resume(interrupted, net(), wrong_aux)


class Foreign(Dataset[Any]):
    """Items without attributes to read labels from."""

    def __init__(self, shift: int) -> None:
        self.shift = shift

    def __len__(self) -> int:
        return 150

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"x": torch.full((3, 8, 8), index / 150), "y": (index + self.shift) % 4}


def test_labels_of_any_data_set_are_compared(tmp_path):
    options = Options(after_step=kill_at(3))
    chosen = recipe("plain", "checkpoint.every=3")
    with pytest.raises(Killed):
        Trainer(net(), chosen, TrainingData(id=Foreign(0)), out=tmp_path, options=options).fit()
    with pytest.raises(DataError, match=r"other in-distribution labels"):
        Trainer(net(), chosen, TrainingData(id=Foreign(1)), out=tmp_path).fit(resume=True)
    Trainer(net(), chosen, TrainingData(id=Foreign(0)), out=tmp_path).fit(resume=True)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("optimizer.kind=adam", r"optimizer\.kind was 'sgd', is 'adam'"),
        ("optimizer.lr=0.3", r"optimizer\.lr was .*, is 0\.3"),
        ("precision=bf16", r"precision was 'float32', is 'bf16'"),
        ("seed=9", r"seed was 0, is 9"),
        ("schedule.epochs=4", r"schedule\.epochs was 2, is 4"),
    ],
)
def test_a_run_is_not_resumed_by_another_recipe(interrupted, change, said):
    chosen = recipe("energy", "checkpoint.every=3", change)
    with pytest.raises(ConfigError, match=said):
        Trainer(net(), chosen, data(), out=interrupted).fit(resume=True)


def test_a_lock_left_by_a_run_that_ended_is_no_obstacle(interrupted):
    assert (interrupted / ".lock").exists()
    resume(interrupted, net(), data())


def test_a_run_is_not_resumed_with_another_model(interrupted):
    wider = net()
    wider.bn = nn.BatchNorm2d(8, affine=False)
    before = {name: tensor.clone() for name, tensor in wider.state_dict().items()}
    with pytest.raises(
        ConfigError, match=r"trains another model: .*bn\.weight was \(8,\), is None"
    ):
        resume(interrupted, wider, data())
    assert all(torch.equal(tensor, before[n]) for n, tensor in wider.state_dict().items())
    wide = data()
    wide = TrainingData(
        id=TensorDataset(wide.id.tensors[0].double(), wide.id.tensors[1]),
        aux=TensorDataset(wide.aux.tensors[0].double()),
    )
    with pytest.raises(
        ConfigError, match=r"another model: .*bn\.weight was torch\.float32, is torch\.float64"
    ):
        resume(interrupted, net().double(), wide)
    frozen = net()
    frozen.conv.requires_grad_(False)
    with pytest.raises(ConfigError, match=r"trains other parameters of this model"):
        resume(interrupted, frozen, data())


def test_other_starting_weights_have_no_part_in_a_resumed_run_and_are_told(interrupted, caplog):
    resume(interrupted, net(seed=8), data())
    assert "the weights of the given model are replaced by those of the checkpoint" in caplog.text
    caplog.clear()
    resume(interrupted, net(), data())
    assert "are replaced" not in caplog.text


def test_a_checkpoint_of_an_earlier_version_is_resumed(interrupted, tmp_path):
    whole, resumed = net(), net(seed=8)
    Trainer(whole, recipe("energy", "checkpoint.every=3"), data(), out=tmp_path / "whole").fit()
    path = interrupted / "checkpoint.safetensors"
    saved = load(path)
    assert saved.document.pop("origin")
    save(path, saved.tensors, saved.document)
    resume(interrupted, resumed, data())
    assert same(whole, resumed)


def test_a_folder_takes_one_run_at_a_time(tmp_path):
    refusals = []

    def second(done: int) -> None:
        if done == 2:
            for kwargs in ({}, {"resume": True}):
                with pytest.raises(ConfigError, match=r"is in use by this process already") as e:
                    Trainer(net(), recipe("plain"), data(), out=tmp_path).fit(**kwargs)
                refusals.append(e)

    options = Options(after_step=second)
    Trainer(net(), recipe("plain"), data(), out=tmp_path, options=options).fit()
    assert len(refusals) == 2
    assert [row["epoch"] for row in rows(tmp_path / "epochs.csv")] == ["0", "1", "2"]


def hold(folder: Path, held: Any, release: Any) -> None:
    with exclusive(folder):
        held.set()
        release.wait(60)


@pytest.mark.slow
def test_a_folder_takes_one_process_at_a_time(tmp_path):
    context = multiprocessing.get_context("spawn")
    held, release = context.Event(), context.Event()
    process = context.Process(target=hold, args=(tmp_path, held, release))
    process.start()
    try:
        assert held.wait(60)
        with pytest.raises(ConfigError, match=r"another process is at work on"):
            Trainer(net(), recipe("plain"), data(), out=tmp_path).fit()
    finally:
        release.set()
        process.join()
    trained = Trainer(net(), recipe("plain", "schedule.steps=1"), data(), out=tmp_path).fit()
    assert trained.steps == 1


@pytest.mark.parametrize("name", ["epochs.csv", "steps.csv"])
def test_a_log_row_cut_by_a_kill_is_repaired(interrupted, tmp_path, name):
    whole = tmp_path / "whole"
    options = Options(log_every=2)
    chosen = recipe("energy", "checkpoint.every=3")
    Trainer(net(), chosen, data(), out=whole, options=options).fit()
    log = interrupted / name
    log.write_bytes(log.read_bytes() + b"6,0,0.31")
    resume(interrupted, net(), data())
    assert rows(log) == rows(whole / name)


def test_a_log_cut_in_its_header_is_begun_again(tmp_path):
    (tmp_path / "steps.csv").write_text("step,los")
    Trainer(net(), recipe("plain", "schedule.steps=2"), data(), out=tmp_path).fit()
    assert [row["step"] for row in rows(tmp_path / "steps.csv")] == ["2"]


def draws() -> tuple[float, ...]:
    return float(torch.rand(())), random.random(), float(np.random.rand())


def test_the_global_generators_are_afterwards_as_before(tmp_path):
    model, source, chosen = net(), data(), recipe("plain", "schedule.steps=4")
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()
    expected = draws()

    def rewind() -> None:
        torch.set_rng_state(states[0])
        random.setstate(states[1])
        np.random.set_state(states[2])

    rewind()
    with pytest.raises(Killed):
        options = Options(after_step=kill_at(2))
        cut = recipe("plain", "schedule.steps=4", "checkpoint.every=2")
        Trainer(model, cut, source, out=tmp_path / "a", options=options).fit()
    assert draws() == expected
    rewind()
    Trainer(model, cut, source, out=tmp_path / "a").fit(resume=True)
    assert draws() == expected
    rewind()
    Trainer(model, chosen, source, out=tmp_path / "b").fit()
    assert draws() == expected
