"""Log of the warnings of a benchmark run, which its record keeps."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import final

from gradood.bench._record_inputs import WarningRecord
from gradood.errors import CacheWarning, CoverageWarning, GradoodWarning

__all__ = ["WarningLog"]


@final
class WarningLog:
    """Warnings of this library by the stage they were given in; all are given on.

    Those of the cache are not kept, as they say nothing about results.

    Attributes:
        records: in order, each once.
    """

    def __init__(self) -> None:
        self.records: list[WarningRecord] = []

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """A stage; at its end its warnings are noted, and given as the user's filters say.

        Args:
            stage: ``data``, ``fit``, ``id``, ``shifted NAME`` or ``ood NAME``.
        """
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", GradoodWarning)
            try:
                yield
            finally:
                given = list(caught)
                for one in given:
                    self._note(stage, one)
        for one in given:
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)

    def _note(self, stage: str, given: warnings.WarningMessage) -> None:
        if not issubclass(given.category, GradoodWarning) or issubclass(
            given.category, CacheWarning
        ):
            return
        void = issubclass(given.category, CoverageWarning)
        record = WarningRecord(stage=stage, text=str(given.message), void=void)
        if record not in self.records:
            self.records.append(record)
