"""``gradood triage``: flagged items for a person to look at, and what marks may be used for."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from gradood.cli._bad_rows import told
from gradood.cli._class_names import names_of
from gradood.cli._groups import argument, option
from gradood.cli._options import Force, ImageColumn, Json
from gradood.cli._output import data, document, pairs, say
from gradood.errors import ConfigError, GradoodError

if TYPE_CHECKING:
    from gradood.data import ImageSource
    from gradood.data._column_source import ColumnRows
    from gradood.triage import Items

__all__ = ["triage"]


@dataclass(frozen=True, kw_only=True)
class PageFiles:
    """The page."""

    PANEL: ClassVar[str] = "Page"

    out: Annotated[Path | None, option("FILE", "Where the page goes, one HTML file.")] = None
    title: Annotated[str, option("TEXT", "Of the page.")] = "Flagged items"
    limit: Annotated[
        int, option("N", "Flagged items at most, of the smallest p-values.", least=0)
    ] = 2000
    side: Annotated[int, option("PIXELS", "Of a thumbnail.", least=16, most=256)] = 64
    classes: Annotated[
        Path | None, option("FILE", "Names of the classes, one a line, in their order.")
    ] = None
    details: Annotated[
        Path | None,
        option(
            "FILE",
            "Parquet with the column id, and some of features (clusters are made of them), text "
            "(the items, where they are texts) and why (lines of reasons).",
        ),
    ] = None
    force: Force = False


@dataclass(frozen=True, kw_only=True)
class SampleOptions:
    """The random sample, which alone may go to a calibration."""

    PANEL: ClassVar[str] = "Random sample"

    sample: Annotated[int, option("N", "Items to review whatever their scores are.", least=0)] = 300
    seed: Annotated[int, option("N", "Of the sample and of the clusters.")] = 0


@dataclass(frozen=True, kw_only=True)
class MarkFiles:
    """Marks that the page exported."""

    PANEL: ClassVar[str] = "Marks"

    marks: Annotated[
        Path | None, option("FILE", "CSV that the page exported; give --sample and --seed as then.")
    ] = None
    to: Annotated[
        Path | None,
        option(
            "DIR",
            "Folder for marks.parquet; known.parquet, for gradood fit --merge; unknown.parquet, "
            "for gradood train --aux; sample.parquet, for gradood calibrate.",
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class ItemOptions:
    """What was scored, and by what."""

    images: Annotated[
        str | None,
        option(
            "PATH",
            "Where the images or the table are, if not where they were scored; none shows none.",
        ),
    ] = None
    image_column: ImageColumn = "image"
    detector: Annotated[
        Path | None,
        option("FILE", "The detector that scored, to know whether it compares within classes."),
    ] = None
    decision: Annotated[
        str | None, option("NAME", "The detector that decides, where several are not combined.")
    ] = None


def triage(
    scores: Annotated[Path, argument("SCORES", "Folder that gradood score wrote.")],
    page: PageFiles,
    sample: SampleOptions,
    marks: MarkFiles,
    scored: ItemOptions,
    json: Json = False,
) -> None:
    """Show flagged items on a page, grouped, to be marked; and write what marks may be used for.

    With --out, one HTML file that needs no network. With --marks and --to, Parquet files of the
    marks that the page exported.
    """
    if page.out is None and marks.marks is None:
        raise ConfigError("name the page by --out, or exported marks by --marks and --to.")
    if (marks.marks is None) != (marks.to is None):
        raise ConfigError("--marks and --to go together: the CSV file, and a folder to write to.")
    if page.out is not None and page.out.exists() and not page.force:
        raise ConfigError(f"--out {str(page.out)!r} is there already; name another, or --force.")
    from gradood.triage import read_items, review_sample

    items = read_items(scores, scored.decision)
    tested = [one for one, known in zip(items.ids, items.tested, strict=True) if known]
    drawn = review_sample(tested, sample.sample, sample.seed, items.job)
    source = _inputs(items, scored.images, scored.image_column)
    result: dict[str, Any] = {"items": len(items), "scored": len(tested)}
    result["unscored"] = items.unscored
    if page.out is not None:
        result["page"] = _write(items, drawn, source, page, sample.seed, scored.detector)
    if marks.marks is not None and marks.to is not None:
        from gradood.triage import feed_back, read_marks

        known = read_marks(marks.marks, items.job)
        result["marks"] = asdict(feed_back(items, known, drawn, source, marks.to))
    document(result) if json else data(_lines(result))


def _inputs(items: "Items", named: str | None, column: str) -> "ImageSource | ColumnRows | None":
    """The images, or the rows of the table; None if there are none, and that was not named."""
    if named == "none" or not (named or items.place):
        return None
    from gradood.batch import list_images
    from gradood.triage import open_rows

    place = named or items.place
    try:
        if "kind" in items.preprocess:
            return open_rows(place, items.preprocess)
        return list_images(place, image_column=column)
    except GradoodError as error:
        if named is not None:
            raise
        say(f"inputs are not shown: {error}")
        return None


def _write(
    items: "Items",
    drawn: Any,
    source: "ImageSource | ColumnRows | None",
    page: PageFiles,
    seed: int,
    detector: Path | None,
) -> dict[str, Any]:
    from gradood.triage import PageOptions, read_details, write_page

    assert page.out is not None
    names = () if page.classes is None else names_of(page.classes, "--classes")
    options = PageOptions(
        title=page.title,
        limit=page.limit,
        side=page.side,
        seed=seed,
        classes=names,
        per_class=_per_class(detector, items),
    )
    size = write_page(page.out, items, drawn, read_details(page.details), source, options)
    return {"file": str(page.out), "bytes": size, "sample": len(drawn.ids)}


def _per_class(detector: Path | None, items: "Items") -> bool:
    """Whether p-values were compared within predicted classes, as the detector's file says."""
    if detector is None:
        return False
    from gradood.artifact import check

    verified = check(detector)
    if verified.sha256 != items.artifact:
        raise ConfigError(f"{str(detector)!r} is not the detector that scored these items.")
    rule = verified.manifest.calibration or {}
    return any(part.get("per_class") for part in (rule.get("detectors") or {}).values())


def _lines(result: dict[str, Any]) -> str:
    lines = {"items": f"{result['items']:,}, {result['scored']:,} of them scored"}
    if result["unscored"]:
        lines["not scored"] = f"{told(result['unscored'])}: in a list of their own, for no mark"
    if "page" in result:
        made = result["page"]
        lines["page"] = f"{made['file']} ({made['bytes']:,} bytes)"
        lines["random sample"] = f"{made['sample']:,} items"
    if "marks" in result:
        fed = result["marks"]
        for name, file in fed["files"].items():
            lines[name] = f"{file} ({fed['counts'][name]:,} items)"
        if fed["guessed"]:
            lines["classes"] = f"{fed['guessed']:,} known items have the class that was predicted"
        if fed["open"]:
            lines["sample"] = f"not written: {fed['open']:,} of its items are not marked"
    return pairs(lines)
