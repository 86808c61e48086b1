"""``gradood demo``."""

from typing import TYPE_CHECKING, Annotated

import typer

from gradood.cli.options import Json
from gradood.cli.output import aligned, data, document, say

if TYPE_CHECKING:
    from gradood.bench import Comparison
    from gradood.bench.demo import Digits
    from gradood.models import DigitsNet

__all__ = ["demo"]


def demo(
    json: Json = False,
    seed: Annotated[int, typer.Option(help="Of the split and the training.")] = 0,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the training digits.")] = 12,
) -> None:
    """Train on handwritten digits, fit every method in one pass, compare them.

    Known are the digits 0 to 7 of scikit-learn's bundled set;
    near are its 8 and 9; far are patches of its two photographs.
    Nothing is downloaded. It takes well under two minutes.
    """
    from gradood.bench.demo import accuracy, load_digits, one_thread, train
    from gradood.bench.provenance import provenance
    from gradood.bench.record import CAPTION, left_out_lines

    digits = load_digits(seed=seed)
    samples = {
        "fit": len(digits.train_x),
        "id": len(digits.test_x),
        "ood": {name: len(x) for name, x in digits.ood.items()},
    }
    say(f"training a small network on {samples['fit']:,} images of the digits 0 to 7 …")
    with one_thread():
        model = train(digits, epochs=epochs, seed=seed)
        fitted = accuracy(model, digits.train_x, digits.train_y)
        found = _compared(digits, model, level=0.95 if json else None)
    tested = found.id_accuracy or 0.0
    say(f"accuracy: {fitted:.2%} of the training digits, {tested:.2%} of {samples['id']} others")
    if json:
        settings = {"seed": seed, "epochs": epochs, "train_accuracy": fitted, "samples": samples}
        document({**provenance(), **settings, **found.to_dict()})
        return
    lines = [CAPTION, "", aligned(found.table.markdown()), "", *left_out_lines(found.left_out)]
    data("\n".join(lines).rstrip())


def _compared(digits: "Digits", model: "DigitsNet", *, level: float | None) -> "Comparison":
    from gradood.bench import Sets, compare, select

    # The published clipping value of LINe is absolute, and for other networks.
    chosen = select("all", ["line.clip=auto"]).detectors
    say(
        f"near: {len(digits.ood['near'])} images of 8 and 9; far: {len(digits.ood['far'])} patches "
        f"of photographs; fitting {len(chosen)} methods in one pass, scoring each set in one …"
    )
    sets = Sets(
        fit=list(zip(digits.train_x.split(128), digits.train_y.split(128), strict=True)),
        fit_labels=digits.train_y,
        id=digits.test_x.split(128),
        id_labels=digits.test_y,
        ood={name: x.split(128) for name, x in digits.ood.items()},
    )
    return compare(model, chosen, sets, digits.train_x[:32], level=level)
