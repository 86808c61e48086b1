"""The command that shows what gradood does, on handwritten digits: ``gradood demo``."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from gradood.cli._groups import option
from gradood.cli._options import Json
from gradood.cli._output import data, document, say, writing

if TYPE_CHECKING:
    from gradood.bench import Comparison
    from gradood.bench._demo import Digits
    from gradood.bench._demo_folder import Decisions
    from gradood.models import DigitsNet
    from gradood.monitor import Table

__all__ = ["demo"]

Out = Annotated[
    Path | None,
    option("DIR", "Keep the network, its images and a calibrated detector here, to go on with."),
]

_METRICS = """\
FPR95  of the unknown images, the percentage still taken for known where 95 % of the known ones
       are kept; lower is better.
AUROC  the chance in percent that an unknown image scores above a known one; 50 is guessing, 100
       perfect. Sorted by its mean; * marks the best of each column."""

_SHOWN = {"line": 'line, clip="auto"'}
"""Methods whose options are not the published ones; LINe's clipping value is absolute."""

_MODEL = "--model digits_net --num-classes 8 --weights {folder}/weights.safetensors"

_NEXT = f"""\
{{folder}}/ holds the network, its images in class folders, and the detector that decided above.
Next:
  gradood score {{folder}}/inbox {_MODEL} \\
      --detector {{folder}}/detector.safetensors --out {{folder}}/scores
  gradood inspect {_MODEL}
  gradood methods        # what to choose from, and where to begin
README.md goes on from here, with the same files."""

_KEEP = """\
Next: gradood demo --out demo, which keeps the network, its images and the detector that decided
above, for the commands of README.md; or gradood methods, for what to choose from."""


def demo(
    out: Out = None,
    json: Json = False,
    seed: Annotated[int, option("N", "Of the split and the training.")] = 0,
    epochs: Annotated[int, option("N", "Passes over the training digits.", least=1)] = 12,
) -> None:
    """Train on handwritten digits, fit every method in one pass, compare them, and decide.

    Known are the digits 0 to 7 of scikit-learn's bundled set;
    near are its 8 and 9; far are patches of its two photographs.
    Nothing is downloaded. It takes well under two minutes.
    """
    from gradood.bench._demo import accuracy, load_digits, one_thread, train
    from gradood.bench._demo_folder import DemoImages, check_folder, decide, write_folder
    from gradood.bench.folder import provenance

    settings = {"seed": seed, "epochs": epochs}
    if out is not None:
        check_folder(out, settings)
    digits = load_digits(seed=seed)
    samples = {
        "fit": len(digits.train_x),
        "id": len(digits.test_x),
        "ood": {name: len(x) for name, x in digits.ood.items()},
    }
    say(f"training a small network on {samples['fit']:,} images of the digits 0 to 7 …")
    with one_thread():
        model = train(digits, epochs=epochs, seed=seed)
        train_accuracy = accuracy(model, digits.train_x, digits.train_y)
        comparison = _compared(digits, model, level=0.95 if json else None)
        images = DemoImages.of(digits)
        decisions = decide(model, images)
        if out is not None:
            with writing(out):
                write_folder(out, model, images, decisions.monitor, settings)
    test_accuracy = comparison.id_accuracy or 0.0
    say(
        f"accuracy: {train_accuracy:.2%} of the training digits, "
        f"{test_accuracy:.2%} of {samples['id']} others"
    )
    if json:
        facts = {**settings, "train_accuracy": train_accuracy, "samples": samples}
        facts["decisions"] = {"calibrated_on": decisions.samples, "flagged": decisions.flagged}
        document({**provenance(), **facts, **comparison.to_dict()})
        return
    data("\n\n".join(_sections(comparison, decisions, out)))


def _compared(digits: "Digits", model: "DigitsNet", *, level: float | None) -> "Comparison":
    from gradood.bench import Sets, compare, select

    # The published clipping value of LINe is absolute, and for other networks.
    chosen = select("all", ["line.clip=auto"]).detectors
    # No text is told of the digits' classes.
    detectors = {n: d for n, d in chosen.items() if not any("zero-shot" in k for k in d.needs)}
    say(
        f"near: {len(digits.ood['near'])} images of 8 and 9; far: {len(digits.ood['far'])} patches "
        f"of photographs; fitting {len(detectors)} methods in one pass, scoring each set in one …"
    )
    sets = Sets(
        fit=list(zip(digits.train_x.split(128), digits.train_y.split(128), strict=True)),
        fit_labels=digits.train_y,
        id=digits.test_x.split(128),
        id_labels=digits.test_y,
        ood={name: x.split(128) for name, x in digits.ood.items()},
    )
    return compare(model, detectors, sets, digits.train_x[:32], level=level)


def _sections(comparison: "Comparison", decisions: "Decisions", out: Path | None) -> list[str]:
    from gradood.bench._tables import left_out_lines

    left_out = [line for line in left_out_lines(comparison.left_out) if line]
    return [
        _METRICS,
        _figures(comparison.table),
        *(["\n".join(left_out)] if left_out else []),
        _decided(decisions),
        _KEEP if out is None else _NEXT.format(folder=out),
    ]


def _figures(table: "Table") -> str:
    """FPR95 and AUROC of every method on every set, the best mean AUROC first."""
    rows: dict[str, list[float]] = {}
    for method in table.methods:
        cells = [table[method, name] for name in table.sets]
        pairs = [(cell.fpr_ood_at_tpr_id95, cell.auroc) for cell in cells]
        mean = [sum(values) / len(pairs) for values in zip(*pairs, strict=True)]
        rows[method] = [100 * value for pair in [*pairs, mean] for value in pair]
    order = sorted(rows, key=lambda method: -rows[method][-1])
    columns = list(zip(*rows.values(), strict=True))
    best = [max(column) if i % 2 else min(column) for i, column in enumerate(columns)]
    cells = [[_SHOWN.get(method, method), *map(_marked, rows[method], best)] for method in order]
    names = [*table.sets, "mean"]
    groups = ["", *(text for name in names for text in (name, ""))]
    heads = ["method", *(text for _ in names for text in ("FPR95 ", "AUROC "))]
    return _columns([groups, heads, *cells])


def _marked(value: float, best: float) -> str:
    return f"{value:.1f}{'*' if value == best else ' '}"


def _decided(decisions: "Decisions") -> str:
    from gradood.bench._demo_folder import FPR

    flagged: Mapping[str, Mapping[str, float]] = decisions.flagged
    sets = list(next(iter(flagged.values())))
    rows: list[list[str]] = [["", *sets]]
    for name, rates in flagged.items():
        shown = "all, combined by fisher" if name == "combined" else name
        rows.append([shown, *(f"{100 * rates[each]:.1f}" for each in sets)])
    head = (
        f"Decisions: percentage flagged as out-of-distribution, at a promised false-alarm rate of "
        f"{100 * FPR:g} %,\ncalibrated on {decisions.samples} digits that were not trained on. The "
        "first column is what the promise bounds\n(on average over calibrations); of the others, "
        "more is better."
    )
    return f"{head}\n\n{_columns(rows)}"


def _columns(rows: Sequence[Sequence[Any]]) -> str:
    """Columns in line; the first to the left, the others to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            text.rjust(width) if column else text.ljust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
