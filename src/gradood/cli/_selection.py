"""How the items of a calibration were selected, in the card of its detector."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gradood.monitor import Monitor

__all__ = ["note_selection"]


def note_selection(monitor: "Monitor", source: str, selected: Sequence[Mapping[str, Any]]) -> None:
    """Keep it with a calibrated monitor.

    Args:
        monitor: calibrated.
        source: of the data, perhaps with a slice.
        selected: the rules of reviewed samples; none removes what an earlier calibration said.
    """
    from gradood.data.sources import split_source

    part = source[len(split_source(source)[0]) :]
    session = monitor._session
    notes = tuple(_note(rule, part) for rule in selected)
    session.state = replace(session.state, notes=notes)


def _note(rule: Mapping[str, Any], part: str) -> str:
    """How a reviewed sample was selected, in a line."""
    told = rule.get("reviewed")
    counts = ", ".join(f"{n} {name}" for name, n in told.items()) if isinstance(told, dict) else ""
    return (
        f"Calibration data: a random sample of {rule.get('size')} of {rule.get('among')} scored "
        f"items (seed {rule.get('seed')}), reviewed whole by a person: {counts}; those marked "
        f"unknown are left out. Ids: SHA-256 {str(rule.get('ids_sha256'))[:64]}."
        + (f" Of it, the slice {part[:40]} was used." if part else "")
    )
