"""The exception tree, as its docstring draws it, and the wording of a miss."""

import re

import pytest

from gradood import errors
from gradood.errors import suggest

DRAWN = re.findall(r"[├└]── (\w+) +(?:\((\w+)\))?", errors.__doc__ or "")


def test_the_drawing_is_the_tree():
    drawn = {name for name, _ in DRAWN} | {"GradoodError", "GradoodWarning"}
    assert drawn == {name for name in errors.__all__ if name[0].isupper()}


@pytest.mark.parametrize(("name", "builtin"), [pair for pair in DRAWN if pair[1]])
def test_each_error_is_also_the_builtin_it_resembles(name, builtin):
    kind = getattr(errors, name)
    assert issubclass(kind, errors.GradoodError)
    assert issubclass(kind, __builtins__[builtin])
    assert kind.__doc__


def test_warnings_are_user_warnings():
    assert issubclass(errors.MeaninglessScoreWarning, errors.GradoodWarning)
    assert issubclass(errors.GradoodWarning, UserWarning)


def test_a_miss_suggests_the_closest():
    assert suggest("gaiaz", ["gaia-z", "energy"]) == "did you mean 'gaia-z'?"
    assert suggest("layer5", ["layer1", "layer2"]) == "did you mean 'layer2' or 'layer1'?"


def test_a_wide_miss_lists_all_or_the_first_forty():
    assert suggest("xyz", ["b", "a"]) == "choose from a, b."
    many = suggest("xyz", [f"{i:03}" for i in range(50)])
    assert many.endswith("039, … (10 more).")
    assert suggest("xyz", []) == "there are none."
