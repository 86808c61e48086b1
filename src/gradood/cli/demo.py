"""``gradood demo``."""

from typing import Annotated

import typer

from gradood.cli.options import Json
from gradood.cli.output import aligned, data, document, say

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
    from gradood.bench import Sets, compare, select
    from gradood.bench.demo import CLASSES, accuracy, load_digits, train
    from gradood.bench.provenance import provenance
    from gradood.bench.record import CAPTION, left_out_lines

    digits = load_digits(seed=seed)
    n, near, far = len(digits.train_x), len(digits.ood["near"]), len(digits.ood["far"])
    say(f"training a small network on {n:,} images of the digits 0 to {CLASSES - 1} …")
    model = train(digits, epochs=epochs, seed=seed)
    fitted = accuracy(model, digits.train_x, digits.train_y)
    say(
        f"near: {near} images of 8 and 9; far: {far} patches of photographs; known: "
        f"{len(digits.test_x)} digits not trained on"
    )
    selection = select("all", ["line.clip=auto"])
    say(f"fitting {len(selection.detectors)} methods in one pass, scoring each set in one pass …")
    sets = Sets(
        fit=list(zip(digits.train_x.split(128), digits.train_y.split(128), strict=True)),
        fit_labels=digits.train_y,
        id=list(digits.test_x.split(128)),
        id_labels=digits.test_y,
        ood={name: list(x.split(128)) for name, x in digits.ood.items()},
    )
    found = compare(model, selection.detectors, sets, digits.train_x[:32])
    tested = found.id_accuracy or 0.0
    say(f"accuracy: {fitted:.2%} of the training digits, {tested:.2%} of the test digits")
    if json:
        document(
            {
                **provenance(),
                "seed": seed,
                "epochs": epochs,
                "train_accuracy": fitted,
                "samples": {"fit": n, "id": len(digits.test_x), "ood": {"near": near, "far": far}},
                **found.to_dict(),
            }
        )
        return
    left_out = left_out_lines(found)
    data("\n".join([CAPTION, "", aligned(found.table.markdown()), *(["", *left_out][:-1])]))
