"""Plain attributes of a model's modules, against what they were."""

from collections import Counter
from collections.abc import Callable, Mapping
from operator import itemgetter
from typing import Any, final

from torch import nn

__all__ = ["Changes", "PlainSettings", "same_changes"]

_PLAIN = (bool, int, float, str, type(None))
_COUNTS = 8
"""An attribute that changed so often without effect is taken for a count, such as of calls."""
Changes = Mapping[tuple[str, str], tuple[Any, Any]]
"""Module and name of an attribute → what it was, and is; None of one that is gone."""


@final
class PlainSettings:
    """Numbers, texts and switches that a model's modules hold as attributes.

    Such as a temperature, or the ``eps`` of a layer. Of torch's own layers only real numbers are
    looked at: their sizes are those of their tensors.

    Args:
        model: the unwrapped model.

    Cost:
        Of `hold`: some 0.1 microseconds per module that has any.
    """

    def __init__(self, model: nn.Module) -> None:
        self._values: dict[tuple[str, str], Any] = {}
        self._accepted: dict[tuple[str, str], Any] = {}
        self._counts: Counter[tuple[str, str]] = Counter()
        self._forgotten: set[tuple[str, str]] = set()
        self.renew(model)

    def renew(self, model: nn.Module) -> None:
        """Look at the modules that a model has now; values stay those of the beginning.

        Args:
            model: the unwrapped model.
        """
        self._held: list[tuple[str, tuple[str, ...], Mapping[str, Any]]] = []
        for place, module in model.named_modules():
            held = vars(module)
            names = tuple(n for n in _names(module) if (place, n) not in self._forgotten)
            for name in names:
                self._values.setdefault((place, name), held[name])
                self._accepted.setdefault((place, name), held[name])
            if names:
                self._held.append((place, names, held))
        self._noted()

    def hold(self) -> bool:
        """Whether all are what they were, or what was accepted since."""
        try:
            return [read(held) for read, held in self._reads] == self._before
        except Exception:  # One is gone, or is an array now: to compare is the user's code.
            return False

    def changed(self) -> Changes:
        """Those that differ from what they were and from what was accepted since.

        Cost: some microseconds per module.
        """
        return {
            (place, name): (self._values[place, name], held.get(name))
            for place, names, held in self._held
            for name in names
            if name not in held or not _same(held[name], self._accepted[place, name])
        }

    def accept(self, changes: Changes) -> None:
        """Take values that have no effect for as good as those that were.

        Another value is a change again. What is gone or no plain value now, and what has changed
        too often, is looked at no more.
        """
        for key, (_, value) in changes.items():
            self._counts[key] += 1
            if type(value) in _PLAIN and value is not None and self._counts[key] < _COUNTS:
                self._accepted[key] = value
            else:
                self._forgotten.add(key)
        held, self._held = self._held, []
        for place, own, values in held:
            kept = tuple(name for name in own if (place, name) not in self._forgotten)
            if kept:
                self._held.append((place, kept, values))
        self._noted()

    def _noted(self) -> None:
        self._reads: list[tuple[Callable[[Any], Any], Mapping[str, Any]]] = [
            (itemgetter(*names), held) for _, names, held in self._held
        ]
        values = ([self._accepted[place, n] for n in names] for place, names, _ in self._held)
        self._before = [tuple(row) if len(row) > 1 else row[0] for row in values]


def same_changes(a: Changes, b: Changes) -> bool:
    """Whether the same attributes changed to the same values."""
    return a.keys() == b.keys() and all(_same(a[key][1], b[key][1]) for key in a)


def _same(a: Any, b: Any) -> bool:
    """Whether two values are one object, or plain, of one type and equal."""
    if a is b:
        return True
    return type(a) is type(b) and type(a) in _PLAIN and (a == b or (a != a and b != b))


def _names(module: nn.Module) -> list[str]:
    """Attributes to look at."""
    kinds = (float,) if type(module).__module__.startswith("torch.") else _PLAIN
    held = vars(module).items()
    return [k for k, v in held if k != "training" and not k.startswith("_") and type(v) in kinds]
