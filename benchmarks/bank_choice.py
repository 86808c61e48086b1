"""Forms of the banks of `nnguide` and `grood`, on sets that nothing is reported of.

    python benchmarks/bank_choice.py R20 CACHES.. --out choice-guides.json

R20 is the folder that `banks.py features` wrote; CACHES hold readings of other networks, and
`head.npz`. `nnguide` with all samples and k = 10, `grood` with the class means as prototype.
"""

import argparse
import json
from pathlib import Path

import bank_data
import torch
from bank_data import LENGTH, OUTLIERS
from banks import CHOICE, SHARE, Scores, aurocs
from torch import Tensor, nn

from gradood.functional.codes import CodedVectors, Codes, rotated
from gradood.functional.directions import directions
from gradood.functional.grood import coded_gradients, gradient_bank, ood_gradient
from gradood.functional.logits import energy
from gradood.functional.neighbors import Bank, CodedPolar, Polar, kth_distance
from gradood.functional.nnguide import guidance

_K = 10
Forms = dict[str, dict[str, float]]


def guide_forms(head: nn.Linear, fit: Tensor, sets: dict[str, Tensor]) -> Forms:
    """AUROC of `nnguide` by form of its bank."""
    order = torch.randperm(len(fit))
    part, half = order[: len(fit) // SHARE], order[: len(fit) // 2]
    unit, confidence = directions(fit).float(), -energy(head(fit)).float()

    def scores(guides: Tensor | CodedVectors, k: int) -> dict[str, float]:
        found: Scores = {}
        for name, x in sets.items():
            query = directions(x)
            query = rotated(query) if isinstance(guides, CodedVectors) else query
            found[name] = energy(head(x)) * guidance(query, guides, k)
        return aurocs(found)

    whole = unit * confidence[:, None]
    return {
        "exact": scores(whole, _K),
        "sample": scores(whole[part], _K),
        "sample, k scaled": scores(whole[part], max(1, round(_K / SHARE))),
        "half of the rows, 8 bits": scores(
            CodedVectors(Codes.of(unit[half], 8), confidence[half]), _K // 2
        ),
        "4 bits": scores(CodedVectors(Codes.of(unit, 4), confidence), _K),
    }


def gradient_forms(head: nn.Linear, fit: Tensor, labels: Tensor, sets: dict[str, Tensor]) -> Forms:
    """AUROC of `grood` by form of its bank."""
    kept = fit[head(fit).argmax(1) == labels]
    means = [fit[labels == c].double().mean(0) for c in range(int(labels.max()) + 1)]
    prototypes = torch.stack(means)
    ood, order = prototypes.mean(0), torch.randperm(len(kept))
    lengths = torch.linalg.vector_norm(kept.double(), dim=1).float()
    unit = directions(kept).float()

    def coded(rows: Tensor | slice, bits: int) -> Bank[CodedPolar]:
        codes = Codes.of(unit[rows], 4 if bits == 4 else 8)
        found = coded_gradients(CodedVectors(codes, lengths[rows]), prototypes, ood)
        by = found.log_length.argsort()
        return Bank(
            CodedPolar(Codes(found.unit.packed[by], fit.shape[1], bits), found.log_length[by])
        )

    def scores(bank: Bank[Polar] | Bank[CodedPolar]) -> dict[str, float]:
        found: Scores = {}
        for name, x in sets.items():
            query = ood_gradient(x, prototypes, ood)
            if isinstance(bank.vectors, CodedPolar):
                query = Polar(rotated(query.unit), query.log_length)
            found[name] = kth_distance(query, bank, 1)
        return aurocs(found)

    return {
        "exact": scores(gradient_bank(kept, prototypes, ood)),
        "sample": scores(gradient_bank(kept[order[: len(kept) // SHARE]], prototypes, ood)),
        "half of the rows, 8 bits": scores(coded(order[: len(kept) // 2], 8)),
        "4 bits": scores(coded(slice(None), 4)),
    }


def main() -> None:
    """All sets."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("caches", type=Path, nargs="*")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    found: dict[str, dict[str, Forms]] = {}

    def add(
        name: str, head: nn.Linear, fit: Tensor, labels: Tensor, sets: dict[str, Tensor]
    ) -> None:
        with torch.inference_mode():
            forms = {
                "nnguide": guide_forms(head, fit, sets),
                "grood": gradient_forms(head, fit, labels, sets),
            }
        found[f"{name}, {len(fit):,} × {fit.shape[1]}"] = forms
        print(name, json.dumps(forms), flush=True)
        given.out.write_text(json.dumps(found, indent=1) + "\n")

    for folder in (*given.caches, given.folder):
        own = folder == given.folder
        names = CHOICE if own else [n for n in OUTLIERS if (folder / f"{n}.npz").exists()]
        x, y = bank_data.raw(folder, ("fit_a", "fit_b") if own else ("fit",))
        sets = {
            n: bank_data.raw(folder, (n,))[0][: 2000 if own else 1000] for n in ("test", *names)
        }
        head = bank_data.last_layer(folder)[1]
        assert isinstance(head, nn.Linear)
        add("resnet20" if own else folder.name, head, x, y, sets)
    source = bank_data.Drawn(512, 100, 1)
    units, labels = (torch.cat(part) for part in zip(*source.labeled(100_000), strict=True))
    sets = {name: LENGTH * x for name, x in bank_data.query_sets(source, 500).items()}
    add("drawn", source.head(), LENGTH * units, labels, sets)


if __name__ == "__main__":
    main()
