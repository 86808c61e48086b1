"""Kinds of classifier × families of methods: works, refused, warned, each held against formulas.

    python benchmarks/models.py [--write docs/results/models.md] [--json F]

Random weights, 4 classes. A score that is given must be that of a naive formula, computed from the
model's own forward and from hooks of torch; a refusal must be one of this library's errors.
"""

import argparse
import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from kinds import KINDS, Kind
from torch import Tensor, nn

import gradood
from gradood.errors import GradoodError, MeaninglessScoreWarning

N_FIT, N, N_KNOWN = 64, 12, 200
GUARD = "guard"
TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 1e-1}


def two_classes(logits: Tensor) -> Tensor:
    """Logits, and of one output z those of a sigmoid: 0 and z."""
    return torch.cat([0 * logits, logits], 1) if logits.shape[1] == 1 else logits


class Naive:
    """Formulas on a model's own forward: nothing of the library is used.

    Args:
        kind: of the model.
        model: in evaluation mode.
        x: (n, …) inputs to score.
        fit: (m, …) inputs to learn from.
    """

    def __init__(self, kind: Kind, model: nn.Module, x: Tensor, fit: Tensor) -> None:
        self.kind, self.x, self.fit = kind, x, fit
        self.model = getattr(model, "_orig_mod", model)  # What is compiled takes no hooks.

    def logits(self, x: Tensor) -> Tensor:
        """(n, classes), float64; of one output, those of the two classes that it stands for."""
        with torch.no_grad():
            return two_classes(self.kind.logits(self.model(x)).flatten(1).double())

    def features(self, x: Tensor) -> Tensor:
        """(n, width), what the head takes, float64."""
        if self.kind.head is None:
            raise LookupError("this kind has no linear head")
        seen: list[Tensor] = []
        head = self.model.get_submodule(self.kind.head)
        handle = head.register_forward_pre_hook(lambda m, a: seen.append(a[0].detach().clone()))
        self.logits(x)
        handle.remove()
        return seen[-1].flatten(1).double()

    def energy(self) -> Tensor:
        """−log Σ exp z."""
        return -self.logits(self.x).exp().sum(1).log()

    def msp(self) -> Tensor:
        """−max softmax."""
        return -self.logits(self.x).softmax(1).amax(1)

    def knn(self) -> Tensor:
        """Distance to the third nearest direction of the fit."""
        bank, own = (
            h / h.norm(dim=1, keepdim=True) for h in map(self.features, (self.fit, self.x))
        )
        return (own[:, None] - bank[None]).norm(dim=2).sort(1).values[:, 2]

    def gradnorm(self) -> Tensor:
        """Largest part of autograd's gradient on the head's weight, row by row."""
        z, h = self.logits(self.x), self.features(self.x)
        rows = []
        for logit, feature in zip(z, h, strict=True):
            own = logit.clone().requires_grad_()
            loss = -own.log_softmax(0).mean()
            (gradient,) = torch.autograd.grad(loss, own)
            rows.append(-(gradient[:, None] * feature[None]).abs().sum())
        return torch.stack(rows)

    def odin(self) -> Tensor:
        """−max softmax(z / T) after a step, with autograd on the model itself."""
        x = self.x.clone().requires_grad_()
        odin = gradood.ODIN()
        z = two_classes(self.kind.logits(self.model(x)).float().flatten(1))
        ((z / odin.temperature).log_softmax(1).amax(1).sum()).backward()
        assert x.grad is not None
        step = (x.detach() + odin.noise * x.grad.sign()).to(self.x.dtype)
        self.model.zero_grad(set_to_none=True)
        return -(self.logits(step) / odin.temperature).softmax(1).amax(1)


FAMILIES: dict[str, tuple[str | gradood.Detector, Callable[[Naive], Tensor] | None]] = {
    "logits": ("energy", Naive.energy),
    "softmax": ("msp", Naive.msp),
    "features": (gradood.KNN(k=3), Naive.knn),
    "head gradient": ("gradnorm", Naive.gradnorm),
    "input gradient": ("odin", Naive.odin),
    "layer gradients": ("gaia-z", None),
    "layers": ("gram", None),
}
"""Family → its method, and the formula; without one, rows alone must score as in their batch."""


def outcome(kind: Kind, family: str) -> tuple[str, str]:
    """How one method ends on one kind: a word, and what was said.

    Args:
        kind: of the model.
        family: of methods.
    """
    detector, formula = FAMILIES[family]
    generator = torch.Generator().manual_seed(1)
    torch.manual_seed(0)
    model = kind.make().eval()
    fit, x = kind.inputs(N_FIT, generator), kind.inputs(N, generator)
    said: list[warnings.WarningMessage]
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            monitor = gradood.Monitor(model, detector, **kind.options)
            classes = monitor.bind(x).network.classes
            monitor.fit([(fit, torch.arange(N_FIT) % classes)])
            scores = monitor.score(x)
            alone = torch.cat([monitor.score(row[None]) for row in x])
    except GradoodError as error:
        return "refused", f"{type(error).__name__}: {error}"
    except Exception as error:
        return "UNTYPED", f"{type(error).__name__}: {error}"
    told = [str(w.message) for w in said if issubclass(w.category, MeaninglessScoreWarning)]
    tolerance = TOLERANCE[x.dtype if x.is_floating_point() else torch.float32]
    expected = alone
    if formula is not None:
        try:
            expected = formula(Naive(kind, model, x, fit))
        except LookupError:
            return "WRONG", "scored without a head"
    scale = float(expected.abs().max().clamp_min(1e-3))
    gap = float((scores - expected).abs().max()) / scale
    # A step by the sign of a gradient jumps where the gradient is rounded to the other side.
    if gap > tolerance * (10 if family in ("input gradient", "layer gradients") else 1):
        return "WRONG", f"off by {gap:.1e} of the largest score"
    return ("warned", "; ".join(told)) if told else ("works", "")


def guarded(kind: Kind) -> tuple[str, str]:
    """How `gradood.guard` ends on one kind with its default, and what was said.

    It works if its labels are the model's own or -1, and no more known inputs are rejected than
    chance allows.

    Args:
        kind: of the model.
    """
    generator = torch.Generator().manual_seed(2)
    torch.manual_seed(0)
    model = kind.make().eval()
    known, x = kind.inputs(N_KNOWN, generator), kind.inputs(N_KNOWN, generator)
    said: list[warnings.WarningMessage]
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            guard = gradood.guard(model, known, **kind.options)
            labels, result = guard(x), guard.predict(x)
    except GradoodError as error:
        return "refused", f"{type(error).__name__}: {error}"
    except Exception as error:
        return "UNTYPED", f"{type(error).__name__}: {error}"
    with torch.no_grad():
        own = two_classes(kind.logits(model(x)).flatten(1))
    assert result.logits is not None
    near = (own.double() - result.logits).abs().max() <= 0.02 * own.double().abs().max()
    kept = labels >= 0
    same = (own.argmax(1) == labels)[kept].double().mean() > 0.98
    rejected = float((~kept).double().mean())
    if not (bool(near) and bool(same)) or rejected > 0.2:
        return "WRONG", f"{rejected:.0%} rejected; labels are the model's: {bool(same)}"
    told = [str(w.message) for w in said if issubclass(w.category, MeaninglessScoreWarning)]
    names = "by " + ", ".join(guard.detectors)
    return ("warned", f"{'; '.join(told)} ({names})") if told else ("works", names)


def main() -> int:
    """The table; exit code 1 if a line is silently wrong, untyped, or not as expected."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    torch.set_num_threads(1)
    table: dict[str, dict[str, tuple[str, str]]] = {}
    wrong: list[str] = []
    for kind in KINDS:
        if options.only not in kind.name:
            continue
        table[kind.name] = {family: outcome(kind, family) for family in FAMILIES}
        table[kind.name][GUARD] = guarded(kind)
        words = {family: word for family, (word, _) in table[kind.name].items()}
        bad = [f for f, word in words.items() if word in ("WRONG", "UNTYPED")]
        if words["logits"] != kind.expected:
            bad.append(f"logits {words['logits']}, expected {kind.expected}")
        wrong += [f"{kind.name}: {b} {table[kind.name].get(b, ('', ''))[1]}" for b in bad]
        print(f"{kind.name:40}", " ".join(f"{word:8}" for word in words.values()), flush=True)
    for line in wrong:
        print("!!", line)
    if options.json:
        options.json.write_text(json.dumps(table, indent=1))
    if options.write:
        options.write.write_text(_page(table, wrong))
    return bool(wrong)


def _page(table: dict[str, dict[str, tuple[str, str]]], wrong: list[str]) -> str:
    notes: dict[str, int] = {}
    rows = []
    for name, cells in table.items():
        shown = []
        for word, text in cells.values():
            number = notes.setdefault(_short(text), len(notes) + 1) if text else None
            shown.append(word if number is None else f"{word} [{number}]")
        rows.append(f"| {name} | {' | '.join(shown)} |")
    methods = [d if isinstance(d, str) else d.name for d, _ in FAMILIES.values()]
    titles = [f"{f}: {m}" for f, m in zip(FAMILIES, methods, strict=True)]
    titles.append("`gradood.guard(model, known)`")
    return "\n".join([
        "# Kinds of model",
        "",
        f"`python benchmarks/models.py --write docs/results/models.md`: {len(table)} kinds of "
        "classifier with random weights (plain torch, and Transformers), one method a family.",
        "A score *works* if it is that of a naive formula computed from the model's own forward "
        "(float32: to 1e-4 of the largest), for layers if each row scores alone as in its batch; "
        f"*warned*: the same, with a warning. Silently wrong or untyped: {len(wrong)}.",
        "",
        "The guard is made of 200 inputs without labels. It *works* if what it gives is -1 or the "
        "model's own label, and at most a fifth of new inputs of that kind is rejected.",
        "",
        f"| kind | {' | '.join(titles)} |",
        f"|---|{'---|' * len(titles)}",
        *rows,
        "",
        *(f"{number}. {text}" for text, number in notes.items()),
        "",
    ])  # fmt: skip


def _short(text: str) -> str:
    return text if len(text) < 260 else f"{text[:260]}…"


if __name__ == "__main__":
    sys.exit(main())
