"""Names of the registered methods, by the classifiers that they are for."""

import gradood

__all__ = ["ON_ANY", "ZERO_SHOT"]

ZERO_SHOT = tuple(m.name for m in gradood.methods() if any("zero-shot" in n for n in m.needs))
"""Methods that compare images with texts, and refuse any other classifier."""
ON_ANY = [m.name for m in gradood.methods() if m.name not in ZERO_SHOT]
"""All others, in the order of the registry."""
