"""Whether contributions sum to the scores, and whether the leading units carry them.

    python benchmarks/attribution.py --work FOLDER --vit small_vit.safetensors
        --write docs/results/attribution.md [--networks A,B] [--fit 2000] [--rows 200] [--heads]
        [--methods A,B]

On ResNet-20 and DenseNet-101 of ../shared and the ViT of benchmarks/cifar_networks.py. Figures of
each network are kept in the work folder; those that are there are not made again. With --heads,
methods that read more of the network than features and logits are left out. The methods are
fitted on the first images of `cifar10_train_a`, whose mean feature is the reference. Known images
are the first of `cifar10_test`, unknown ones the first of `svhn_test`; nothing was chosen on them.

Gap: the largest of ``|score − reference − units − parts|`` relative to ``|score − reference|``.
Removal: of each unknown image, the units that contribute the most are removed, 5 to 50 % of them,
and the score is computed again; what it falls by is given in standard deviations of the known
images' scores, beside that for as many random units (mean of five draws), and for those with the
largest gradient × input; see removal.py. A removed unit is set to its mean over the fitted images,
or to what the units that stay predict of it there, by linear regression. Methods that are sums over
layers, which have no units to remove, are fitted on the first tenth, and their gap is that of as
few images.
"""

import argparse
import json
import sys
import time
import warnings
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import torch
from pointing import SHARED, STATISTICS, cifar_network, decoded
from removal import REMOVALS, TENTH, Removal, counts, curves, fall_cells, score_of, summary_lines
from torch import Tensor

import gradood
from gradood.attribution import KnownFeatures, contributions, read_evidence, unexplained
from gradood.evidence import FEATURES, KEYS, LOGITS, Evidence

NETWORKS = ("resnet20", "densenet101", "small_vit")
BATCH = 100


def images_of(network: str, name: str, count: int) -> tuple[Tensor, Tensor]:
    """Inputs of a network and their labels: the first of a set."""
    images, labels = decoded(SHARED / "data" / f"{name}.parquet", range(count), 32)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in STATISTICS[network])
    return (images.float() / 255 - mean) / std, labels


def measured(
    network: str, given: argparse.Namespace, names: list[str] | None = None
) -> dict[str, Any]:
    """All figures of one network, of these methods or all."""
    fit, rows, model = given.fit, given.rows, cifar_network(network, given.vit)
    x, y = images_of(network, "cifar10_train_a", fit)
    names = names or [method.name for method in gradood.methods()]
    monitor = gradood.Monitor(model, names, skip_unusable=True, progress=False)
    monitor.bind(x[:2])
    left = dict(monitor.left_out) | unexplained(bound_of(monitor))
    groups: dict[bool, list[str]] = {False: [], True: []}
    for name, detector in monitor.detectors.items():
        reads = {*bound_of(monitor).reads(name)}
        if given.heads and not reads <= {FEATURES, LOGITS, KEYS}:
            left[name] = "reads more"
        if name not in left:
            groups[detector.attribution.startswith("layers")].append(name)
    whole = gradood.Monitor(model, "energy", progress=False)
    whole.bind(x[:2])
    features = torch.cat([read(bound_of(whole), part).features for part in x.split(BATCH)])
    removal = Removal.of(features.double())
    taken = torch.cat([read(bound_of(whole), part).logits for part in x.split(BATCH)]).argmax(1)
    fitted = KnownFeatures.of(features, taken, int(taken.max()) + 1)
    table: dict[str, Any] = {}
    for by_layer, names in groups.items():
        if not names:
            continue
        small = 10 if by_layer else 1
        chosen = gradood.Monitor(model, names, progress=False)
        chosen.fit([(x[: fit // small], y[: fit // small])] if by_layer else batches(x, y))
        each = (images_of(network, name, rows // small)[0] for name in (given.known, given.unknown))
        known, unknown = (read(bound_of(chosen), images) for images in each)
        table |= figures(network, bound_of(chosen), known, unknown, (removal, fitted))
    width = features.shape[1]
    return {"fit": fit, "rows": rows, "width": width, "removed": counts(width)} | {
        "methods": table,
        "left out": left,
    }


def batches(x: Tensor, y: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Of images and labels."""
    return list(zip(x.split(BATCH), y.split(BATCH), strict=True))


def read(bound: Any, images: Tensor) -> Evidence:
    """What the detectors read of images, a few at a time."""
    parts = [read_evidence(bound, part) for part in images.split(BATCH // 2)]
    values = {r: torch.cat([p._read[r] for p in parts]) for r in parts[0]._read}
    return replace(parts[0], size=len(images), _read=values)


def figures(
    network: str,
    bound: Any,
    known: Evidence,
    unknown: Evidence,
    of_fit: tuple[Removal, KnownFeatures],
) -> dict[str, Any]:
    """Of each method."""
    rows, (removal, fitted) = known.size, of_fit
    means = fitted.references(unknown.logits.argmax(1))
    removal = replace(removal, of_class=means)
    table: dict[str, Any] = {}
    for name, detector in bound.detectors.items():
        begun, state = time.perf_counter(), bound.states.get(name, {})
        own = [replace(part, reads=bound.reads(name)) for part in (known, unknown)]
        made = [contributions(detector, part, removal.mean, state) for part in own]
        seconds = time.perf_counter() - begun
        sound = [m.gap.isfinite() for m in made]
        gaps = torch.cat([m.relative_gap[s] for m, s in zip(made, sound, strict=True)])
        parts = [torch.zeros_like(m.score) + sum(m.parts.values()) for m in made]
        share = torch.cat([p / (m.score - m.reference) for p, m in zip(parts, made, strict=True)])
        spread = float(made[0].score.std())
        falls: dict[str, dict[str, Any]] = {}
        if made[1].by_units:
            score = score_of(detector, own[1], state)
            by_class = contributions(detector, own[1], means, state)
            units = {"units": made[1].units, "class": by_class.units}
            falls = curves(score, own[1], removal, units, spread)
        table[name] = {
            "rule": detector.attribution.partition(":")[0],
            "gap": float(gaps.max()),
            "parts": float(share.abs().nanmedian()),
            "milliseconds": 1e3 * seconds / (2 * rows),
            "removed": falls,
        }
        print(network, name, table[name], file=sys.stderr, flush=True)
    return table


def bound_of(monitor: gradood.Monitor[Any]) -> Any:
    """Its detectors, bound."""
    bound = monitor._session.state.bound
    assert bound is not None
    return bound


def page(work: Path, networks: list[str]) -> str:
    """The results as a page."""
    found = {name: json.loads((work / f"{name}.json").read_text()) for name in networks}
    lines = ["## Summary", ""]
    lines += ["| network | methods | largest gap | above 1e-6 | removed by | more than random |"]
    lines[-1] += " no less than gradient × input |"
    lines += ["|---|---:|---:|---|---|---:|---:|"]
    for name, record in found.items():
        table = record["methods"]
        high = [n for n, m in table.items() if m["gap"] > 1e-6]
        for how in REMOVALS:
            each = [m["removed"][how]["curve"] for m in table.values() if m["removed"]]
            falls = [{name: f[TENTH] for name, f in curve.items()} for curve in each]
            falls = [f for f in falls if any(f.values())]
            full = [f for f in falls if "gradient" in f]
            lines += [
                f"| {name} | {len(table)} | {max(m['gap'] for m in table.values()):.1e} | "
                f"{', '.join(high) or 'none'} | {how} | "
                f"{sum(f['units'] > f['random'] for f in falls)} of {len(falls)} | "
                f"{sum(f['units'] >= f['gradient'] for f in full)} of {len(full)} |"
            ]
    lines += ["", *summary_lines(found)]
    for name, record in found.items():
        lines += ["", f"## {name}", ""]
        lines += [
            f"{record['width']} units, of which {', '.join(map(str, record['removed']))} are "
            f"removed; fitted on {record['fit']} images; {record['rows']} known and "
            f"{record['rows']} unknown ones. A tenth: falls of units / random / gradient × input. "
            "Area: of units, from the mean of all and from that of the class / random / gradient × "
            "input. Difference: each of the former two less gradient × input.",
            "",
            "| method | rule | largest gap | in no unit | set to the mean: a tenth | area | "
            "difference | to what is predicted: a tenth | area | difference | ms |",
            "|---|---|---:|---:|---|---|---|---|---|---|---:|",
        ]
        for method, m in record["methods"].items():
            cells = " | ".join(fall_cells(m["removed"].get(how)) for how in REMOVALS)
            lines += [
                f"| {method} | {m['rule']} | {m['gap']:.0e} | {100 * m['parts']:.0f} % | {cells} | "
                f"{m['milliseconds']:.1f} |"
            ]
        absent = "; ".join(f"{n}" for n in record["left out"])
        lines += ["", f"Not for this network: {absent}."]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure the networks that are not measured yet, and write the page."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--vit", type=Path, default=Path("small_vit.safetensors"))
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--fit", type=int, default=2000)
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--heads", action="store_true", help="features and logits alone")
    parser.add_argument("--known", default="cifar10_test")
    parser.add_argument("--unknown", default="svhn_test")
    parser.add_argument("--methods", default="", help="measure these again")
    parser.add_argument("--write", type=Path)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    given.work.mkdir(parents=True, exist_ok=True)
    networks = given.networks.split(",")
    for name in networks:
        file = given.work / f"{name}.json"
        before = json.loads(file.read_text()) if file.exists() else None
        if before is None or given.methods:
            found = measured(name, given, given.methods.split(",") if given.methods else None)
            if before is not None:
                found = before | {"methods": before["methods"] | found["methods"]}
            file.write_text(json.dumps(found | {"date": str(date.today())}, indent=1) + "\n")
    if given.write is not None:
        before = given.write.read_text() if given.write.exists() else "# Attribution\n"
        head = before.split("\n## Summary", 1)[0].rstrip("\n")
        given.write.write_text(f"{head}\n\n{page(given.work, networks)}")


if __name__ == "__main__":
    main()
