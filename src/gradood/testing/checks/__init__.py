"""Every check, by theme."""

from gradood.testing.checks._attribution import ATTRIBUTION
from gradood.testing.checks._deciding import DECIDING
from gradood.testing.checks._declaration import DECLARATION
from gradood.testing.checks._graph import GRAPH
from gradood.testing.checks._inputs import INPUTS
from gradood.testing.checks._isolation import ISOLATION
from gradood.testing.checks._learning import LEARNING
from gradood.testing.checks._model import MODEL
from gradood.testing.checks._numbers import NUMBERS
from gradood.testing.checks._orientation import ORIENTATION
from gradood.testing.checks._rows import ROWS
from gradood.testing.checks._threads import THREADS
from gradood.testing.checks.check import Check

__all__ = ["CHECKS", "Check"]

CHECKS: dict[str, Check] = {
    **DECLARATION,
    **ORIENTATION,
    **ROWS,
    **INPUTS,
    **NUMBERS,
    **MODEL,
    **LEARNING,
    **DECIDING,
    **GRAPH,
    **ISOLATION,
    **THREADS,
    **ATTRIBUTION,
}
"""Name → check, in the order in which they run."""
