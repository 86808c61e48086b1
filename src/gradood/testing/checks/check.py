"""A named check, and where it applies."""

from collections.abc import Callable
from dataclasses import dataclass

from gradood.testing.case import Case

__all__ = ["Check", "Collection"]


@dataclass(frozen=True, slots=True)
class Check:
    """One property that every detector must have.

    Attributes:
        name: kebab-case.
        run: raises AssertionError where a case lacks it.
        once: whether it is about the detector alone, so that one network is enough.
        learners: whether it is about detectors that learn only.
        refused: whether it also runs where the detector refuses the network.
    """

    name: str
    run: Callable[[Case], None]
    once: bool = False
    learners: bool = False
    refused: bool = False

    @property
    def summary(self) -> str:
        """One line on what is checked."""
        return (self.run.__doc__ or "").strip().splitlines()[0]


class Collection(dict[str, Check]):
    """Checks by name, in the order they are written; fills itself as a decorator."""

    def check(
        self, *, once: bool = False, learners: bool = False, refused: bool = False
    ) -> Callable[[Callable[[Case], None]], Callable[[Case], None]]:
        """Add a function under its own name, underscores as hyphens."""

        def add(run: Callable[[Case], None]) -> Callable[[Case], None]:
            name = run.__name__.replace("_", "-")
            assert name not in self, f"two checks are called {name!r}"
            self[name] = Check(name, run, once, learners, refused)
            return run

        return add
