"""What every self-contained page here holds to: one script and one style, named by their hashes."""

import base64
import hashlib
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["embedded", "environment", "hashed", "themed"]


def embedded(value: Any) -> str:
    """JSON that no HTML parser takes for anything else, whatever names are in it."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def hashed(text: str) -> str:
    """As a content security policy names what it allows."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")


def themed(style: str, dark: str) -> str:
    """A style sheet that is dark where the reader or the system asks for it.

    Args:
        style: of the light page.
        dark: declarations of the root element.
    """
    return "\n".join(
        [
            style,
            f"@media screen and (prefers-color-scheme: dark) "
            f'{{ :root:not([data-theme="light"]) {{ {dark} }} }}',
            f'@media screen {{ :root[data-theme="dark"] {{ {dark} }} }}',
        ]
    )


def environment(package: str) -> "Environment":
    """The templates of a package; every value is escaped, and a missing one is an error.

    Raises:
        ModuleNotFoundError: jinja2 is not installed.
    """
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "jinja2, which makes the page, is not installed: pip install 'gradood[report]'.",
            name=error.name,
        ) from error

    return Environment(
        loader=PackageLoader(package),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
