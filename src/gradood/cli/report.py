"""``gradood report``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gradood.cli.exits import Unavailable
from gradood.cli.options import ImageColumn
from gradood.cli.output import say
from gradood.cli.records import RECORD, SCORES, read_record
from gradood.errors import ConfigError, DataError

if TYPE_CHECKING:
    from gradood.bench import Record
    from gradood.report import Pictures

__all__ = ["report"]


def report(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="What gradood bench --out FOLDER wrote.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.html",
            help="The page; the same as JSON goes beside it. [default: FOLDER/report.html]",
        ),
    ] = None,
    root: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Where the images of the suite lie. [default: as in gradood bench]"
        ),
    ] = None,
    images: Annotated[
        bool, typer.Option("--images/--no-images", help="Show thumbnails of the extremes.")
    ] = True,
    image_column: ImageColumn = "image",
) -> None:
    """Make one self-contained page of a benchmark: which method to use, why, and at what cost."""
    target = folder / "report.html" if out is None else out
    if target.suffix.lower() not in (".html", ".htm"):
        raise ConfigError(f"--out {str(target)!r}; expected a name ending in .html.")
    if out is not None and not target.parent.is_dir():
        raise ConfigError(f"--out {str(target)!r}: its folder does not exist; make it first.")
    if target.with_suffix(".json").resolve() == (folder / RECORD).resolve():
        raise ConfigError(
            f"--out {str(target)!r}: the page's JSON twin would take the place of {RECORD}; "
            "choose another name."
        )
    record = read_record(folder / RECORD, "a folder that gradood bench --out FOLDER wrote")
    from gradood.bench import scores_of
    from gradood.report import Report

    scores: dict[str, Any] = {}
    if (folder / SCORES).exists():
        scores = scores_of(folder)
    else:
        say(f"no {SCORES} in {str(folder)!r}: the page has no curves and no images")
    found = _pictures(record, root, image_column) if images and scores else None
    for name, why in () if found is None else found.missing.items():
        say(f"no thumbnails of {name}: {why}")
    made = Report.of(record, scores, found)
    try:
        twin = made.write(target)
    except OSError as error:
        raise Unavailable(f"{str(target)!r} cannot be written: {error.strerror}.") from error
    say(f"wrote {target} and {twin}")


def _pictures(record: "Record", root: Path | None, image_column: str) -> "Pictures":
    """The images of the record's suite, if they are where `gradood bench` looks for them."""
    from gradood.bench import find_root, load_suite, suites
    from gradood.report import Pictures

    place, folders = root or Path(), {}
    name = record.suite.name
    if name in suites():
        suite = load_suite(name)
        try:
            place = find_root(suite, root, source=name)
        except DataError as error:
            say(f"no thumbnails of the suite: {error}")
        folders = {path: folder for path in suite.paths if (folder := suite.images(path))}
    return Pictures.of(record, place, folders=folders, image_column=image_column)
