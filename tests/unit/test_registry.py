"""One mapping of names: built-in detectors and those of installed packages."""

import importlib
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import final

import pytest
import torch

import gradood
from gradood import registry
from gradood.bench.method_args import select
from gradood.detectors import Energy
from gradood.detectors.base import Detector, Learner, Plan
from gradood.errors import ConfigError, UnknownNameError
from gradood.evidence import FEATURES, LOGITS
from gradood.functional.moments import ClassMoments
from gradood.testing import networks


class Constant(Detector):
    name, title, paper = "constant", "Nothing.", "nobody2026"
    needs, cost, fails_when = ("logits",), "none", "Always."

    def plan(self, network, probe):
        return Plan(())

    def measure(self, evidence, state):
        raise NotImplementedError


class Impostor(Constant):
    name = "energy"


@pytest.fixture
def install(monkeypatch):
    """Pretend that these are the entry points of installed packages."""

    def points(*found):
        monkeypatch.setattr(
            registry,
            "entry_points",
            lambda group: [SimpleNamespace(load=lambda f=f: f) for f in found],
        )
        registry._classes.cache_clear()

    yield points
    monkeypatch.undo()
    registry._classes.cache_clear()


def test_built_in_detectors_are_all_there(install):
    install()
    names = [method.name for method in gradood.methods()]
    assert names == sorted(names)
    assert {method.detector for method in gradood.methods()} == set(gradood.detectors.__all__)
    for method in gradood.methods():
        detector = registry.create(method.name)
        assert detector.name == method.name == type(detector).name
        assert getattr(gradood, method.detector) is type(detector)
        assert method.title and method.paper and method.cost and method.fails_when


def test_a_detector_of_another_package_is_found(install):
    install(Constant)
    assert isinstance(registry.create("constant"), Constant)
    assert "constant" in [method.name for method in gradood.methods()]


def test_the_same_class_twice_is_one(install):
    install(Energy, Constant, Constant)
    assert registry.detector_class("energy") is Energy


def test_two_detectors_of_one_name_are_refused(install):
    install(Impostor)
    with pytest.raises(ConfigError, match=r"two detectors are called 'energy'.*Energy and .*Imp"):
        registry.methods()


@pytest.mark.parametrize("thing", [object(), Energy(), dict])
def test_what_is_no_detector_class_is_refused(install, thing):
    install(thing)
    with pytest.raises(ConfigError, match=r"in gradood.detectors is no gradood Detector class"):
        registry.methods()


def test_a_misspelt_name_is_answered_with_the_closest():
    with pytest.raises(UnknownNameError, match=r"no detector 'gai-z'; did you mean 'gaia-z'"):
        registry.create("gai-z")
    with pytest.raises(UnknownNameError, match=r"no detector '@@'; choose from actsub, adascale-a"):
        registry.create("@@")


def test_options_are_passed_and_wrong_ones_refused():
    assert repr(registry.create("energy", temperature=2.0)) == "Energy(temperature=2.0)"
    with pytest.raises(
        ConfigError, match=r"energy has no option .temprature.; did you mean .temperature"
    ):
        registry.create("energy", temprature=2.0)
    with pytest.raises(ConfigError, match="temperature=-1; expected a number > 0"):
        registry.create("energy", temperature=-1)


def test_the_files_are_the_list():
    folder = Path(gradood.detectors.__file__).parent
    files = {f.stem for f in folder.glob("*.py") if not f.name.startswith("_")} - {"base"}
    homes = [home.rpartition(".")[2] for home in registry.built_in().values()]
    assert sorted(homes) == sorted(files)
    assert list(registry.built_in()) == gradood.detectors.__all__
    assert {name for name in gradood.__all__ if name[0].isupper()} > set(gradood.detectors.__all__)
    for name, home in registry.built_in().items():
        assert vars(importlib.import_module(home))[name] is getattr(gradood, name)


def test_the_list_imports_no_detector():
    program = (
        "import gradood, gradood.detectors, sys; names = gradood.detectors.__all__; "
        "from gradood.registry import built_in; assert names == list(built_in()); "
        "print(*(m for m in sys.modules if m.startswith('gradood.detectors.') or m == 'torch'))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout.split()) == (0, []), done.stderr


def test_type_checkers_are_told_of_every_detector_of_the_release():
    """The one list, for type checkers alone; a detector that is new works without it."""
    text = Path(gradood.detectors.__file__).read_text(encoding="utf-8")
    listed = re.findall(r"^    from (\S+) import (\w+) as \2$", text, re.M)
    assert len(listed) >= 43
    assert {(name, home) for home, name in listed} <= registry.built_in().items()


@final
class Halved(Detector):
    """Half of the largest logit, negated [nobody2026]."""

    name, needs, cost, fails_when = "halved", ("logits",), "none", "Always."

    def __init__(self, *, factor: float = 0.5) -> None:
        self.factor = factor

    def plan(self, network, probe):
        return Plan((LOGITS,))

    def measure(self, evidence, state):
        return -self.factor * evidence.logits.amax(1)


def test_a_plug_in_is_taken_wherever_a_name_is(install, tmp_path):
    install(Halved)
    network = networks()["mlp"]
    x, y = network.inputs(64), network.labels(64)
    model = network.model()
    selected = select("react,mine=halved,halved", ["react.score=halved", "mine.factor=0.25"])
    assert repr(selected.detectors["mine"]) == "Halved(factor=0.25)"
    monitor = gradood.Monitor(
        model, {**selected.detectors, "ash": gradood.ASHS(score="halved"), "max": "max-logit"}
    )
    monitor.fit([(x, y)])
    scores = monitor.score(x)
    torch.testing.assert_close(scores["halved"], scores["max"] / 2, rtol=1e-12, atol=0)
    react = gradood.Monitor(model, gradood.ReAct(score="max-logit")).fit([(x, y)])
    torch.testing.assert_close(scores["react"], react.score(x) / 2, rtol=1e-12, atol=0)
    monitor.save(tmp_path / "all.safetensors")
    loaded = gradood.load(tmp_path / "all.safetensors", network.model())
    assert repr(loaded.detectors["react"]) == "ReAct(score='halved')"
    assert all(torch.equal(loaded.score(x)[name], scores[name]) for name in scores)


def test_a_plug_in_that_must_be_fitted_is_no_score(install):
    install(LeeLike)
    with pytest.raises(ConfigError, match="score='lee-like' must be fitted"):
        gradood.ReAct(score="lee-like")
    with pytest.raises(
        ConfigError, match=r"score='entropyy'; expected the name of one .* 'entropy'"
    ):
        gradood.ReAct(score="entropyy")


@final
class LeeLike(Learner[ClassMoments]):
    """A plug-in that learns [nobody2026]."""

    name, needs, cost, fails_when = "lee-like", ("features",), "none", "Always."

    def plan(self, network, probe):
        return Plan((FEATURES,), fit_reads=(FEATURES,))

    def accumulate(self, evidence):
        raise NotImplementedError

    def finish(self, moments, network, plan):
        raise NotImplementedError

    def measure(self, evidence, state):
        raise NotImplementedError


def test_a_broken_plug_in_does_not_keep_built_in_ones_from_being_made(monkeypatch):
    def load():
        raise ImportError("no module named 'elsewhere'")

    point = SimpleNamespace(load=load, value="other:Detector", dist=None)
    monkeypatch.setattr(registry, "entry_points", lambda group: [point])
    registry._classes.cache_clear()
    try:
        assert gradood.ReAct(score="msp").score == "msp"
        with pytest.raises(ConfigError, match="cannot be imported"):
            gradood.ReAct(score="mps")
    finally:
        monkeypatch.undo()
        registry._classes.cache_clear()


def test_a_detector_that_cannot_be_imported_names_its_package(monkeypatch):
    def load():
        raise ImportError("no module named 'elsewhere'")

    point = SimpleNamespace(load=load, value="other:Detector", dist=SimpleNamespace(name="other"))
    monkeypatch.setattr(registry, "entry_points", lambda group: [point])
    registry._classes.cache_clear()
    try:
        with pytest.raises(ConfigError, match=r"'other' declares .*other:Detector.*elsewhere.*rep"):
            registry.methods()
    finally:
        monkeypatch.undo()
        registry._classes.cache_clear()
