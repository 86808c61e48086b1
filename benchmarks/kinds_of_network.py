"""AUROC of every method that reads features, logits or the head, settings left automatic.

    python benchmarks/kinds_of_network.py FOLDER... [--out docs/results/kinds]

FOLDER holds readings of one network made before, as benchmarks/settings.py describes: fitted on
`fit`, known inputs are `test`, all other sets but `val` are unknown. One JSON file a network, which
docs/kinds.py reads. Nothing is chosen on any of them.
"""

import argparse
import json
import warnings
from pathlib import Path

import torch
from settings import Network, needs_maps, of_readings

import gradood
from gradood.errors import GradoodError
from gradood.metrics import auroc


def measured(network: Network) -> dict[str, dict[str, float]]:
    """AUROC in percent by method and set."""
    found: dict[str, dict[str, float]] = {}
    for method in (entry.name for entry in gradood.methods()):
        try:
            if needs_maps(network, method):
                continue
            monitor = gradood.Monitor(network.model, [method], progress=False).fit(network.fit)
            known = monitor.score(network.test)[method]
            scores = {name: monitor.score(x)[method] for name, x in network.outliers.items()}
        except GradoodError as error:
            print(f"{network.name}: {method} left out: {error}")
            continue
        found[method] = {name: round(100 * auroc(known, s), 2) for name, s in scores.items()}
    return found


def main() -> None:
    """Write one record a network."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs/results/kinds"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    for folder in options.folders:
        network = of_readings(folder)
        record = {
            "fit": len(network.fit[0][0]),
            "test": len(network.test),
            "unknown": {name: len(x) for name, x in network.outliers.items()},
            "auroc": measured(network),
        }
        (options.out / f"{network.name}.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
