"""Page of a benchmark record, and its JSON twin."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from gradood._io.atomic import write
from gradood.bench.record import Record
from gradood.errors import ConfigError
from gradood.report._content import DETAILS, Scores, content
from gradood.report._gallery import EXTREMES, Images, Sheets, fitting
from gradood.report._page import page
from gradood.report._views import RecordView

__all__ = ["Report"]

_LIMIT = 5_000_000


@final
@dataclass(frozen=True, eq=False, slots=True)
class Report:
    """One self-contained page: which method to use on a model, and why.

    Attributes:
        content: all that it shows except pictures.
        sheets: thumbnails, or None.
    """

    content: Mapping[str, Any]
    sheets: Sheets | None

    @staticmethod
    def of(
        record: Record | Mapping[str, Any],
        scores: Scores,
        images: Images | None = None,
        *,
        limit: int = _LIMIT,
    ) -> "Report":
        """Make it from a record of `gradood bench` and the scores beside it.

        Where the page would be larger than allowed, thumbnails are dropped first, then detail of
        the curves; the page says so.

        Args:
            record: of a run, or what ``arena.json`` holds.
            scores: by run, set (``id`` for the in-distribution one) and method; (n,) each, higher =
                more OOD. A run without scores has no curves.
            images: from a set and ascending positions in it to Pillow images, such as `Pictures`;
                None for none.
            limit: of the HTML file in bytes.

        Raises:
            DataError: it is no such record, or the scores cannot be used.
            ConfigError: not even the tables fit into the limit.

        Cost:
            Two sorts per method and set, and one per method over all sets: some seconds for 45
            methods on 7 sets of 26,000 images; plus the decoding of some thousand images.
        """
        view = RecordView.of(Record.of(record))
        made, room = _fitted(view, scores, limit)
        galleries = [run["gallery"] for run in made["runs"]]
        names = dict.fromkeys(name for gallery in galleries for name in gallery)
        sheets = None if images is None else fitting(galleries, images, room)
        return Report(
            {**made, "notes": [*made["notes"], *_pictures(list(names), images, sheets)]}, sheets
        )

    def html(self) -> str:
        """The page: one self-contained file that needs no network."""
        return page(self.content, None if self.sheets is None else self.sheets.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """Plain values: all that the page shows except the pixels of the thumbnails."""
        return dict(self.content)

    def write(self, path: str | Path) -> Path:
        """Write the page, and its JSON twin beside it, each as a whole or not at all.

        Args:
            path: of the page, ending in ``.html``.

        Returns:
            The path of the twin, which ends in ``.json``.

        Raises:
            ConfigError: the path does not end in ``.html``.
            OSError: a file cannot be written.
        """
        target = Path(path)
        if target.suffix.lower() not in (".html", ".htm"):
            raise ConfigError(
                f"the report is to be {str(path)!r}; expected a name ending in .html."
            )
        twin = target.with_suffix(".json")
        text = json.dumps(self.to_dict(), indent=1, allow_nan=False) + "\n"
        for file, part in ((target, self.html()), (twin, text)):
            write(file, part)
        return twin


_MARGIN = 1_000  # For the sentences about pictures.


def _fitted(view: RecordView, scores: Scores, limit: int) -> tuple[dict[str, Any], int]:
    """The finest content that fits, and the bytes left for thumbnails."""
    size = 0
    for detail in DETAILS:
        made = content(view, scores, detail)
        size = _size(made) + _MARGIN
        if size <= limit:
            return made, limit - size
    raise ConfigError(
        f"the page needs {size:,} bytes without curves and images, and at most {limit:,} are "
        "allowed. Report fewer runs or methods at once."
    )


def _size(made: Mapping[str, Any]) -> int:
    return len(page(made, None).encode("utf-8", "replace"))


def _pictures(names: list[str], images: Images | None, sheets: Sheets | None) -> list[str]:
    """What a reader should know of the thumbnails."""
    if not names:
        return []
    instead = "the positions of the images are given instead."
    if images is None:
        return [f"The images were not at hand: {instead}"]
    if sheets is None:
        return [f"There are no thumbnails, for want of the images or of room: {instead}"]
    notes = []
    if sheets.shown < EXTREMES:
        notes.append(
            f"Of each list the first {sheets.shown} thumbnails are shown rather than {EXTREMES}, "
            "so that the file stays small."
        )
    absent = [name for name in names if name not in sheets.sheets]
    if absent:
        notes.append(f"The images of {', '.join(absent)} were not at hand: {instead}")
    return notes
