"""Objectives and summaries of other packages: found by name, saved, and never imported by path."""

from dataclasses import replace
from types import SimpleNamespace
from typing import final

import pytest
import torch

import gradood
import gradood.registry
from gradood.artifact import read
from gradood.detectors.base import Detector, Plan
from gradood.errors import ArtifactError, ConfigError, UnknownNameError
from gradood.evidence import (
    LOGITS,
    MAX_LOGIT,
    MEAN,
    Activation,
    Gradient,
    Objective,
    Perturbation,
    Perturbed,
    Summary,
    made_of_own_parts,
    read_from_plain,
    read_to_plain,
    register,
    register_summaries,
    registry,
)
from gradood.taps import Site, positions
from gradood.testing import networks

SITE = Site("norm1")


def margin(logits, _):
    top = logits.topk(2, 1).values
    return (top[:, 0] - top[:, 1]).sum()


def largest(tensor, channels):
    return positions(tensor.detach(), channels).amax(-1).float()


def power_mean(power):
    def reduce(tensor, channels):
        return positions(tensor.detach(), channels).float().abs().pow(power).mean(-1)

    if type(power) is not int or power < 1:
        raise ValueError(power)
    return Summary("example/power mean", reduce, (power,))


MARGIN = Objective("example/margin", margin)
LARGEST = Summary("example/largest", largest)


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    """Each test with nothing registered."""
    monkeypatch.setattr(registry, "_objectives", {})
    monkeypatch.setattr(registry, "_summaries", {})


@pytest.fixture
def declared(monkeypatch):
    """Entry points of installed packages, and the names of those that were loaded."""
    loaded: list[str] = []

    def points(**parts):
        def found(group, name):
            kind = "objective" if group == "gradood.objectives" else "summary"
            part = parts.get(kind, {}).get(name)

            def load():
                loaded.append(name)
                return part

            return [] if part is None else [SimpleNamespace(load=load)]

        monkeypatch.setattr(registry, "entry_points", found)
        return loaded

    return points


@final
class Margins(Detector):
    """Gradient of the margin at a layer, by the largest of each channel [nobody2026]."""

    name, needs, cost, fails_when = "margins", ("layers",), "one backward", "Always."

    def plan(self, network, probe):
        read = Gradient(MARGIN, SITE, LARGEST)
        mean = Activation(SITE, power_mean(3))
        step = Perturbed(Perturbation(MARGIN, 0.1), LOGITS)
        return Plan({"steep": read, "strong": mean, "moved": step})

    def measure(self, evidence, state):
        steep = evidence["steep"].double().sum(1) + evidence["strong"].double().sum(1)
        return steep + evidence["moved"].amax(1)


@pytest.fixture
def installed(monkeypatch):
    point = SimpleNamespace(load=lambda: Margins)
    monkeypatch.setattr(gradood.registry, "entry_points", lambda group: [point])
    gradood.registry._classes.cache_clear()
    yield
    monkeypatch.undo()
    gradood.registry._classes.cache_clear()


def register_all():
    register(MARGIN)
    register(LARGEST)
    register_summaries("example/power mean", power_mean)


def test_a_plug_in_with_parts_of_its_own_is_saved_and_loaded(installed, tmp_path):
    register_all()
    network = networks()["plain-cnn"]
    monitor = gradood.Monitor(network.model(), ["margins", "energy"])
    monitor.bind(network.inputs(8))
    x = network.inputs(5, seed=1)
    expected = monitor.score(x)["margins"]
    monitor.save(tmp_path / "one.safetensors")
    loaded = gradood.load(tmp_path / "one.safetensors", network.model())
    assert torch.equal(loaded.score(x)["margins"], expected)
    records = read(str(tmp_path / "one.safetensors")).verified.manifest.detectors
    assert [entry.get("name") for entry in records[0].reads] == ["steep", "strong", "moved"]


def test_what_nobody_registered_is_refused_when_saving(installed, tmp_path):
    network = networks()["plain-cnn"]
    monitor = gradood.Monitor(network.model(), "margins")
    monitor.bind(network.inputs(8))
    with pytest.raises(ArtifactError, match=r"'example/largest' cannot be saved.*\.register"):
        monitor.save(tmp_path / "one.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_a_file_without_its_package_is_refused_by_name(installed, tmp_path, monkeypatch):
    register_all()
    network = networks()["plain-cnn"]
    monitor = gradood.Monitor(network.model(), "margins")
    monitor.bind(network.inputs(8))
    monitor.save(tmp_path / "one.safetensors")
    monkeypatch.setattr(registry, "_summaries", {})
    with pytest.raises(ArtifactError, match="no summary 'example/largest'; install the package"):
        gradood.load(tmp_path / "one.safetensors", network.model())


def test_an_entry_point_is_loaded_for_its_own_name_alone(declared):
    loaded = declared(objective={"example/margin": MARGIN, "other/thing": MAX_LOGIT})
    register(LARGEST)
    plain = read_to_plain(Gradient(MARGIN, SITE, LARGEST))
    assert plain["objective"] == "example/margin"
    assert read_from_plain(plain) == Gradient(MARGIN, SITE, LARGEST)
    assert set(loaded) == {"example/margin"}
    loaded.clear()
    for name in ("os/system", "builtins.eval", "gradood.evidence.registry:register", ""):
        with pytest.raises(ArtifactError):
            read_from_plain({**plain, "objective": name})
    assert loaded == []


def test_an_entry_point_gives_what_its_name_says(declared):
    declared(
        objective={"example/margin": MAX_LOGIT},
        summary={"example/power mean": power_mean, "example/largest": lambda: MEAN},
    )
    assert registry.summary("example/power mean", (2,)) == power_mean(2)
    with pytest.raises(ConfigError, match="the entry point 'example/margin'"):
        registry.objective("example/margin")
    with pytest.raises(ConfigError, match="the entry point 'example/largest'"):
        registry.summary("example/largest")
    with pytest.raises(ValueError, match="0"):
        registry.summary("example/power mean", (0,))
    with pytest.raises(UnknownNameError, match=r"no objective 'max logits'; install .*'max logit'"):
        registry.objective("max logits")


@pytest.mark.parametrize("name", ["margin", "max logit", "gradood/margin", "/margin", "a/", "A/b"])
def test_a_name_has_its_package_before_it(name):
    with pytest.raises(ConfigError, match=r"has no package before it; expected package/name"):
        register(replace(MARGIN, name=name))
    with pytest.raises(ConfigError, match=r"has no package before it"):
        register_summaries(name, power_mean)


def test_a_name_stands_for_one_thing():
    assert register(MARGIN) is MARGIN
    register(replace(MARGIN))
    with pytest.raises(ConfigError, match="'example/margin' is registered already"):
        register(Objective("example/margin", lambda logits, _: logits.sum()))
    register(LARGEST)
    with pytest.raises(ConfigError, match="'example/largest' is registered already"):
        register(replace(LARGEST, reduce=MEAN.reduce))


def test_a_part_with_the_name_of_another_is_not_saved_as_that():
    impostor = Objective("max logit", margin)
    with pytest.raises(ArtifactError, match="objective 'max logit' cannot be saved"):
        read_to_plain(Gradient(impostor, SITE, MEAN))
    with pytest.raises(ArtifactError, match="summary 'mean' cannot be saved"):
        read_to_plain(Activation(SITE, Summary("mean", largest)))


def test_what_is_of_another_package_is_not_known_by_its_plain_form_alone():
    assert made_of_own_parts(LOGITS) and made_of_own_parts(Gradient(MAX_LOGIT, SITE, MEAN))
    assert made_of_own_parts(Perturbed(Perturbation("max logit", 0.1), LOGITS))
    for read_ in (
        Gradient(MARGIN, SITE, MEAN),
        Activation(SITE, LARGEST),
        Perturbed(Perturbation(MARGIN, 0.1), LOGITS),
    ):
        assert not made_of_own_parts(read_)
