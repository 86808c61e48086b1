"""One mapping of names: built-in detectors and those of installed packages."""

from types import SimpleNamespace

import pytest

import gradood
from gradood import registry
from gradood.detectors import Energy
from gradood.detectors.base import Detector, Plan
from gradood.errors import ConfigError, UnknownNameError


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
    with pytest.raises(UnknownNameError, match=r"no detector '@@'; choose from adascale-a"):
        registry.create("@@")


def test_options_are_passed_and_wrong_ones_refused():
    assert repr(registry.create("energy", temperature=2.0)) == "Energy(temperature=2.0)"
    with pytest.raises(
        ConfigError, match=r"energy has no option .temprature.; did you mean .temperature"
    ):
        registry.create("energy", temprature=2.0)
    with pytest.raises(ConfigError, match="temperature=-1; expected a number > 0"):
        registry.create("energy", temperature=-1)


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
