"""Commands on records that ``gradood bench`` wrote: ``gradood compare`` and ``gradood report``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gradood.cli._exits import Exit
from gradood.cli._groups import argument, flag, option
from gradood.cli._options import Force, ImageColumn, Json
from gradood.cli._output import aligned, data, document, say, writing
from gradood.cli._results import RECORD, SCORES
from gradood.errors import ConfigError, DataError

if TYPE_CHECKING:
    from gradood.bench import Record
    from gradood.bench._change import Change, Changes
    from gradood.report import Pictures

__all__ = ["compare", "report"]


def compare(
    first: Annotated[
        Path,
        argument("A.json", "The record before, or the folder it lies in."),
    ],
    second: Annotated[
        Path,
        argument("B.json", "The record after, or the folder it lies in."),
    ],
    metric: Annotated[
        list[str] | None,
        option(
            "NAME", "To compare; may be given several times. [default: auroc, fpr_ood_at_tpr_id95]"
        ),
    ] = None,
    sets: Annotated[bool, flag("Compare on every set, not only means over sets.")] = False,
    fail_on_worse: Annotated[
        bool,
        flag("Exit code 1 if a figure got significantly worse."),
    ] = False,
    json: Json = False,
) -> None:
    """Show what changed significantly between two records that gradood bench wrote.

    Where the scores lie beside both records, the same images are compared in pairs. P-values are
    corrected for the number of figures compared (Holm).
    """
    from gradood.bench import read_results
    from gradood.bench._diff import changes

    (a, scores_a), (b, scores_b) = read_results(first), read_results(second)
    options: dict[str, Any] = {"metrics": tuple(metric)} if metric else {}
    difference = changes(a, b, scores_a, scores_b, sets=sets, **options)
    if json:
        files = {"a": str(first), "b": str(second)}
        document({**files, "suite": a.suite.name, **difference.to_dict()})
    else:
        _print_changes(difference)
    if fail_on_worse and difference.worse:
        raise typer.Exit(Exit.GATE_FAILED)


def _print_changes(changes: "Changes") -> None:
    from gradood._io.markdown import table

    for which, only in (("first", changes.only_before), ("second", changes.only_after)):
        for run, methods in only.items():
            say(f"only in the {which}: {run}: {', '.join(methods)}")
    for run, methods in changes.options.items():
        for name, (before, after) in methods.items():
            keys = [k for k in {**before, **after} if before.get(k) != after.get(k)]
            options = ", ".join(f"{k} {before.get(k)!r} → {after.get(k)!r}" for k in keys)
            say(f"{run}: {name} has other options: {options}")
    if changes.significant:
        rows = [_row(change) for change in changes.significant]
        data(aligned(table(_HEADER, rows, text_columns=4)))
    else:
        data("nothing changed significantly")
    paired = sum(change.paired for change in changes.figures)
    how = "pairs of scores" if paired == len(changes.figures) else "intervals"
    if paired not in (0, len(changes.figures)):
        how = f"pairs of scores ({paired}) and intervals"
    better = len(changes.significant) - len(changes.worse)
    say(
        f"{len(changes.figures)} figures compared, by {how}: {len(changes.worse)} significantly "
        f"worse, {better} significantly better (p < 0.05 after Holm's correction)"
    )


_HEADER = ("network", "method", "on", "metric", "A", "B", "B − A, 95 %", "p", "")


def _row(change: "Change") -> list[str]:
    from gradood._io.markdown import cell

    low, high = change.interval
    gain = change.after - change.before
    return [
        cell(change.run),
        cell(change.method),
        cell(change.ood or f"mean of {change.group}"),
        change.metric,
        f"{100 * change.before:.2f}",
        f"{100 * change.after:.2f}",
        f"{100 * gain:+.2f} ({100 * low:+.2f} to {100 * high:+.2f})",
        f"{change.p_holm:.2g}",
        "worse" if change.worse else "better",
    ]


def report(
    folder: Annotated[Path, argument("FOLDER", "What gradood bench --out FOLDER wrote.")],
    out: Annotated[
        Path | None,
        option(
            "FILE.html", "The page; the same as JSON goes beside it. [default: FOLDER/report.html]"
        ),
    ] = None,
    root: Annotated[
        Path | None,
        option("DIR", "Where the images of the suite lie. [default: as in gradood bench]"),
    ] = None,
    images: Annotated[
        bool, flag("Show thumbnails of the extremes.", "--images/--no-images")
    ] = True,
    image_column: ImageColumn = "image",
    force: Force = False,
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
    for file in (target, target.with_suffix(".json")):
        if file.exists() and not force:
            raise ConfigError(
                f"{str(file)!r} is there already; name another with --out, or give --force."
            )
    from gradood.bench import read_results
    from gradood.report import Report

    record, scores = read_results(folder / RECORD, "a folder that gradood bench --out FOLDER wrote")
    if scores is None:
        say(f"no {SCORES} in {str(folder)!r}: the page has no curves and no images")
    pictures = _pictures(record, root, image_column) if images and scores else None
    for name, why in () if pictures is None else pictures.missing.items():
        say(f"no thumbnails of {name}: {why}")
    page = Report.of(record, scores or {}, pictures)
    with writing(target):
        twin = page.write(target)
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
        folders = suite.image_folders
    return Pictures.of(record, place, folders=folders, image_column=image_column)
