"""A benchmark by workers is that of one process."""

import json
from dataclasses import replace
from functools import partial

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from scale_samples import CLASSES, network, working

from gradood._io.json import json_text
from gradood.bench import ModelEntry, Settings, Suite, run
from gradood.bench.suite import InDistribution, OutOfDistribution
from gradood.cli import main
from gradood.errors import ModelMismatchError
from gradood.scale import _benching
from gradood.scale._benching import benched

pytestmark = pytest.mark.filterwarnings("ignore::gradood.errors.GradoodWarning")


@pytest.fixture
def settings(tmp_path, monkeypatch):
    """Two networks and three sets, by relative paths."""
    monkeypatch.chdir(tmp_path)
    rng = torch.Generator().manual_seed(0)
    for name, count in (("fit", 24), ("id", 16), ("near", 8), ("far", 8)):
        for i in range(count):
            path = tmp_path / name / str(i % CLASSES) / f"{i:02}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = torch.randint(0, 256, (8, 8, 3), generator=rng, dtype=torch.uint8)
            Image.fromarray(pixels.numpy()).save(path)
    other = network()
    with torch.no_grad():
        other[0].weight += 0.1
    save_file(other.state_dict(), tmp_path / "other.safetensors")
    model = "scale_samples:network"
    suite = Suite(
        name="tiny",
        version=1,
        title="Tiny",
        id=InDistribution(test="id", fit=("fit",)),
        ood=tuple(OutOfDistribution(name=n, group=n, path=n) for n in ("near", "far")),
    )
    return Settings(
        contenders=(
            ModelEntry(label="a", model=model),
            ModelEntry(
                label="b",
                model=model,
                weights=(tmp_path / "other.safetensors").relative_to(tmp_path),
            ),
        ),
        suite=suite,
        methods="energy,knn,react",
        batch_size=8,
        costs=False,
    )


def timeless(outcome):
    """Its record without what differs between equal runs."""
    found = json.loads(json_text(outcome.record.to_dict()))
    for key in ("date", "machine", "command"):
        found.pop(key)
    for one in found["runs"]:
        one["seconds"] = None
    return found


def test_figures_and_scores_are_those_of_one_process(settings):
    here, told = run(settings), []
    deaths = iter([True])
    pool = partial(working, workers=2, order=max, dies=lambda task: next(deaths, False))
    there = benched(settings, "", told.append, pool)
    assert timeless(there) == timeless(here)
    assert [*there.scores] == ["a", "b"] and sorted(told) == ["a: done", "b: done"]
    for one, sets in here.scores.items():
        for name, methods in sets.items():
            for method, scores in methods.items():
                assert torch.equal(scores, there.scores[one][name][method])


def test_another_model_or_other_data_is_refused(settings, monkeypatch):
    real = _benching.BenchWork

    def changed(**change):
        return lambda **work: real(**{**work, **change})

    monkeypatch.setattr(_benching, "BenchWork", changed(models=("0" * 64, "1" * 64)))
    with pytest.raises(ModelMismatchError, match="model of a worker is another"):
        benched(settings, "", print, working)
    monkeypatch.setattr(_benching, "BenchWork", changed(rows=({"ID": (15,)}, {})))
    with pytest.raises(OSError, match="other data: ID of other sizes"):
        benched(settings, "", print, working)
    monkeypatch.setattr(_benching, "BenchWork", changed(folder="/nowhere/at/all"))
    with pytest.raises(OSError, match="has no folder '/nowhere/at/all'"):
        benched(settings, "", print, working)


def test_what_a_worker_refuses_is_said_here(settings):
    broken = replace(settings, options=("knn.k=1000",))
    with pytest.raises(Exception, match="knn") as here:
        run(broken)
    with pytest.raises(type(here.value), match="knn"):
        benched(broken, "", print, working)


def test_the_command_takes_devices(settings, monkeypatch, capsys):
    seen = []
    monkeypatch.setattr(
        "gradood.scale.bench", lambda *a, **k: seen.append(k["cluster"]) or run(*a[:1])
    )
    words = ["bench", "--model", "scale_samples:network", "--id", "id", "--ood", "near=near"]
    words += ["--methods", "energy", "--no-costs", "--no-cache", "--json"]
    assert main([*words, "--devices", "cpu:2"]) == 0
    assert seen[0].names == ("cpu", "cpu")
    assert main([*words, "--devices", "cpu:2", "--on", "ray"]) == 2
    assert "--devices and --on were both given" in capsys.readouterr().err
