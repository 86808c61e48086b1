"""The worked example of CONTRIBUTING is a detector that keeps the contract."""

import importlib.util
import re
import sys
from pathlib import Path

import pytest

import gradood
from gradood.testing import check_detector

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
PAGE = Path(__file__).resolve().parents[2] / "CONTRIBUTING.md"


def blocks() -> dict[str, str]:
    """File name → what the page says to put there."""
    text = PAGE.read_text(encoding="utf-8")
    found = re.findall(r"^`([\w/.]+)`[^\n]*:\n\n```\w+\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return dict(found)


def imported(name: str, file: Path):
    """The file as a module."""
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def example(tmp_path, monkeypatch):
    """The example's detector, exported as it says, and its golden test."""
    found = blocks()
    for path, text in found.items():
        (tmp_path / Path(path).name).write_text(text, encoding="utf-8")
    detector = imported("doctor_of_the_example", tmp_path / "doctor.py").Doctor
    monkeypatch.setattr(gradood, "Doctor", detector, raising=False)
    monkeypatch.setattr(sys, "path", [str(GOLDEN), *sys.path])
    return detector, imported("golden_of_the_example", tmp_path / "test_doctor.py")


def test_the_example_is_one_file_one_golden_test_and_one_reference():
    assert sorted(blocks()) == [
        "src/gradood/detectors/doctor.py",
        "src/gradood/references.bib",
        "tests/golden/test_doctor.py",
    ]


@pytest.mark.slow
def test_the_example_keeps_the_contract(example):
    detector, _ = example
    outcomes = check_detector(detector(), networks=["mlp", "resnet", "frozen"])
    assert {outcome.status for outcome in outcomes} == {"passed"}


def test_the_examples_golden_test_passes(example):
    _, golden = example
    for name in golden.NAMES:
        golden.test_doctor_is_its_formula(name)


def test_the_examples_golden_test_sees_another_formula(example, monkeypatch):
    detector, golden = example
    monkeypatch.setattr(detector, "measure", lambda self, evidence, state: -evidence.logits[:, 0])
    with pytest.raises(AssertionError):
        golden.test_doctor_is_its_formula(golden.NAMES[0])


def test_the_example_cites_its_reference(example):
    detector, _ = example
    text = blocks()["src/gradood/references.bib"]
    assert f"{{{detector.paper}," in text
    assert f"[{detector.paper}]" in detector.__doc__
