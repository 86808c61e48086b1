"""Every path and public name of 0.1.0 as first published still works; what moved says so."""

import importlib
import json
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from gradood._moved import MOVED

FIRST = json.loads(
    (Path(__file__).resolve().parents[1] / "expected" / "names_0_1_0.json").read_text()
)


def imported(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return importlib.import_module(name)


@pytest.mark.parametrize("name", FIRST["modules"])
def test_module_paths_of_the_first_release_import(name):
    assert imported(name).__name__.startswith("gradood")


@pytest.mark.parametrize("package", FIRST["faces"])
def test_faces_of_the_first_release_have_their_names(package):
    face = imported(package)
    missing = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        for name in FIRST["faces"][package]:
            if not hasattr(face, name):
                missing.append(name)
    assert missing == []


@pytest.mark.parametrize("old", sorted(MOVED))
def test_a_moved_module_is_the_one_at_its_new_path(old):
    new = importlib.import_module(f"gradood.{MOVED[old]}")
    spec = new.__spec__
    sys.modules.pop(f"gradood.{old}", None)
    with pytest.warns(DeprecationWarning, match=f"gradood.{old} moved to gradood.{MOVED[old]};"):
        assert importlib.import_module(f"gradood.{old}") is new
    assert new.__spec__ is spec and spec is not None and spec.name == new.__name__


@pytest.mark.slow
def test_the_warning_points_at_the_importing_line():
    program = (
        "import warnings\nwarnings.simplefilter('always')\nfrom gradood.decision import Result"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0 and "<string>:3: DeprecationWarning" in done.stderr, done.stderr


def test_an_unknown_module_is_unknown():
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("gradood.nothing_of_the_kind")
