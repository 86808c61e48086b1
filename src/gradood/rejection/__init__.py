"""Classification with a reject option: the label of a model, or -1 for what it does not know."""

from gradood.rejection._guard import Guard, guard
from gradood.rejection._loading import load

__all__ = ["Guard", "guard", "load"]
