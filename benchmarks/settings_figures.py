"""AUROC of every method with options, at all of its settings, on one network's images.

    python benchmarks/settings_figures.py NETWORK --work FOLDER --out NETWORK.json
    PYTHONPATH=OTHER/src python benchmarks/settings_figures.py (the same) --defaults

NETWORK is one of benchmarks/five_networks.py, whose docstring says where its weights come from.
Methods of features and logits run on the last layer, whose inputs are computed once from the same
images. `--defaults` runs the default alone, also with an earlier version of gradood. Methods whose
papers fit on data that the network was not trained on do so, if the version knows of it. The file
is written after each method; a run that was interrupted goes on after the last. `--inputs` keeps
the images in a file, so that two versions that read rows in another order have the same. Pages are
made of such files by benchmarks/settings_table.py and benchmarks/audit_table.py.
"""

import argparse
import json
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from five_networks import NETWORKS, SHARED, Labeled, Sample, opened
from settings_grids import grid, published
from torch import Tensor, nn

import gradood
from gradood.metrics import auroc
from gradood.registry import create, detector_class

BATCH = 50
HEAD = {"features", "logits", "head", "labels", "labels or predictions", "predictions"}
CHOSEN = ("percentile", "clip", "eta_alpha", "eta_beta", "p_min", "p_max", "k", "alpha", "beta")
ZERO_SHOT = ("mcm", "gl-mcm", "neg-label")
HELD_OUT = ("temperature-scaling", "kl-matching")


@dataclass(frozen=True)
class Subject:
    """What detectors are run on: a network with images, or its last layer with their features."""

    model: nn.Module
    preprocess: Mapping[str, Any] | None
    fit: Labeled
    held: Labeled
    test: Tensor
    outliers: Mapping[str, Tensor]


def last_layer(sample: Sample) -> Subject:
    """The head of a network, on what it takes for the sample's images."""
    head = [m for m in sample.model.modules() if isinstance(m, nn.Linear)][-1]
    seen: list[Tensor] = []
    handle = head.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach()))

    def features(x: Tensor) -> Tensor:
        seen.clear()
        with torch.no_grad():
            for part in x.split(BATCH):
                sample.model(part)
        return torch.cat(seen)

    found = Subject(
        nn.Sequential(nn.Identity(), head).eval(),
        None,
        (features(sample.fit[0]), sample.fit[1]),
        (features(sample.held[0]), sample.held[1]),
        features(sample.test),
        {name: features(x) for name, x in sample.outliers.items()},
    )
    handle.remove()
    return found


def with_inputs(sample: Sample, file: Path) -> Sample:
    """A sample with the images that a file holds; the file is written where there is none."""
    names = ("fit", "held", "test", "outliers")
    if not file.exists():
        torch.save({name: getattr(sample, name) for name in names}, file)
    return replace(sample, **torch.load(file, weights_only=True))


def settings(method: str, network: str, defaults: bool) -> dict[str, Any]:
    """Detectors by the words of their setting; the automatic and the published one come first."""
    kind = detector_class(method)
    found = {"auto": create(method)}
    if defaults:
        return found
    options = published(method, kind.published, network)
    found["published"] = create(method, **options)
    for tried in grid(method, network):
        try:
            detector = create(method, **tried)
        except gradood.errors.GradoodError:
            continue  # Options that contradict, such as p_min above p_max.
        found[shown(detector)] = detector
    return found


def shown(detector: Any) -> str:
    """The options that are not the defaults."""
    return repr(detector).partition("(")[2].removesuffix(")") or "defaults"


def chosen(state: Mapping[str, Tensor]) -> str:
    """What an automatic setting came to, as far as the state says."""
    scalars = {key: value for key, value in state.items() if key in CHOSEN and value.ndim == 0}
    return ", ".join(f"{key}={float(value):.3g}" for key, value in scalars.items())


def measured(
    subject: Subject, detectors: Mapping[str, Any], *, held: bool = False
) -> dict[str, Any]:
    """AUROC in percent by setting and set, and what each state says that was chosen.

    Args:
        subject: what to run on.
        detectors: by the words of their setting.
        held: fit on images that the network was not trained on.

    Raises:
        GradoodError: the method does not run there.
    """
    model, given = subject.model, subject.held if held else subject.fit
    batches = list(zip(given[0].split(BATCH), given[1].split(BATCH), strict=True))
    preprocess: Any = subject.preprocess
    monitor = gradood.Monitor(model, dict(detectors), preprocess=preprocess, progress=False)
    monitor.fit(batches)

    def scores(x: Tensor) -> Mapping[str, Tensor]:
        found = monitor.score(list(x.split(BATCH)))
        return {name: found[name] for name in detectors}

    known = scores(subject.test)
    found: dict[str, dict[str, float]] = {name: {} for name in detectors}
    for key, x in subject.outliers.items():
        unknown = scores(x)
        for name in detectors:
            found[name][key] = round(100 * auroc(known[name].numpy(), unknown[name].numpy()), 2)
    states = getattr(monitor, "states", {})
    return {"auroc": found, "chosen": {name: chosen(states.get(name, {})) for name in detectors}}


def refusals(subject: Subject, detectors: Mapping[str, Any], whole: bool) -> dict[str, str]:
    """Settings that the network or the fit data cannot bear, with the reason; `whole` fits each."""
    found: dict[str, str] = {}
    for name, detector in detectors.items():
        few = Subject(**{**vars(subject), "test": subject.test[:2], "outliers": {}})
        try:
            if whole:
                measured(few, {name: detector})
            else:
                gradood.Monitor(subject.model, detector, progress=False).bind(subject.fit[0][:8])
        except gradood.errors.GradoodError as error:
            found[name] = str(error)
    return found


def record_of(network: str, sample: Sample, head: Subject, method: str, defaults: bool) -> Any:
    """The record of one method: figures, words of its settings, and what was refused."""
    detectors = settings(method, network, defaults)
    on_head = set(gradood.registry.detector_class(method).needs) <= HEAD
    subject: Any = head if on_head else Subject(**vars(sample))
    start, refused = time.process_time(), {}
    held = getattr(detector_class(method), "held_out", False)
    try:
        found = measured(subject, detectors, held=held)
    except gradood.errors.GradoodError as error:
        refused = refusals(subject, detectors, on_head) if len(detectors) > 1 else {}
        if "auto" in refused or not refused:
            return {"refused": refused.get("auto", str(error))}
        detectors = {name: d for name, d in detectors.items() if name not in refused}
        found = measured(subject, detectors, held=held)
    found["chosen"] = found["chosen"]["auto"]
    words = {name: shown(detectors[name]) for name in ("auto", "published") if name in detectors}
    extra = {"refused settings": refused} if refused else {}
    seconds = round(time.process_time() - start, 1)
    return {"on": "features" if on_head else "images", "seconds": seconds, "words": words} | (
        found | extra
    )


def together(network: str, sample: Sample, methods: list[str], defaults: bool) -> dict[str, Any]:
    """Records of several methods that read the network itself, in one pass over the images."""
    subject = Subject(**vars(sample))
    records: dict[str, Any] = {}
    every: dict[str, Any] = {}
    words: dict[str, dict[str, str]] = {}
    for method in methods:
        detectors = settings(method, network, defaults)
        named = {name: detectors[name] for name in ("auto", "published") if name in detectors}
        refused = refusals(subject, named, whole=False)
        if "auto" in refused:
            records[method] = {"refused": refused["auto"]}
            continue
        words[method] = {name: shown(d) for name, d in named.items() if name not in refused}
        records[method] = {"refused settings": refused} if refused else {}
        every |= {f"{method} {name}": d for name, d in detectors.items() if name not in refused}
    start = time.process_time()
    found = measured(subject, every)
    seconds = round(time.process_time() - start, 1)
    for method in words:
        lead = f"{method} "
        figures = {
            name.removeprefix(lead): sets
            for name, sets in found["auroc"].items()
            if name.startswith(lead)
        }
        chosen_words = found["chosen"].get(f"{method} auto", "")
        records[method] |= {"on": "images", "seconds of all": seconds, "words": words[method]}
        records[method] |= {"auroc": figures, "chosen": chosen_words}
    return records


def methods_with_options() -> list[str]:
    """All but zero-shot ones that have options, or a part of data of their own; heads first."""
    names = [method.name for method in gradood.methods() if method.name not in ZERO_SHOT]
    some = [n for n in names if create(n).options() or n in HELD_OUT]
    return sorted(some, key=lambda n: not set(detector_class(n).needs) <= HEAD)


def main() -> None:
    """Run the methods, and write the record after each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("network", choices=NETWORKS)
    parser.add_argument("--work", type=Path, default=SHARED / "weights")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--methods", help="names with commas; all that have options")
    parser.add_argument("--together", action="store_true", help="one pass for those of images")
    parser.add_argument("--inputs", type=Path, help="file that keeps the images")
    parser.add_argument("--defaults", action="store_true", help="the default setting alone")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    record: dict[str, Any] = {"network": given.network, "sizes": vars(NETWORKS[given.network])}
    record |= {"version": gradood.__version__, "methods": {}}
    if given.out.exists():
        record = json.loads(given.out.read_text())
    sample = opened(given.network, given.work)
    if given.inputs:
        sample = with_inputs(sample, given.inputs)
    head = last_layer(sample)
    names = given.methods.split(",") if given.methods else methods_with_options()
    names = [name for name in names if name not in record["methods"]]
    of_network = [name for name in names if not set(detector_class(name).needs) <= HEAD]
    alone = [name for name in names if not (given.together and name in of_network)]
    for method in alone:
        entry = record_of(given.network, sample, head, method, given.defaults)
        record["methods"][method] = entry
        given.out.write_text(json.dumps(record, indent=1) + "\n")
        print(given.network, method, entry.get("seconds", entry.get("refused")), flush=True)
    if given.together and of_network:
        record["methods"] |= together(given.network, sample, of_network, given.defaults)
        given.out.write_text(json.dumps(record, indent=1) + "\n")
        print(given.network, *of_network, flush=True)


if __name__ == "__main__":
    main()
