"""Flagged items as one self-contained HTML file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from gradood._io.arguments import described, file_path, instance, text, whole
from gradood._io.atomic import replace
from gradood.data import ImageSource
from gradood.data._column_source import ColumnRows
from gradood.errors import ConfigError
from gradood.report import page_policy
from gradood.triage._groups import groups
from gradood.triage._items import Details, Items
from gradood.triage._procedure import steps
from gradood.triage._sample import ReviewSample
from gradood.triage._table_rows import check_inputs, row_texts
from gradood.triage._thumbnails import thumbnail_sheets

__all__ = ["PageOptions", "write_page"]

_SCRIPTS = ("state.js", "cards.js", "detail.js", "triage.js")


@dataclass(frozen=True, kw_only=True, slots=True)
class PageOptions:
    """How the page is made.

    Attributes:
        title: of the page.
        limit: flagged items at most, those of the smallest p-values, and as many that were not
            scored; the random sample is besides.
        side: of a thumbnail, in pixels.
        seed: of the clusters.
        classes: names of the classes, in their order, or none.
        per_class: whether p-values were compared within predicted classes.

    Raises:
        ConfigError: one is of another type, or out of range.
    """

    title: str = "Flagged items"
    limit: int = 2000
    side: int = 64
    seed: int = 0
    classes: tuple[str, ...] = ()
    per_class: bool = False

    def __post_init__(self) -> None:
        text(self.title, "title")
        whole(self.limit, "limit")
        whole(self.side, "side", least=16, most=256)
        whole(self.seed, "seed")
        given: object = self.classes
        if isinstance(given, str) or not isinstance(given, Sequence):
            raise ConfigError(f"classes={described(given)}; expected their names, in their order.")


def write_page(
    path: Path,
    items: Items,
    sample: ReviewSample,
    details: Details,
    inputs: ImageSource | ColumnRows | None,
    options: PageOptions,
) -> int:
    """Write the page; returns its bytes.

    Its policy lets the browser run the one script whose hash it names, and fetch nothing. Ids,
    texts and all else of the data reach it as JSON, and the document as text nodes.

    Raises:
        ConfigError: an argument is of another type.
        ModuleNotFoundError: jinja2 or Pillow is not installed.
        OSError: it cannot be written.
    """
    path = file_path(path, "path")
    instance(items, Items, "items", "what gradood.triage.read_items gave")
    instance(sample, ReviewSample, "sample", "what gradood.triage.review_sample gave")
    instance(details, Details, "details", "what gradood.triage.read_details gave")
    instance(options, PageOptions, "options", "gradood.triage.PageOptions(…)")
    if inputs is not None:
        check_inputs(inputs)
    page = _page(content(items, sample, details, inputs, options))
    raw = page.encode("utf-8")
    replace(path, [raw], lambda written: None)
    return len(raw)


def content(
    items: Items,
    sample: ReviewSample,
    details: Details,
    inputs: ImageSource | ColumnRows | None,
    options: PageOptions,
) -> dict[str, Any]:
    """What the page is made of, as plain values; as for `write_page`."""
    tested = items.p_value[items.tested]
    offered = steps(tested, any_dependence=options.per_class)
    largest = max((step.largest for step in offered), default=0.0)
    called = (items.flagged & items.tested) | (items.p_value <= largest)
    flagged = sorted(
        np.flatnonzero(called).tolist(), key=lambda i: (items.p_value[i], items.ids[i])
    )
    unscored = sorted(np.flatnonzero(~items.tested).tolist(), key=lambda i: items.ids[i])
    chosen = [*flagged[: options.limit], *unscored[: options.limit]]
    places = {one: i for i, one in enumerate(items.ids)}
    reviewed = [places[one] for one in sample.ids]
    shown = list(dict.fromkeys([*chosen, *reviewed]))
    number = {place: k for k, place in enumerate(shown)}
    ids = [items.ids[i] for i in shown]
    texts: Mapping[str, str] = details.texts
    if isinstance(inputs, ColumnRows):
        texts = {**row_texts(inputs, ids, items.preprocess), **texts}
        inputs = None
    sheets, pictures = thumbnail_sheets(inputs, ids, options.side)
    return {
        "title": options.title,
        "job": items.job,
        "count": len(items),
        "tested": len(tested),
        "smallest": float(tested.min()) if len(tested) else None,
        "omitted": max(0, len(flagged) - options.limit),
        "unscored": items.unscored,
        "names": list(items.names),
        "classes": list(options.classes),
        "perClass": options.per_class,
        "decided": int((items.flagged & items.tested).sum()),
        "steps": [[step.rate, step.count, step.largest] for step in offered],
        "side": options.side,
        "sheets": sheets,
        "items": [_item(items, i, texts, details, pictures) for i in shown],
        "groups": [
            {
                "title": group.title,
                "members": [number[i] for i in group.members],
                "representatives": [number[i] for i in group.representatives],
            }
            for group in groups(items, chosen, details, options.seed)
        ],
        "sample": [number[i] for i in reviewed],
        "seed": sample.seed,
    }


def _item(
    items: Items,
    i: int,
    texts: Mapping[str, str],
    details: Details,
    pictures: dict[str, list[int]],
) -> dict[str, Any]:
    one = items.ids[i]
    return {
        "id": one,
        "uri": items.uris[i],
        "p": _number(items.p_value[i]),
        "score": _number(items.score[i]),
        "each": [_number(p) for p in items.each[:, i]],
        "flagged": bool(items.flagged[i]),
        "label": int(items.label[i]),
        "status": items.status[i],
        "error": items.errors.get(one),
        "picture": pictures.get(one),
        "text": texts.get(one),
        "why": details.reasons.get(one, []),
    }


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _page(content: dict[str, Any]) -> str:
    from markupsafe import Markup

    script, style = _script(), _style()
    template = _template()
    return template.render(
        title=content["title"],
        script=Markup(script),
        style=Markup(style),
        script_hash=page_policy.hashed(script),
        style_hash=page_policy.hashed(style),
        data=Markup(page_policy.embedded(content)),
    )


@cache
def _script() -> str:
    """All parts in one closed scope."""
    parts = [_read("gradood.report", "element.js"), *(_read("gradood.triage", n) for n in _SCRIPTS)]
    return '"use strict";\n(() => {\n' + "\n".join(parts) + "\n})();\n"


@cache
def _style() -> str:
    return page_policy.themed(
        _read("gradood.triage", "style.css"), _read("gradood.report", "dark.css")
    )


def _read(package: str, name: str) -> str:
    return files(package).joinpath("templates", name).read_text(encoding="utf-8")


@cache
def _template() -> Any:
    return page_policy.environment("gradood.triage").get_template("triage.html")
