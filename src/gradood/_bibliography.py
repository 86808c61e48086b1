"""The papers that gradood cites, out of its one BibTeX file."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import MappingProxyType

from gradood.errors import UnknownNameError, suggest

__all__ = ["CITATION", "Reference", "bibliography", "reference"]

CITATION = re.compile(r"\[([a-z]+\d{4}[a-z]+)\]")
"""A key in brackets, as docstrings cite: first author, year, method."""

_ENTRY = re.compile(r"^@(?P<kind>\w+)\{(?P<key>[^,\s]+),\n(?P<body>.*?)^\}", re.M | re.S)
_FIELD = re.compile(r"^\s*(?P<name>\w+)\s*=\s*\{(?P<value>.*)\},?$", re.M)
_PLAIN = (("{\\'e}", "é"), ("--", "–"), ("{", ""), ("}", ""))


@dataclass(frozen=True, slots=True)
class Reference:
    """A paper.

    Attributes:
        key: how docstrings cite it.
        authors: ``Given Family``, in order.
        families: their family names.
        title: without BibTeX's braces.
        venue: journal or proceedings, with volume and pages if known.
        year: of publication.
        url: where it can be read.
    """

    key: str
    authors: tuple[str, ...]
    families: tuple[str, ...]
    title: str
    venue: str
    year: int
    url: str

    @property
    def short(self) -> str:
        """Such as ``Huang et al. 2021``."""
        names = self.families
        first = f"{names[0]} et al." if len(names) > 2 else " and ".join(names)
        return f"{first} {self.year}"

    def __str__(self) -> str:
        authors = ", ".join(self.authors)
        return f"{authors}. {self.title}. {self.venue}, {self.year}. {self.url}"


def reference(key: str) -> Reference:
    """The paper of that key.

    Raises:
        UnknownNameError: there is none; suggests the closest.

    Example:
        >>> reference("huang2021gradnorm").short
        'Huang et al. 2021'
    """
    known = bibliography()
    if key not in known:
        raise UnknownNameError(f"no reference {key!r} in references.bib; {suggest(key, known)}")
    return known[key]


@cache
def bibliography() -> Mapping[str, Reference]:
    """Every paper by its key, in the order of the file."""
    text = files("gradood").joinpath("references.bib").read_text(encoding="utf-8")
    found = {}
    for entry in _ENTRY.finditer(text):
        fields = {f["name"]: _unbraced(f["value"]) for f in _FIELD.finditer(entry["body"])}
        found[entry["key"]] = _reference(entry["key"], fields)
    return MappingProxyType(found)


def _reference(key: str, fields: dict[str, str]) -> Reference:
    names = [name.split(", ") for name in fields["author"].split(" and ")]
    venue = fields.get("journal") or fields["booktitle"]
    if "volume" in fields:
        number = f"({fields['number']})" if "number" in fields else ""
        venue += f" {fields['volume']}{number}"
    if "pages" in fields:
        venue += f", {fields['pages']}"
    return Reference(
        key=key,
        authors=tuple(f"{given} {family}" for family, given in names),
        families=tuple(family for family, _ in names),
        title=fields["title"],
        venue=venue,
        year=int(fields["year"]),
        url=fields["url"],
    )


def _unbraced(value: str) -> str:
    for marked, plain in _PLAIN:
        value = value.replace(marked, plain)
    return value
