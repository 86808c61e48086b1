"""Five methods on 1,281,167 × 2,048 drawn features: bounded forms beside exact ones.

    python benchmarks/banks.py draw BIG
    python benchmarks/bank_large.py BIG exact logits space beside --queries 200 --out FOLDER

Each step writes FOLDER/large-STEP.json, which `bank_page.py` reads. `exact` computes the scores
that `knn`, `nnguide` and `grood` have with all rows, from the file, block by block: no state is
held; and those with rows in 4 bits per number, whose codes it leaves in BIG for `beside`, which
takes the time of the package's own searches, in turns with a forward pass. `exact` first compares
the scores of a small bank with those of the package. A part of the rows is the first of them: rows
are drawn one like the other.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import bank_data
import numpy as np
import torch
from bank_data import LENGTH, Peak
from banks import SHARE, anonymous, auto, big, polar_of
from torch import Tensor

from gradood.functional.codes import CodedVectors, Codes, rotated
from gradood.functional.farthest_rows import FarthestRows
from gradood.functional.grood import coded_gradients, gradient_bank, ood_gradient
from gradood.functional.logits import energy
from gradood.functional.moments import ClassMoments
from gradood.functional.neighbors import Bank, CodedPolar, Polar, kth_distance
from gradood.functional.nnguide import guidance
from gradood.functional.openmax import class_models, distances_to, tail_models, unknown_log_odds
from gradood.functional.subspace import head_origin, part_norm
from gradood.functional.weibull import TRANSLATION, Weibull

Scores = dict[str, Tensor]
_BLOCK = 8192
_GUIDES = 10
_KEPT = 0.99
"""Of the rows, kept in codes where a length is kept too: both together are an eighth."""
_PRINCIPAL = 1000
"""Directions of the space of `vim`, as for 2,048 features."""
_TOGETHER = 64
"""Queries of one search."""


class Large:
    """The drawn file: directions, logits, and queries, as a network of a linear head gives them.

    Args:
        given: folder and queries of each set.
    """

    def __init__(self, given: argparse.Namespace) -> None:
        self.folder: Path = given.folder
        self.fit, sets, facts = big(given.folder)
        self.rows, self.classes = len(self.fit), facts["classes"]
        self.part = self.rows // SHARE
        shape = (self.rows, self.classes)
        self.logits = np.memmap(self.folder / "logits.f32", np.float32, "r", shape=shape)
        self.rounds: int = given.rounds
        self.out: Path = given.out
        self.queries: int = given.queries
        self.labels = torch.from_numpy(np.load(self.folder / "labels.npy"))
        self.head = bank_data.last_layer(self.folder)[1]
        self.names = [name for name in sets for _ in range(given.queries)]
        self.query = torch.cat([x[: given.queries] for x in sets.values()])
        with torch.inference_mode():
            self.query_logits = self.head(LENGTH * self.query)

    def blocks(self, *stops: int) -> Iterator[slice]:
        """Rows in blocks, none of which lies on both sides of a stop."""
        start = 0
        for stop in sorted({*stops, self.rows}):
            for first in range(start, stop, _BLOCK):
                yield slice(first, min(first + _BLOCK, stop))
            start = stop

    def logits_of(self, rows: slice | Tensor) -> Tensor:
        """Logits of some rows, float32."""
        index = rows if isinstance(rows, slice) else rows.numpy()
        return torch.from_numpy(np.array(self.logits[index]))

    def facts(self) -> dict[str, Tensor]:
        """Of every row, its confidence and whether its class is right; prototypes of `grood`."""
        file = self.folder / "row-facts.pt"
        if not file.exists():
            confidence, right = [], []
            total = torch.zeros(self.classes, self.fit.shape[1], dtype=torch.float64)
            for rows in self.blocks():
                z, own = self.logits_of(rows), self.labels[rows]
                confidence.append(-energy(z).float())
                right.append(z.argmax(1) == own)
                total.index_add_(0, own, self.fit[rows].double())
            prototypes = LENGTH * total / self.labels.bincount(minlength=self.classes)[:, None]
            torch.save(
                {
                    "confidence": torch.cat(confidence),
                    "right": torch.cat(right),
                    "prototypes": prototypes,
                    "ood": prototypes.mean(0),
                },
                file,
            )
        return torch.load(file)

    def write(self, step: str, found: dict[str, Any], more: dict[str, Any]) -> None:
        """What a step found, and of what data."""
        size = {"rows": self.rows, "width": self.fit.shape[1], "classes": self.classes}
        found = found | size | {"queries": self.queries} | more
        print(step, json.dumps(found), flush=True)
        (self.out / f"large-{step}.json").write_text(json.dumps(found, indent=1) + "\n")

    def compared(self, exact: Tensor, bounded: Tensor) -> dict[str, Any]:
        """AUROC in percent of both, and the standard error of their difference, by set."""
        found = {}
        names = np.array(self.names)
        for name in dict.fromkeys(self.names):
            if name == "test":
                continue
            both = [
                (s[names == "test"], s[names == name]) for s in (exact.numpy(), bounded.numpy())
            ]
            known, new = (np.array(p) for p in zip(*(placements(*b) for b in both), strict=True))
            spread = sum((v[1] - v[0]).var(ddof=1) / v.shape[1] for v in (known, new))
            found[name] = {
                "exact": round(100 * float(known[0].mean()), 3),
                "bounded": round(100 * float(known[1].mean()), 3),
                "standard_error": round(100 * float(spread) ** 0.5, 3),
            }
        return found


def placements(known: np.ndarray, new: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each known score the share of new ones above it; for each new one of known ones below."""
    above = (new > known[:, None]).astype(float) + 0.5 * (new == known[:, None])
    return above.mean(1), above.mean(0)


class Nearest:
    """What `knn`, `nnguide` and `grood` score queries by, of rows that come in blocks.

    Args:
        large: the data.
        query: directions, turned if rows are.
        gradient: of the queries, likewise.
    """

    def __init__(self, large: Large, query: Tensor, gradient: Polar) -> None:
        self._k = auto(large.rows, large.classes)
        self._query, self._unit = query, gradient.unit
        self._share = gradient.log_length.exp()[:, None].float()
        self._energy = energy(large.query_logits)
        self._near = query.new_empty(len(query), 0)
        self._guides = self._near
        self._least = query.new_full((len(query),), torch.inf)

    def add_directions(self, units: Tensor, confidence: Tensor | None) -> None:
        """Rows of the banks of `knn` and, with a confidence, of `nnguide`."""
        products = self._query @ units.T
        self._near = _largest(self._near, products, self._k)
        if confidence is not None:
            self._guides = _largest(self._guides, products.mul_(confidence), _GUIDES)

    def add_gradients(self, units: Tensor, log_length: Tensor) -> None:
        """Rows of the bank of `grood`, with k = 1."""
        length = log_length.exp().float()
        products = (self._unit @ units.T).mul_(length).mul_(-2 * self._share)
        nearest = products.add_(length.square()).amin(1)
        self._least = torch.minimum(self._least, nearest)

    def scores(self, k: int | None = None) -> Scores:
        """Of the rows so far."""
        near = self._near[:, (k or self._k) - 1].double()
        return {
            "knn": (2 - 2 * near).clamp_min(0).sqrt(),
            "nnguide": self._energy * self._guides.double().mean(1),
            "grood": (self._least + self._share[:, 0].square()).clamp_min(0).sqrt().double(),
        }


def _largest(best: Tensor, products: Tensor, k: int) -> Tensor:
    both = torch.cat([best, products], 1)
    return both.topk(min(k, both.shape[1]), 1).values


def gradients(features: Tensor, prototypes: Tensor, ood: Tensor) -> Polar:
    """`ood_gradient` in float32: products of a thousand prototypes are most of the cost."""
    center = prototypes.mean(0)
    away = features - ood
    distance = torch.linalg.vector_norm(away, dim=1)
    mode = "use_mm_for_euclid_dist"
    others = torch.cdist(features - center, prototypes - center, compute_mode=mode)
    margin = torch.cat([distance[:, None] - others, distance.new_zeros(len(distance), 1)], 1)
    return Polar(away / distance[:, None], -torch.logsumexp(margin, 1).double())


def exact(large: Large) -> dict[str, Any]:
    """Scores with all rows, with an eighth of them, and with codes of them, from the file.

    Those of the first rows alone, from an eighth on, are compared and written on the way.
    """
    facts = large.facts()
    prototypes, ood = facts["prototypes"], facts["ood"]
    straight = ood_gradient(LENGTH * large.query, prototypes, ood)
    turned = Polar(rotated(straight.unit), straight.log_length)
    both = Nearest(large, large.query, straight), Nearest(large, rotated(large.query), turned)
    origin = prototypes.float(), ood.float()
    spun = rotated(origin[0]), rotated(origin[1][None])[0]
    kept: dict[str, list[Tensor]] = {"codes": [], "gradients": [], "lengths": [], "exact": []}
    wholes = [large.rows >> shift for shift in (3, 2, 1, 0)]
    stops = {*wholes, *(rows // SHARE for rows in wholes), int(_KEPT * large.rows), 2 * _BLOCK}
    scores: dict[int, tuple[Scores, Scores, Scores]] = {}
    few = max(1, round(auto(large.rows, large.classes) / SHARE))
    for rows in large.blocks(*stops):
        units, right = large.fit[rows].clone(), facts["right"][rows]
        confidence = facts["confidence"][rows]
        both[0].add_directions(units, confidence)
        own = gradients(LENGTH * units[right], *origin)
        both[0].add_gradients(own.unit, own.log_length)
        kept["exact"].append(own.log_length)
        codes = Codes.of(units, 4)
        units = codes[:]
        both[1].add_directions(units, confidence)
        own = gradients(LENGTH * units[right], *spun)
        again = Codes.of(own.unit, 4, turned=True)
        both[1].add_gradients(again[:], own.log_length)
        kept["codes"].append(codes.packed)
        kept["gradients"].append(again.packed)
        kept["lengths"].append(own.log_length)
        if rows.stop == 2 * _BLOCK:
            check_both(large, both, (straight, turned), kept["codes"])
        if rows.stop in stops:
            scores[rows.stop] = both[0].scores(), both[1].scores(), both[0].scores(few)
            torch.save(scores, large.folder / "scores.pt")
            if rows.stop in wholes:
                forms = bounded_forms(large, scores, rows.stop)
                large.write("exact", forms, {"rows": rows.stop, "of": large.rows})
    torch.save({n: torch.cat(parts) for n, parts in kept.items()}, large.folder / "codes.pt")
    return bounded_forms(large, scores, large.rows)


def bounded_forms(
    large: Large, scores: dict[int, tuple[Scores, Scores, Scores]], rows: int
) -> dict[str, Any]:
    """What methods lose in codes and with an eighth of the rows, of so many rows.

    With lengths beside the codes, 99 % of all rows are an eighth of the memory.
    """
    whole, part = scores[rows][0], scores[rows // SHARE][2]
    coded = scores.get(int(_KEPT * rows), scores[rows])[1] | {"knn": scores[rows][1]["knn"]}
    return {
        "coded": {n: large.compared(whole[n], coded[n]) for n in whole},
        "sample": {n: large.compared(whole[n], part[n]) for n in whole},
    }


def check_both(
    large: Large, both: tuple[Nearest, Nearest], gradient: tuple[Polar, Polar], codes: list[Tensor]
) -> None:
    """Compare the scores with the first rows with the package's."""
    some = Codes(torch.cat(codes), large.fit.shape[1], 4)
    few = {"units": large.fit[: len(some)].clone(), **large.facts()}
    zero = torch.zeros(len(some), dtype=torch.float64)
    given = few | {"query": large.query}, few | {"query": rotated(large.query)}
    check(large, both[0].scores(), Bank(polar_of(few["units"])), gradient[0], given[0])
    check(large, both[1].scores(), Bank(CodedPolar(some, zero)), gradient[1], given[1])


def check(large: Large, scores: Scores, bank: Any, gradient: Polar, few: dict[str, Tensor]) -> None:
    """Compare scores with a bank of a few rows with those of the package's own functions."""
    coded = isinstance(bank.vectors, CodedPolar)
    count = len(bank.vectors.unit)
    confidence, right = few["confidence"][:count], few["right"][:count]
    units, prototypes = few["units"], (few["prototypes"], few["ood"])
    guides: Any = units * confidence[:, None]
    if coded:
        guides = CodedVectors(bank.vectors.unit, confidence)
        kept = Codes(bank.vectors.unit.packed[right], units.shape[1], 4)
        lengths = torch.full((len(kept),), LENGTH)
        own = coded_gradients(CodedVectors(kept, lengths), *prototypes)
        order = own.log_length.argsort()
        packed = Codes(own.unit.packed[order], units.shape[1], 4)
        others: Any = Bank(CodedPolar(packed, own.log_length[order]))
    else:
        others = gradient_bank(LENGTH * units[right], *prototypes)
    expected = {
        "knn": kth_distance(polar_of(few["query"]), bank, auto(large.rows, large.classes)),
        "nnguide": energy(large.query_logits) * guidance(few["query"], guides, _GUIDES),
        "grood": kth_distance(gradient, others, 1),
    }
    for name, found in scores.items():
        gap = float((found / expected[name] - 1).abs().max())
        print(f"{name}: relative gap {gap:.1e} on {count:,} rows", flush=True)
        assert gap < 1e-4, name


def logits(large: Large) -> dict[str, Any]:
    """`open-max` with the logits of all rows, class by class, and with those of an eighth."""
    own = [(large.labels == c).nonzero()[:, 0] for c in range(large.classes)]
    centers, models = [], []
    for rows in own:
        z = large.logits_of(rows)
        z = z[z.argmax(1) == large.labels[rows]].double()
        center, model = class_models(z, torch.zeros(len(z), dtype=torch.int64), 1, "eucos", None)
        centers.append(center)
        models.append(torch.stack([model.start, model.shape, model.log_scale]))
    start, shape, scale = torch.cat(models, 1)
    model = {"centers": torch.cat(centers), "start": start, "shape": shape, "log_scale": scale}
    torch.save(model, large.folder / "open-max.pt")
    weibull = Weibull(start, shape, scale, TRANSLATION)
    whole = unknown(large.query_logits, model["centers"], weibull)
    kept: FarthestRows | None = None
    peak, before = Peak(anonymous), anonymous()
    with peak:
        for rows in large.blocks():
            z, labels = large.logits_of(rows), large.labels[rows]
            right = z.argmax(1) == labels
            key = torch.arange(rows.start, rows.stop)[right]
            columns = {"key": key, "labels": labels[right], "rows": z[right]}
            part = FarthestRows.of(large.part, "eucos", large.classes, columns)
            kept = part if kept is None else kept.merge(part)
        assert kept is not None
        kept = kept.trimmed()
    table = kept.table()
    bound = tail_models(table["rows"], table["labels"], kept.moments, "eucos", None, TRANSLATION)
    found = large.compared(whole, unknown(large.query_logits, *bound))
    return {"open-max": found, "kept": kept.held, "peak_MiB": round(peak.most - before)}


def unknown(logits: Tensor, centers: Tensor, model: Weibull) -> Tensor:
    """Scores of `open-max`."""
    z = logits.double()
    distances = distances_to(z, centers.double(), "eucos")
    outlying = torch.where(model.shape > 0, model.cdf(distances), 1.0)
    return unknown_log_odds(z, outlying, 10)


def space(large: Large) -> dict[str, Any]:
    """`vim` with its factor from all rows and from an eighth; one space, of an eighth."""
    moments: ClassMoments | None = None
    for rows in large.blocks(large.part):
        if rows.start < large.part:
            part = ClassMoments.together(LENGTH * large.fit[rows], scatter=True)
            moments = part if moments is None else moments.merge(part)
    assert moments is not None and moments.scatter is not None
    origin = head_origin(large.head.weight, large.head.bias).double().detach()
    shift = moments.mean[0] - origin
    moment = moments.scatter / moments.count + torch.outer(shift, shift)
    vectors = torch.linalg.eigh(moment).eigenvectors[:, : len(shift) - _PRINCIPAL]
    torch.save({"origin": origin, "outside": vectors}, large.folder / "vim.pt")
    outside = vectors.float()

    def length(units: Tensor) -> Tensor:
        return torch.linalg.vector_norm((LENGTH * units - origin.float()) @ outside, dim=1).double()

    # The space fits the rows that it was learned from a little better: the eighth is another one.
    sums = {name: torch.zeros(2, dtype=torch.float64) for name in ("all", "eighth")}
    for rows in large.blocks(large.part, 2 * large.part):
        both = torch.stack([large.logits_of(rows).amax(1).double(), length(large.fit[rows])])
        sums["all"] += both.sum(1)
        if large.part <= rows.start < 2 * large.part:
            sums["eighth"] += both.sum(1)
    alpha = {name: float(peak / total) for name, (peak, total) in sums.items()}
    query, own = length(large.query), energy(large.query_logits)
    scores = {name: factor * query + own for name, factor in alpha.items()}
    return {"vim": large.compared(scores["all"], scores["eighth"]), "alpha": alpha}


class Scaled:
    """Rows of the file times their confidence, as they are needed: guides without a state."""

    dtype = torch.float32

    def __init__(self, units: Tensor, length: Tensor) -> None:
        self._units, self._length = units, length

    def __len__(self) -> int:
        return len(self._units)

    def __getitem__(self, rows: slice) -> Tensor:
        return self._units[rows] * self._length[rows][:, None]


def gradient_search(large: Large, query: Polar, right: Tensor, lengths: Tensor) -> Tensor:
    """Distances of gradients to those of all rows, which are made from the file."""
    nearest = torch.full((len(query.unit),), torch.inf, dtype=torch.float64)
    ood, start = large.facts()["ood"].float(), 0
    for rows in large.blocks():
        away = LENGTH * large.fit[rows][right[rows]] - ood
        unit = away / torch.linalg.vector_norm(away, dim=1, keepdim=True)
        own = Polar(unit, lengths[start : start + len(unit)])
        nearest = torch.minimum(nearest, kth_distance(query, Bank.of(own), 1))
        start += len(unit)
    return nearest


Jobs = dict[str, tuple[int, Callable[[], object]]]


def neighbor_jobs(large: Large, count: int) -> Jobs:
    """Searches of `knn` and `nnguide`."""
    units, confidence = large.query[:count], large.facts()["confidence"]
    query, turned = polar_of(units), rotated(units)
    width, part = large.fit.shape[1], large.fit[: large.part].clone()
    k, kept = auto(large.rows, large.classes), int(_KEPT * large.rows)
    packed = torch.load(large.folder / "codes.pt", mmap=True)["codes"].clone()
    codes = CodedPolar(Codes(packed, width, 4), torch.zeros(large.rows, dtype=torch.float64))
    guides = CodedVectors(Codes(packed[:kept], width, 4), confidence[:kept])
    some: Any = part * confidence[: large.part, None]
    whole: Any = Scaled(large.fit, confidence)
    few = max(1, round(k / SHARE))
    return {
        "knn, 4 bits": (count, lambda: kth_distance(polar_of(turned), Bank(codes), k)),
        "knn, an eighth": (count, lambda: kth_distance(query, Bank(polar_of(part)), few)),
        "knn, exact": (count, lambda: kth_distance(query, Bank(polar_of(large.fit)), k)),
        "nnguide, 4 bits": (count, lambda: guidance(turned, guides, _GUIDES)),
        "nnguide, an eighth": (count, lambda: guidance(units, some, _GUIDES)),
        "nnguide, exact": (count, lambda: guidance(units, whole, _GUIDES)),
    }


def gradient_jobs(large: Large, count: int) -> Jobs:
    """Searches of `grood`, with the gradients of the queries."""
    facts, units = large.facts(), LENGTH * large.query[:count]
    prototypes, ood, right = (facts[name] for name in ("prototypes", "ood", "right"))
    table = torch.load(large.folder / "codes.pt", mmap=True)
    order = table["lengths"][: int(_KEPT * len(table["lengths"]))].argsort()
    codes = Codes(table["gradients"][order], units.shape[1], 4)
    bank = Bank(CodedPolar(codes, table["lengths"][order]))
    some = gradient_bank(LENGTH * large.fit[: large.part], prototypes, ood)
    lengths = table["exact"].clone()

    def gradient(turned: bool = False) -> Polar:
        found = ood_gradient(units, prototypes, ood)
        return Polar(rotated(found.unit), found.log_length) if turned else found

    return {
        "grood, 4 bits": (count, lambda: kth_distance(gradient(True), bank, 1)),
        "grood, an eighth": (count, lambda: kth_distance(gradient(), some, 1)),
        "grood, exact": (count, lambda: gradient_search(large, gradient(), right, lengths)),
    }


def small_jobs(large: Large, count: int) -> Jobs:
    """Scores of `vim` and `open-max`, whose state is the same however they are fitted."""
    features, z = LENGTH * large.query[:count].double(), large.query_logits[:count]
    state = torch.load(large.folder / "vim.pt")
    table = torch.load(large.folder / "open-max.pt")
    model = Weibull(table["start"], table["shape"], table["log_scale"], TRANSLATION)

    def vim() -> Tensor:
        return part_norm(features - state["origin"], state["outside"]) + energy(z)

    return {
        "vim": (count, vim),
        "open-max": (count, lambda: unknown(z, table["centers"], model)),
    }


def beside(large: Large) -> dict[str, Any]:
    """Searches of each form and a forward pass of ResNet-50's size, in turns."""
    network, images = bank_data.bottleneck_network().eval(), torch.randn(16, 3, 224, 224)
    found: dict[str, list[list[float]]] = {}
    for jobs in (small_jobs, neighbor_jobs, gradient_jobs):
        turns: Jobs = {"a forward pass": (len(images), lambda: network(images))}
        turns |= jobs(large, _TOGETHER)
        for _ in range(large.rounds):
            for name, (count, job) in turns.items():
                clocks = time.process_time(), time.perf_counter()
                job()
                spent = time.process_time() - clocks[0], time.perf_counter() - clocks[1]
                found.setdefault(name, []).append([round(count / s, 2) for s in spent])
                print(name, found[name][-1], flush=True)
        del turns
    return {"per_second_of_cpu_and_of_clock": found, "together": _TOGETHER}


STEPS = {"exact": exact, "logits": logits, "space": space, "beside": beside}


def main() -> None:
    """The steps that the command line names."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("steps", nargs="+", choices=STEPS)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    large = Large(given)
    for step in given.steps:
        start = time.process_time()
        with torch.inference_mode():
            found = STEPS[step](large)
        seconds = round(time.process_time() - start)
        more = {"cpu_seconds": seconds, "anonymous_MiB": round(anonymous())}
        large.write(step, found, more)


if __name__ == "__main__":
    main()
