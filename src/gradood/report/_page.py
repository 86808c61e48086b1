"""Rendering of the content as one self-contained HTML file."""

import base64
import hashlib
import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["page"]

_SCRIPTS = (
    *("element.js", "scale.js", "chart.js", "board.js", "curves.js"),
    *("gallery.js", "cost.js", "agreement.js", "ranking.js", "main.js"),
)


def page(content: Mapping[str, Any], pictures: Mapping[str, Any] | None) -> str:
    """The file.

    Its policy lets the browser run the one script whose hash it names, and fetch nothing.

    Args:
        content: as `gradood.report._content.content` makes it.
        pictures: as `Sheets.to_dict` makes it, or None.

    Raises:
        ModuleNotFoundError: jinja2 is not installed.
    """
    template = _environment().get_template("page.html")
    from markupsafe import Markup

    script, style = _script(), _style()
    return template.render(
        content=content,
        pictures=pictures is not None,
        # Not escaped once more: both are ours, and are checked by their hash.
        script=Markup(script),
        style=Markup(style),
        script_hash=_hash(script),
        style_hash=_hash(style),
        data=Markup(_embedded({**content, "pictures": pictures})),
    )


def _embedded(value: Any) -> str:
    """JSON that no HTML parser takes for anything else, whatever names are in it."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


@cache
def _script() -> str:
    """All parts in one closed scope."""
    parts = "\n".join(_read(name) for name in _SCRIPTS)
    return f'"use strict";\n(() => {{\n{parts}\n}})();\n'


@cache
def _style() -> str:
    dark = _read("dark.css")
    return "\n".join(
        [
            _read("style.css"),
            f"@media screen and (prefers-color-scheme: dark) "
            f'{{ :root:not([data-theme="light"]) {{ {dark} }} }}',
            f'@media screen {{ :root[data-theme="dark"] {{ {dark} }} }}',
        ]
    )


def _read(name: str) -> str:
    return files("gradood.report").joinpath("templates", name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """As a content security policy names what it allows."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")


@cache
def _environment() -> "Environment":
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "jinja2, which makes the page, is not installed: pip install 'gradood[report]'.",
            name=error.name,
        ) from error

    made = Environment(
        loader=PackageLoader("gradood.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["figure"] = _figure
    made.filters["interval"] = _interval
    made.filters["ratio"] = _ratio
    return made


def _figure(figure: list[float | None] | None) -> str:
    value = figure[0] if figure else None
    return "–" if value is None else f"{100 * value:.1f}"


def _interval(figure: list[float | None] | None) -> str:
    _, low, high = figure if figure else (None, None, None)
    return "" if low is None or high is None else f"{100 * low:.1f}–{100 * high:.1f}"


def _ratio(value: float | None) -> str:
    if value == 1:
        return "≈ 1×"
    return "–" if value is None else f"{value:.2f}×"
