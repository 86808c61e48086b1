"""Which detector runs on which classifier of texts, sound, sequences and tables.

    python benchmarks/any_input.py [--out docs/results/any-input.md] [--networks bert,gpt-2]

Small random configurations of Hugging Face Transformers where that is installed, and the networks
of the contract suite. Every detector is fitted on 160 inputs, scores 32 and the same ones with more
padding. A cell says what came of it:

- works: all scores finite, no warning of the detector's own; caution: finite, with one
- padding: a score moves by more than 1e-4, relative to itself or the spread, when inputs are padded
- refused: a typed error says why; the reasons are listed below the table
"""

import argparse
import os
import warnings
from pathlib import Path

import torch
from torch import Tensor

import gradood
from gradood.testing._sequences import INPUT_NETWORKS, InputNetwork
from gradood.testing._transformers import transformers_networks


def more_padding(batch: dict[str, Tensor]) -> dict[str, Tensor] | None:
    """The batch with positions more that do not count; None where nothing says which do."""
    if not {"attention_mask", "lengths"} & batch.keys():
        return None
    longest = next(leaf.shape[1] for leaf in batch.values() if leaf.ndim > 1)
    more = longest // 2
    return {
        n: torch.cat([x, x.new_zeros(len(x), more, *x.shape[2:])], 1) if x.ndim > 1 else x
        for n, x in batch.items()
    }


def moved(before: Tensor, after: Tensor) -> float:
    """Largest relative difference, of each score or of the spread where that is larger."""
    spread = (before.quantile(0.75) - before.quantile(0.25)).clamp_min(1e-12)
    return float(((after - before).abs() / before.abs().maximum(spread)).max())


def column(network: InputNetwork) -> dict[str, tuple[str, str]]:
    """Detector → (cell, reason) on one network."""
    names = [method.name for method in gradood.methods()]
    model = network.model()
    logits = model(**network.batch(160))
    labels = getattr(logits, "logits", logits).argmax(1)
    parts = torch.arange(160).split(32)
    batch = network.batch(160)
    data = [{**{n: x[p] for n, x in batch.items()}, "labels": labels[p]} for p in parts]
    monitor = gradood.Monitor(model, names, skip_unusable=True, progress=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scores = monitor.fit(data).score(network.batch(32, 1))
        longer = more_padding(network.batch(32, 1))
        padded = None if longer is None else monitor.score(longer)
    plans = monitor._session.state.bound.binding.plans
    cautions = monitor._session.state.bound.binding.network.cautions
    cells: dict[str, tuple[str, str]] = {}
    for name in names:
        if name in monitor.left_out:
            cells[name] = ("refused", monitor.left_out[name])
            continue
        own = [c for c in plans[name].caveats if c not in cautions]
        if not bool(scores[name].isfinite().all()):
            cells[name] = ("NOT FINITE", "")
        elif padded is not None and moved(scores[name], padded[name]) > 1e-4:
            by = moved(scores[name], padded[name])
            cells[name] = ("padding", f"moves by {by:.0e} with padding; {' '.join(own)}")
        else:
            cells[name] = ("caution", own[0]) if own else ("works", "")
    if cautions:
        cells["(network)"] = ("caution", cautions[0])
    return cells


def page(columns: dict[str, dict[str, tuple[str, str]]]) -> str:
    """The table and its reasons, in Markdown."""
    lines = [
        "# Any classifier, any input",
        "",
        "What each detector does on small random classifiers of texts, sound and tables: "
        "`python benchmarks/any_input.py --out docs/results/any-input.md`. What the words mean is "
        "said in that script. *works*: finite, and the same however the input is padded.",
        "",
        f"torch {torch.__version__}; gradood {gradood.__version__}.",
        "",
        f"| detector | {' | '.join(columns)} |",
        f"|---|{'---|' * len(columns)}",
    ]
    reasons: dict[str, list[str]] = {}
    names = list(dict.fromkeys(n for cells in columns.values() for n in cells))
    for name in names:
        row = []
        for network, cells in columns.items():
            cell, reason = cells.get(name, ("", ""))
            row.append(cell)
            if reason:
                reasons.setdefault(f"**{name}**, {cell}: {reason}", []).append(network)
        lines.append(f"| {name} | {' | '.join(row)} |")
    lines += ["", "## Reasons"]
    lines += [f"- {reason} ({', '.join(where)})" for reason, where in reasons.items()]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Make the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--networks", default=None, help="names, separated by commas")
    options = parser.parse_args()
    known = {**transformers_networks(), **INPUT_NETWORKS}
    chosen = list(known) if options.networks is None else options.networks.split(",")
    columns = {}
    for name in chosen:
        columns[name] = column(known[name])
        counts: dict[str, int] = {}
        for cell, _ in columns[name].values():
            counts[cell] = counts.get(cell, 0) + 1
        print(name, counts, flush=True)
    text = page(columns)
    if options.out is None:
        print(text)
    else:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    main()
