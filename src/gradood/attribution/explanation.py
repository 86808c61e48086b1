"""Why one sample was decided on as it was, as text and as plain values."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from gradood._io.arguments import whole
from gradood.attribution.contribution import Contribution
from gradood.attribution.known import Neighbor, Typicality

__all__ = ["Explanation"]


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Explanation:
    """Of one sample.

    Attributes:
        place: of the sample in what was given.
        label: the class that the model takes it for; −1 where there is no answer.
        is_ood: whether it was called out-of-distribution.
        p_values: by detector, and ``"combined"`` where there is one.
        scores: likewise.
        contributions: detector → those to its score, of this one row.
        unexplained: detector → why its score has none.
        typicality: of the sample in its class; None where nothing is known of that class.
        neighbors: the nearest known samples; None where no ids were kept.
        notes: what was left out, and how to have it.
        classes: whether the label is a class; not where the output has another meaning.
        features: (width,) of the sample; None where there is no answer.

    ``str(explanation)`` is a text, `lines` its lines, `to_dict` plain values.
    """

    place: int
    label: int
    is_ood: bool
    p_values: Mapping[str, float]
    scores: Mapping[str, float]
    contributions: Mapping[str, Contribution]
    unexplained: Mapping[str, str]
    typicality: Typicality | None = None
    neighbors: tuple[Neighbor, ...] | None = None
    notes: tuple[str, ...] = ()
    classes: bool = True
    features: Tensor | None = None

    def __str__(self) -> str:
        return self.text()

    def text(self, units: int = 5) -> str:
        """In words.

        Args:
            units: how many of the leading ones are named.

        Raises:
            ConfigError: it is no number of units.
        """
        return "\n".join(self.lines(units))

    def lines(self, units: int = 5) -> list[str]:
        """The lines of the text: the decision, the class, each score, the nearest known samples.

        Args:
            units: how many of the leading ones are named.

        Raises:
            ConfigError: it is no number of units.
        """
        units = whole(units, "units")
        verdict = "out-of-distribution" if self.is_ood else "not out-of-distribution"
        by = ", ".join(f"{name} {p:.3g}" for name, p in self.p_values.items())
        lines = [f"Sample {self.place}: {verdict}; p-value of {by}.", self._class_text()]
        if self.label < 0:
            return lines
        lines += [_score_text(found, units) for found in self.contributions.values()]
        lines += [f"Not by units: {reason}" for reason in self.unexplained.values()]
        if self.neighbors is not None:
            of = {n: f"class {n.label}, " if self.classes else "" for n in self.neighbors}
            near = ", ".join(f"{n.id} ({of[n]}at {n.distance:.4g})" for n in self.neighbors)
            lines.append(f"Nearest known samples: {near}.")
        return [*lines, *self.notes]

    def to_dict(self, units: int = 5) -> dict[str, Any]:
        """Plain values, for JSON; None for numbers that are not finite.

        Args:
            units: how many of the leading ones are given.

        Raises:
            ConfigError: it is no number of units.
        """
        units = whole(units, "units")
        plain = {
            "place": self.place,
            "label": self.label,
            "is_ood": self.is_ood,
            "p_values": dict(self.p_values),
            "scores": dict(self.scores),
            "contributions": {n: _plain(c, units) for n, c in self.contributions.items()},
            "unexplained": dict(self.unexplained),
            "typicality": None if self.typicality is None else asdict(self.typicality),
            "neighbors": None if self.neighbors is None else [asdict(n) for n in self.neighbors],
            "notes": list(self.notes),
        }
        return _finite(plain)

    def _class_text(self) -> str:
        if self.label < 0:
            return "The model gave no answer: its input or output is not finite."
        found = self.typicality
        if not self.classes:
            if found is None:
                return "The output of the model is no class."
            return (
                f"{found.share:.1%} of the {found.samples} known samples lie as far from their "
                f"mean, {found.distance:.4g}, or farther."
            )
        if found is None:
            return f"It was taken for class {self.label}."
        return (
            f"It was taken for class {self.label}: {found.share:.1%} of the {found.samples} known "
            f"samples taken for it lie as far from their mean, {found.distance:.4g}, or farther."
        )


def _score_text(found: Contribution, count: int) -> str:
    score, reference = float(found.score[0]), float(found.reference[0])
    if not found.by_units:
        order = sorted(found.parts, key=lambda name: -abs(float(found.parts[name][0])))[:count]
        named = ", ".join(f"{name} ({float(found.parts[name][0]):+.3g})" for name in order)
        most = f" Most by {named}." if named else ""
        return f"{found.detector}: score {score:.4g}, the sum over layers.{most}"
    leading = found.leading(count)[0].tolist()
    how = "Most by units"
    if leading and float(found.units[0, leading[0]]) <= 0:
        leading = (-found.units[0]).topk(len(leading)).indices.tolist()
        how = "No unit raises it; it is lowered most by units"
    named = ", ".join(f"{unit} ({float(found.units[0, unit]):+.3g})" for unit in leading)
    most = f" {how} {named}." if leading else ""
    total = float(found.units[0].sum())
    moved = {name: float(part[0]) for name, part in found.parts.items()}
    worth = 1e-4 * abs(score - reference)
    parts = "".join(f"; {name} {part:+.3g}" for name, part in moved.items() if abs(part) > worth)
    return (
        f"{found.detector}: score {score:.4g} from a reference value of {reference:.4g}; units "
        f"together {total:+.4g}{parts}.{most}"
    )


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    return [_finite(each) for each in value] if isinstance(value, list) else value


def _plain(found: Contribution, count: int) -> dict[str, Any]:
    leading = found.leading(count)[0].tolist() if found.by_units else []
    classes = None
    if found.classes is not None:
        order = found.classes[0].abs().topk(min(count, found.classes.shape[1])).indices.tolist()
        classes = [{"class": c, "contribution": float(found.classes[0, c])} for c in order]
    return {
        "rule": found.rule,
        "score": float(found.score[0]),
        "reference": float(found.reference[0]),
        "units": [{"unit": u, "contribution": float(found.units[0, u])} for u in leading],
        "units_together": float(found.units[0].sum()),
        "classes": classes,
        "parts": {name: float(part[0]) for name, part in found.parts.items()},
        "gap": float(found.gap[0]),
    }
