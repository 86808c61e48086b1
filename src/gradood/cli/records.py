"""Records that ``gradood bench`` wrote."""

from pathlib import Path
from typing import TYPE_CHECKING

from gradood.errors import DataError

if TYPE_CHECKING:
    from gradood.bench import Record

__all__ = ["RECORD", "SCORES", "read_record"]

RECORD, SCORES = "arena.json", "scores.safetensors"


def read_record(file: Path, expected: str) -> "Record":
    """A record, checked.

    Args:
        file: the record.
        expected: what should have been given, for the message.

    Raises:
        DataError: it cannot be read, or is no record of `gradood bench`, or a damaged one.
    """
    import json

    from gradood.bench import Record

    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(
            f"no record in {str(file)!r} ({error.strerror}); expected {expected}."
        ) from error
    except ValueError as error:
        raise DataError(f"{str(file)!r} is no JSON ({error}); write it again.") from error
    try:
        return Record.from_dict(found)
    except DataError as error:
        raise DataError(f"{str(file)!r}: {error}") from error
