"""Option groups: dataclasses that become options of a command."""

import inspect
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Annotated, ClassVar, get_type_hints

import pytest
import typer

from gradood.cli._app import COMMANDS, app
from gradood.cli._groups import argument, flag, option, spread
from gradood.cli._options import PreprocessOptions


@dataclass(frozen=True, kw_only=True)
class Paint:
    PANEL: ClassVar[str] = "Painting"

    color: Annotated[str, option("NAME", "Of the wall.")]
    coats: Annotated[int, option("N", "How many.", least=1)] = 2
    tool: Annotated[list[str], option("NAME", "To paint with.", "--with")] = field(
        default_factory=list
    )
    dry_first: Annotated[bool, flag("Wait.", panel="Time")] = False


def run(words):
    """What a command of one group gets, or the exit code."""
    got = []

    def paint(wall: Annotated[str, argument("WALL", "Which.")], how: Paint, fast: bool = False):
        """Paint a wall."""
        got.append((wall, how, fast))

    tool = typer.Typer()
    tool.command()(spread(paint))
    try:
        typer.main.get_command(tool)(words, standalone_mode=False)
    except Exception as error:
        return str(error)
    return got[0]


def test_the_fields_of_a_group_are_options():
    assert run(["north", "--color", "red"]) == ("north", Paint(color="red"), False)
    words = ["--with", "brush", "north", "--color=red", "--with", "roll", "--coats", "3", "--fast"]
    expected = Paint(color="red", coats=3, tool=["brush", "roll"])
    assert run(words) == ("north", expected, True)
    assert run(["north", "--color", "red", "--dry-first"])[1].dry_first is True


@pytest.mark.parametrize(
    "words",
    [
        ["north"],  # A color is required.
        ["--color", "red"],
        ["north", "--color", "red", "--coats", "0"],
        ["north", "--color", "red", "--no-dry-first"],
    ],
)
def test_what_a_group_does_not_take_is_refused(words):
    assert isinstance(run(words), str)


def test_panels_are_those_of_the_group_unless_an_option_has_its_own():
    def paint(how: Paint):
        """Paint."""

    hints = get_type_hints(spread(paint), include_extras=True)
    panels = {name: hint.__metadata__[0].rich_help_panel for name, hint in hints.items()}
    assert panels["color"] == panels["coats"] == "Painting" and panels["dry_first"] == "Time"


def test_a_name_that_two_groups_have_is_an_error_of_the_program():
    def paint(how: Paint, color: str):
        """Paint."""

    with pytest.raises(TypeError, match="paint has two options of one name"):
        spread(paint)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.__name__)
def test_a_command_is_short(command):
    assert len(inspect.signature(command).parameters) <= 6
    assert len(inspect.getsource(command).splitlines()) <= 50


def test_a_concern_is_declared_once():
    """No two groups of unrelated concerns have options of the same name and of other words."""
    root = typer.main.get_command(app)
    helps: dict[str, set[str]] = {}
    for command in root.commands.values():
        for parameter in command.params:
            helps.setdefault(parameter.opts[0], set()).add(getattr(parameter, "help", ""))
    for name in ("--num-classes", "--device", "--image-column", "--resize", "--interpolation"):
        assert len(helps[name]) == 1, name
    groups = {hint for c in COMMANDS for hint in get_type_hints(c).values() if is_dataclass(hint)}
    with_resize = [g for g in groups if "resize" in {f.name for f in fields(g)}]
    assert with_resize == [PreprocessOptions]


def test_every_command_that_takes_images_takes_all_of_the_preprocessing():
    """But calibrate, which takes that of the fit."""
    root = typer.main.get_command(app)
    wanted = {f"--{f.name}" for f in fields(PreprocessOptions)}
    for name in ("inspect", "bench", "fit", "score", "train"):
        assert wanted <= {word for p in root.commands[name].params for word in p.opts}, name


@pytest.mark.parametrize(
    ("words", "values"),
    [
        ({}, {}),
        ({"resize": "none", "crop": "6,8"}, {"resize": None, "crop": (6, 8)}),
        ({"mean": "-0.5,0,1e-1", "std": "none"}, {"mean": (-0.5, 0.0, 0.1), "std": None}),
        ({"mode": "L", "interpolation": "bicubic"}, {"mode": "L", "interpolation": "bicubic"}),
    ],
)
def test_texts_become_values(words, values):
    assert PreprocessOptions(**words).values() == values
