"""Hyper-parameters chosen on in-distribution data alone."""

import warnings

import pytest
import torch
from arena_digits import settings, write

import gradood.data.dataset
from gradood._engine.batches import Batch, Shard
from gradood.bench import run, select
from gradood.bench._demo import one_thread
from gradood.bench._tuning import GRIDS, OUTLIERS, outliers
from gradood.errors import ConfigError, GradoodWarning
from gradood.registry import create


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write(tmp_path_factory.mktemp("tuning"))


@pytest.fixture(autouse=True)
def quiet():
    with one_thread(), warnings.catch_warnings():
        warnings.simplefilter("ignore", GradoodWarning)
        yield


@pytest.mark.parametrize("method", GRIDS)
def test_every_value_of_a_grid_is_one_that_the_method_takes(method):
    option, values = GRIDS[method]
    assert len(values) == len(set(values)) >= 4
    for value in values:
        assert create(method, **{option: value}).options()[option] == value


def shard(x):
    return Shard(lambda: iter([Batch(part, None) for part in x.split(5)]), len(x))


def made(x, kind):
    (found,) = outliers([shard(x)], kind)
    return torch.cat([batch.inputs for batch in found.batches()])


@pytest.mark.parametrize("kind", OUTLIERS)
@pytest.mark.parametrize("size", [(8, 8), (9, 6), (3, 3)])
def test_outliers_are_one_per_image_and_always_the_same(kind, size):
    x = torch.rand(12, 3, *size)
    found = made(x, kind)
    assert found.shape == x.shape and found.isfinite().all()
    assert torch.equal(found, made(x, kind))
    assert not torch.equal(found, x)


def test_shuffling_moves_cells_as_they_are():
    cells = torch.arange(16.0).reshape(4, 4).repeat_interleave(2, 0).repeat_interleave(2, 1)
    found = made(cells.expand(6, 2, 8, 8), "shuffled")
    assert torch.equal(found.flatten(2).sort().values[0, 0], cells.flatten().sort().values)
    blocks = found.reshape(6, 2, 4, 2, 4, 2)
    assert torch.equal(blocks[:, :, :, 0, :, 0], blocks[:, :, :, 1, :, 1])
    assert torch.equal(found[:, 0], found[:, 1])  # All channels alike,
    assert not torch.equal(found[0], found[1])  # each image on its own.


def test_mixing_and_noise_keep_the_mean():
    x = torch.rand(5, 2, 64, 64) + torch.arange(5.0).reshape(5, 1, 1, 1)
    torch.testing.assert_close(made(x, "mixed"), (x + x.roll(1, 0)) / 2)
    noise = made(x, "noise")
    torch.testing.assert_close(noise.mean((2, 3)), x.mean((2, 3)), atol=0.03, rtol=0)
    torch.testing.assert_close(noise.std((2, 3)), x.std((2, 3)), atol=0.02, rtol=0)


@pytest.mark.slow
def test_the_value_that_tells_made_outliers_best_is_taken_and_told(root, tmp_path, monkeypatch):
    seen = set()
    plain = gradood.data.dataset.ImageDataset.__getitem__

    def watched(dataset, index):
        if isinstance(index, int):
            seen.add(dataset.where(index).rsplit("/", 1)[-1])
        return plain(dataset, index)

    given = settings(
        root,
        methods="knn,react,energy,fixed=knn",
        options=("fixed.k=7",),
        hyper_parameters="id-only",
        cache=tmp_path,
    )
    monkeypatch.setattr("gradood.data.dataset.ImageDataset.__getitem__", watched)
    out = run(given)
    assert seen == {f"{name}.parquet'" for name in ("fit_a", "fit_b", "test", "near", "far")}
    (found,) = out.record.runs
    methods = found.methods
    assert [methods[n].chosen_by for n in ("knn", "react", "energy", "fixed")] == [
        *("id-only", "id-only", "fixed", "fixed")
    ]
    tried = methods["knn"].tried
    # 225 are left to fit on, and the network has 64 features.
    assert set(tried["auroc"]) == {"auto", "1", "5", "10", "20", "100", "200"}
    assert tried["auroc"][str(tried["value"])] == max(tried["auroc"].values())
    assert methods["knn"].options["k"] == tried["value"]
    assert methods["fixed"].options["k"] == 7
    how = out.record.hyper_parameters
    assert how.kind == "id-only"
    assert "25 training images held out" in how.how and "fitted on 225 others" in how.how
    assert "no test image of any set" in how.how
    again = run(given)
    assert again.record.runs[0].methods == methods


def test_the_choice_looks_at_no_test_image(root, monkeypatch):
    from gradood.bench import _tuning as tuning
    from gradood.bench.entries import open_entry

    given = settings(root, hyper_parameters="id-only")
    opened = open_entry(given.contenders[0], given)
    opened.ood.clear()
    object.__setattr__(opened, "id", None)
    found = tuning.choose(opened, given, select("knn,energy"))
    assert list(found.tried) == ["knn"]


def test_a_method_that_learns_nothing_is_chosen_for_too(root):
    out = run(settings(root, methods="gen,msp", hyper_parameters="id-only"))
    assert out.record.runs[0].methods["gen"].chosen_by == "id-only"


def test_nothing_to_choose_or_nothing_to_choose_on(root):
    out = run(settings(root, methods="energy,msp", hyper_parameters="id-only"))
    assert "no method here has a grid" in out.record.hyper_parameters.how
    with pytest.raises(ConfigError, match=r"150 training images are too few.* at least 200"):
        run(settings(root, methods="knn", hyper_parameters="id-only", fit_limit=150))
