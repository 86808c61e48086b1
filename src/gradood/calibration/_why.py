"""Results that can say why they are as they are, where they keep what that takes."""

from typing import Any, Literal, Protocol, TypeAlias, TypeVar

from torch import Tensor

from gradood.errors import NotFittedError

__all__ = ["Explained", "Reference", "Source", "source_of", "with_source"]

T = TypeVar("T", bound="Explained")

Reference: TypeAlias = Tensor | Literal["class", "mean"]
"""What contributions count from: features, or the mean of the known ones of the same class, or of
all."""


class Source(Protocol):
    """What explains results: the detectors that made them, with what they had learned by then."""

    def why(self, result: Any, place: int, reference: Reference) -> Any:
        """The explanation of one sample of a result."""
        ...


class Explained:
    """Results with a source, which is no part of their value: a copy in a file has none."""

    __slots__ = ("_source",)

    def why(self, i: int, *, reference: Reference = "class") -> Any:
        """Why a sample was decided on as it was: contributions of units to its scores.

        Nothing is computed before this is called. Results keep what it takes with
        ``predict(x, keep=("logits", "features"))``; the known features to compare with are kept by
        ``monitor.remember(known)``. The head is taken as it is now.

        Args:
            i: place of the sample.
            reference: (width,) feature vector from which contributions count; ``"class"`` for the
                mean of the known features of the class it was taken for, ``"mean"`` for that of
                all.

        Returns:
            A `gradood.attribution.Explanation`.

        Raises:
            NotFittedError: the result kept nothing to be explained by, or no reference is known;
                says how to ask.
            IndexError: there is no such sample.
            ConfigError: `i` is no whole number.
        """
        source = source_of(self)
        if source is None:
            raise NotFittedError(
                "this result has nothing to be explained by: it was read from a file, sent by "
                "another process, or not made by monitor.predict. Ask guard.explain(images), or "
                "monitor.predict(images, keep=('logits', 'features')) and then why(i)."
            )
        return source.why(self, i, reference)


def source_of(result: Explained) -> Source | None:
    """What explains a result, or None."""
    return getattr(result, "_source", None)


def with_source(result: T, source: Source | None) -> T:
    """The same result, which was just made, with what explains it."""
    object.__setattr__(result, "_source", source)
    return result
