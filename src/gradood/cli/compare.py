"""``gradood compare``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gradood.cli.exits import Exit
from gradood.cli.options import Json
from gradood.cli.output import aligned, data, document, say
from gradood.cli.records import RECORD, SCORES, read_record

if TYPE_CHECKING:
    from gradood.bench.difference import Change, Changes

__all__ = ["compare"]


def compare(
    first: Annotated[
        Path,
        typer.Argument(metavar="A.json", help="The record before, or the folder it lies in."),
    ],
    second: Annotated[
        Path,
        typer.Argument(metavar="B.json", help="The record after, or the folder it lies in."),
    ],
    metric: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="To compare; may be given several times. [default: auroc, fpr_ood_at_tpr_id95]",
        ),
    ] = None,
    sets: Annotated[
        bool, typer.Option("--sets", help="Compare on every set, not only means over sets.")
    ] = False,
    fail_on_worse: Annotated[
        bool,
        typer.Option("--fail-on-worse", help="Exit code 1 if a figure got significantly worse."),
    ] = False,
    json: Json = False,
) -> None:
    """Show what changed significantly between two records that gradood bench wrote.

    Where the scores lie beside both records, the same images are compared in pairs. P-values are
    corrected for the number of figures compared (Holm).
    """
    from gradood.bench.diff import changes

    (a, scores_a), (b, scores_b) = _opened(first), _opened(second)
    options: dict[str, Any] = {"metrics": tuple(metric)} if metric else {}
    found = changes(a, b, scores_a, scores_b, sets=sets, **options)
    if json:
        files = {"a": str(first), "b": str(second)}
        document({**files, "suite": a["suite"]["name"], **found.to_dict()})
    else:
        _tell(found)
    if fail_on_worse and found.worse:
        raise typer.Exit(Exit.GATE_FAILED)


def _opened(path: Path) -> tuple[dict[str, Any], Any]:
    """A record, and the scores beside it or None."""
    from gradood.bench import scores_of

    file = path / RECORD if path.is_dir() else path
    record = read_record(file, "what gradood bench --out wrote")
    # Another record may have been put beside the scores of the folder's own.
    beside = file.name == RECORD and (file.parent / SCORES).is_file()
    return record, scores_of(file.parent) if beside else None


def _tell(found: "Changes") -> None:
    for told, only in (("first", found.only_before), ("second", found.only_after)):
        for run, methods in only.items():
            say(f"only in the {told}: {run}: {', '.join(methods)}")
    for run, methods in found.options.items():
        for name, (before, after) in methods.items():
            keys = [k for k in {**before, **after} if before.get(k) != after.get(k)]
            told = ", ".join(f"{k} {before.get(k)!r} → {after.get(k)!r}" for k in keys)
            say(f"{run}: {name} has other options: {told}")
    if found.significant:
        lines = ["network | method | on | metric | A | B | B − A, 95 % | p | "]
        lines.append(" | ".join(["---"] * 4 + ["---:"] * 4 + ["---"]))
        lines += [_line(change) for change in found.significant]
        data(aligned("\n".join(f"| {line} |" for line in lines)))
    else:
        data("nothing changed significantly")
    paired = sum(change.paired for change in found.figures)
    how = "pairs of scores" if paired == len(found.figures) else "intervals"
    how = how if paired in (0, len(found.figures)) else f"pairs of scores ({paired}) and intervals"
    better = len(found.significant) - len(found.worse)
    say(
        f"{len(found.figures)} figures compared, by {how}: {len(found.worse)} significantly worse, "
        f"{better} significantly better (p < 0.05 after Holm's correction)"
    )


def _line(change: "Change") -> str:
    from gradood.io.json import cell

    low, high = change.interval
    gain = change.after - change.before
    return " | ".join(
        [
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
    )
