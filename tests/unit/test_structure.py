"""The structure of the package, held to the limits of the house."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def structure():
    spec = importlib.util.spec_from_file_location("structure", ROOT / "scripts" / "structure.py")
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules["structure"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def modules(structure):
    return structure.read_package(ROOT / "src")


def test_no_import_cycle_not_even_a_hidden_one(structure, modules):
    assert structure.cycles(modules, lazy=True) == []


def test_no_function_is_longer_than_sixty_lines(structure, modules):
    assert structure.long_functions(modules, 60) == {}


def test_no_module_is_longer_than_three_hundred_and_ten_lines(modules):
    assert {name: module.lines for name, module in modules.items() if module.lines > 310} == {}


def test_a_module_that_no_face_names_says_so_by_an_underscore(structure, modules):
    assert structure.unnamed_modules(modules) == []


def test_no_short_file_serves_one_other_alone(structure, modules):
    assert structure.fragments(modules) == []


def test_a_cycle_and_a_fragment_would_be_found(structure, tmp_path):
    package = tmp_path / "gradood"
    package.mkdir()
    (package / "__init__.py").write_text('"""Face."""')
    (package / "a.py").write_text("def f():\n    from gradood.b import g\n    return g")
    (package / "b.py").write_text("import gradood.a\n\n\ndef g():\n    return gradood.a")
    modules = structure.read_package(tmp_path)
    assert structure.cycles(modules, lazy=False) == []
    assert structure.cycles(modules, lazy=True) == [["gradood.a", "gradood.b"]]
    assert structure.fragments(modules) == ["gradood.a", "gradood.b"]
    assert structure.unnamed_modules(modules) == ["gradood.a", "gradood.b"]
