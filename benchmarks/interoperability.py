"""Every method on models of timm, torchvision and Transformers, with random weights.

    python benchmarks/interoperability.py [--only timm:resnet18,…] [--out docs/results/X.md]

Needs timm, torchvision and transformers. Nothing is downloaded: the weights are random, and a
pass over noise in training mode gives BatchNorm its statistics. For each model and method: does
it fit and give finite scores, the same after saving and loading, with which caution, or why it
refuses. A score that is not finite, an error that is not gradood's own, or a model left changed is
a failure, and ends in exit code 1.
"""

import argparse
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import gradood
from gradood.bench.folder import provenance
from gradood.errors import GradoodError, GradoodWarning
from gradood.models import build
from gradood.registry import create

CLASSES, FIT, SCORED, BATCH = 10, 64, 16, 16
METHODS = tuple(method.name for method in gradood.methods())
OPTIONS: dict[str, dict[str, Any]] = {
    "open-max": {"samples": "all"},
    "residual": {"dimension": 16},
    "vim": {"dimension": 16},
}
"""Where the default asks for more fit images than there are, or for correctly classified ones."""
OK, CAUTION, REFUSED, FAILED = "✓", "c", "–", "✗"


@dataclass(frozen=True)
class Case:
    """One model: its name for `gradood.models.build`, and its input's side."""

    spec: str
    side: int
    make: Callable[[], nn.Module]


@dataclass
class Outcome:
    """What came of one model: a sign per method, and the sentences behind them."""

    head: str = ""
    signs: dict[str, str] = field(default_factory=dict)
    said: dict[str, list[str]] = field(default_factory=dict)

    def note(self, method: str, sign: str, text: str) -> None:
        """Give a method its sign, and say why."""
        self.signs[method] = sign
        self.said.setdefault(text, []).append(method)


def cases(folder: Path) -> Iterable[Case]:
    """The models, small inputs where they are allowed."""
    for name, side in (
        ("resnet18", 64),
        ("resnet50", 64),
        ("convnext_atto", 64),
        ("convnext_tiny", 64),
        ("vit_tiny_patch16_224", 224),
        ("swin_tiny_patch4_window7_224", 224),
        ("efficientnet_b0", 64),
        ("mobilenetv3_small_100", 64),
        ("densenet121", 64),
    ):
        yield _named(f"timm:{name}", side)
    for name, side in (("resnet18", 64), ("mobilenet_v2", 64), ("vit_b_16", 224)):
        yield _named(f"torchvision:{name}", side)
    for name in ("resnet", "vit"):
        spec = f"hf:{folder / name}"
        yield Case(f"hf:{name}", 64, lambda spec=spec: build(spec))


def _named(spec: str, side: int) -> Case:
    return Case(spec, side, lambda: build(spec, num_classes=CLASSES))


def save_hugging_face(folder: Path) -> None:
    """Two tiny classifiers with random weights, as local folders."""
    import transformers

    labels = {"num_labels": CLASSES}
    resnet = transformers.ResNetConfig(
        embedding_size=16, hidden_sizes=[16, 32, 64], depths=[1, 1, 1], layer_type="basic", **labels
    )
    vit = transformers.ViTConfig(
        hidden_size=48,
        num_hidden_layers=6,
        num_attention_heads=3,
        intermediate_size=96,
        image_size=64,
        patch_size=16,
        **labels,
    )
    transformers.ResNetForImageClassification(resnet).save_pretrained(folder / "resnet")
    transformers.ViTForImageClassification(vit).save_pretrained(folder / "vit")


def examine(case: Case) -> Outcome:
    """Inspect one model, then fit and score every method that can read it."""
    torch.manual_seed(0)
    model = case.make()
    fit, scored = noise(FIT, case.side, seed=1), noise(SCORED, case.side, seed=2)
    settle(model, fit)
    wake(model, scored)
    labels = torch.arange(FIT) % CLASSES
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.inference_mode():
        logits = logits_of(model, scored)
    outcome = Outcome()
    try:
        found = gradood.inspect(model, scored)
    except GradoodError as error:
        for method in METHODS:
            outcome.note(method, REFUSED, str(error))
        return outcome
    outcome.head = found.head
    for use in found.uses:
        if not use.works:
            outcome.note(use.method, REFUSED, "; ".join(use.notes))
    working = [use.method for use in found.uses if use.works]
    loader = list(zip(fit.split(BATCH), labels.split(BATCH), strict=True))
    with warnings.catch_warnings():
        # The cautions are those that the inspection named.
        warnings.simplefilter("ignore", GradoodWarning)
        scores = together(model, working, loader, scored, outcome)
    for use in found.uses:
        if use.method in scores:
            judge(outcome, use.method, scores[use.method], use.caveats)
    left = all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    with torch.inference_mode():
        if not left or not torch.equal(logits, logits_of(model, scored)):
            outcome.note("model", FAILED, "the model was changed")
    return outcome


def together(
    model: nn.Module, methods: list[str], loader: list, x: Tensor, outcome: Outcome
) -> dict[str, Tensor]:
    """Scores of all methods from one monitor; halves where one fails, which is then noted alone."""
    if not methods:
        return {}
    try:
        detectors = [create(name, **OPTIONS.get(name, {})) for name in methods]
        monitor = gradood.Monitor(model, detectors, progress=False).fit(loader)
        scores = monitor.score(x)
        loaded = saved_and_loaded(monitor, model).score(x)
        differ = [name for name in scores if not torch.equal(scores[name], loaded[name])]
        for name in differ:
            outcome.note(name, FAILED, "scores differ after saving and loading")
        return {name: found for name, found in scores.items() if name not in differ}
    except Exception as error:
        if len(methods) > 1:
            half = len(methods) // 2
            parts = (methods[:half], methods[half:])
            alone = [together(model, part, loader, x, outcome) for part in parts]
            return {name: scores for part in alone for name, scores in part.items()}
        typed = isinstance(error, GradoodError)
        text = str(error) if typed else f"{type(error).__name__}: {error}"
        outcome.note(methods[0], REFUSED if typed else FAILED, text)
        return {}


def saved_and_loaded(monitor: gradood.Monitor, model: nn.Module) -> gradood.Monitor:
    """The monitor from a file of its own."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "detector.safetensors"
        monitor.save(file)
        return gradood.load(file, model)


def judge(outcome: Outcome, method: str, scores: Tensor, caveats: tuple[str, ...]) -> None:
    """Finite scores that differ between inputs are well."""
    if not bool(scores.isfinite().all()):
        outcome.note(method, FAILED, f"scores are not finite: {scores.tolist()[:3]}")
    elif caveats:
        outcome.note(method, CAUTION, "; ".join(caveats))
    elif float(scores.std() / scores.abs().mean().clamp_min(1e-12)) < 1e-4:
        outcome.note(method, CAUTION, f"scores are all but equal: {scores.tolist()[:3]}")
    else:
        outcome.signs[method] = OK


def noise(count: int, side: int, *, seed: int) -> Tensor:
    """Smooth random images, normalized."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(count, 3, 8, 8, generator=generator)
    fine = torch.randn(count, 3, side, side, generator=generator)
    return nn.functional.interpolate(coarse, (side, side), mode="bicubic") + 0.2 * fine


def settle(model: nn.Module, x: Tensor) -> None:
    """Give BatchNorm the statistics of these inputs, and leave the model in evaluation mode."""
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # A plain average over all batches.
    if norms:
        model.train()
        with torch.no_grad():
            for batch in x.split(32):
                model(batch)
    for norm, momentum in zip(norms, before, strict=True):
        norm.momentum = momentum
    model.eval()


def wake(model: nn.Module, x: Tensor) -> None:
    """Make a fresh model more like a trained one.

    Fresh heads are zero or next to nothing; here logits get the size that trained models give. A
    fresh LayerNorm has one scale for all channels, so that the sum of its outputs is a constant.
    """
    for module in model.modules():
        if isinstance(module, nn.Linear) and not bool(module.weight.any()):
            nn.init.normal_(module.weight, std=module.in_features**-0.5)
        if isinstance(module, nn.LayerNorm):
            nn.init.uniform_(module.weight, 0.5, 1.5)
    *_, head = (module for module in model.modules() if isinstance(module, nn.Linear))
    assert head.out_features == CLASSES
    with torch.no_grad():
        head.weight.mul_(3.0 / logits_of(model, x).std(0).mean())


def logits_of(model: nn.Module, x: Tensor) -> Tensor:
    """Logits, also of models that return them in an object."""
    out = model(x)
    return getattr(out, "logits", out)


def markdown(outcomes: dict[str, Outcome], command: str) -> str:
    """The page of results."""
    import timm
    import torchvision
    import transformers

    made = provenance()
    versions = {
        **made["versions"],
        "timm": timm.__version__,
        "torchvision": torchvision.__version__,
        "transformers": transformers.__version__,
    }
    options = "; ".join(
        f"{name} with {', '.join(f'{k}={v!r}' for k, v in given.items())}"
        for name, given in OPTIONS.items()
        if name in METHODS
    )
    lines = [
        "# Interoperability",
        "",
        "Every method on models of timm, torchvision and Transformers with random weights: "
        f"inspected, fitted on {FIT} and scored on {SCORED} images of noise, in one monitor, "
        "before and after saving it. "
        "BatchNorm got its statistics from a pass over them; nothing is downloaded. This says what "
        f"runs, not how well it detects. Options are the defaults, but {options}.",
        "",
        f"{', '.join(f'{name} {version}' for name, version in versions.items())}; "
        f"{made['date'][:10]}, commit {(made['commit'] or 'unknown')[:12]}. Made with",
        "",
        f"    {command}",
        "",
        f"{OK} finite scores; {CAUTION} finite scores, with a caution that is named; "
        f"{REFUSED} refused, with the reason; {FAILED} a fault.",
        "",
        f"| method | {' | '.join(_short(spec) for spec in outcomes)} |",
        f"|---|{':-:|' * len(outcomes)}",
    ]
    for method in METHODS:
        signs = (outcome.signs.get(method, FAILED) for outcome in outcomes.values())
        lines.append(f"| `{method}` | {' | '.join(signs)} |")
    wrong = [spec for spec, outcome in outcomes.items() if outcome.signs.get("model") == FAILED]
    if wrong:
        lines += ["", f"Changed by use: {', '.join(wrong)}."]
    lines += ["", "## Heads and reasons", ""]
    for spec, outcome in outcomes.items():
        lines.append(f"- **{spec}**: {outcome.head}")
        lines += [f"  - {', '.join(names)}: {text}" for text, names in outcome.said.items()]
    return "\n".join(lines) + "\n"


def _short(spec: str) -> str:
    """A model's name that a column can be headed with."""
    library, name = spec.split(":", 1)
    return f"{library} {name.split('_patch')[0].replace('_', ' ')}"


def main() -> int:
    """Run all models and print the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", help="models, separated by commas")
    parser.add_argument("--out", type=Path, help="write the page there instead of printing it")
    given = parser.parse_args()
    only = given.only.split(",") if given.only else None
    os.environ["HF_HUB_OFFLINE"] = "1"
    outcomes: dict[str, Outcome] = {}
    with tempfile.TemporaryDirectory() as folder:
        save_hugging_face(Path(folder))
        for case in cases(Path(folder)):
            if only is None or case.spec in only:
                outcomes[case.spec] = examine(case)
                print(case.spec, outcomes[case.spec].signs, file=sys.stderr, flush=True)
    page = markdown(outcomes, f"python {' '.join(sys.argv)}")
    if given.out is None:
        print(page)
    else:
        given.out.write_text(page, encoding="utf-8")
    return int(any(FAILED in outcome.signs.values() for outcome in outcomes.values()))


if __name__ == "__main__":
    sys.exit(main())
