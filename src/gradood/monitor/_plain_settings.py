"""Plain attributes of a model's modules, against what they were."""

from collections.abc import Callable, Mapping
from operator import itemgetter
from typing import Any, final

from torch import nn

__all__ = ["PlainSettings"]

_PLAIN = (bool, int, float, str, type(None))


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
            if names:
                self._held.append((place, names, held))
        self._noted()

    def hold(self) -> bool:
        """Whether all are what they were."""
        try:
            return [read(held) for read, held in self._reads] == self._before
        except KeyError:  # An attribute is gone.
            return False

    def changed(self) -> dict[tuple[str, str], tuple[Any, Any]]:
        """Module and name of those that differ → what they were, and are; None of one that is gone.

        Cost: some microseconds per module.
        """
        return {
            (place, name): (self._values[place, name], held.get(name))
            for place, names, held in self._held
            for name in names
            if name not in held or held[name] != self._values[place, name]
        }

    def forget(self, names: Mapping[tuple[str, str], Any]) -> None:
        """Look no more at some, such as a count of calls.

        Args:
            names: their modules and names.
        """
        self._forgotten.update(names)
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
        values = ([self._values[place, n] for n in names] for place, names, _ in self._held)
        self._before = [tuple(row) if len(row) > 1 else row[0] for row in values]


def _names(module: nn.Module) -> list[str]:
    """Attributes to look at."""
    kinds = (float,) if type(module).__module__.startswith("torch.") else _PLAIN
    held = vars(module).items()
    return [k for k, v in held if k != "training" and not k.startswith("_") and type(v) in kinds]
