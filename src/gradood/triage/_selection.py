"""How the items of a data set were selected, as its Parquet files say."""

import json
from typing import Any

from gradood.data._tables import open_tables
from gradood.data.sources import split_source
from gradood.errors import CalibrationError, DataError
from gradood.triage._sample import is_random

__all__ = ["RULE", "check_known", "selection_of"]

RULE = b"gradood.selection"
"""Key of a Parquet file's metadata."""


def selection_of(source: str) -> list[dict[str, Any]]:
    """How the items of a calibration's data were selected, where its files say so.

    Args:
        source: path or URL of a data set, perhaps with a slice; what is no Parquet says nothing.

    Raises:
        CalibrationError: some were picked, for being flagged.

    Cost: reads the footers of Parquet files.
    """
    rules = _rules(source)
    if not all(map(is_random, rules)):
        raise CalibrationError(
            f"{source!r} has items that a person picked among those that were flagged. They are "
            "not drawn like the items to come: a calibration on them would void the promise. "
            "Review the random sample of the page, all of it, and calibrate on sample.parquet."
        )
    return rules


def check_known(source: str) -> None:
    """Refuse items that a person marked unknown, where known ones are learned from.

    Args:
        source: as for `selection_of`.

    Raises:
        DataError: there are some.
    """
    if any(rule.get("mark") == "unknown" for rule in _rules(source)):
        raise DataError(
            f"{source!r} has items that a person marked unknown; a fit learns what is known. Fit "
            "on known.parquet; train with these by gradood train --aux."
        )


def _rules(source: str) -> list[dict[str, Any]]:
    """What each file that is read says, of those that say something."""
    try:
        schemas = open_tables(split_source(source)[0], cache_bytes=0).schemas
    except (DataError, ImportError, OSError):
        return []  # No Parquet, or none that can be read; whoever reads its rows says why.
    found: list[dict[str, Any]] = []
    for schema in schemas:
        text = (schema.metadata or {}).get(RULE)
        try:
            rule = None if text is None else json.loads(text)
        except ValueError:
            continue
        if isinstance(rule, dict):
            found.append(rule)
    return found
