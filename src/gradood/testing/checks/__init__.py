"""Every check, by theme."""

from gradood.testing.checks.check import Check
from gradood.testing.checks.deciding import DECIDING
from gradood.testing.checks.declaration import DECLARATION
from gradood.testing.checks.inputs import INPUTS
from gradood.testing.checks.isolation import ISOLATION
from gradood.testing.checks.learning import LEARNING
from gradood.testing.checks.model import MODEL
from gradood.testing.checks.numbers import NUMBERS
from gradood.testing.checks.orientation import ORIENTATION
from gradood.testing.checks.rows import ROWS
from gradood.testing.checks.threads import THREADS

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
    **ISOLATION,
    **THREADS,
}
"""Name → check, in the order in which they run."""
