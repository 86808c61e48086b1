"""Terms that README and the pages of docs/ use and docs/glossary.md does not explain.

python docs/terms.py

Looked for are: values of options that are terms of the field (rules of combination, modes of a
promise, links), words that a page sets in bold or italics within a sentence, and the words of
WORDS. Pages of methods, results and decisions are for readers who know the field, and left out.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from gradood.calibration._curve import How
from gradood.taps import Link

DOCS = Path(__file__).resolve().parent
WORDS = (
    "actor", "alarm", "artifact", "AUROC", "AUPR", "Aumann", "bank", "calibration", "canary",
    "contribution", "covariate shift", "detector", "evidence", "exchangeable", "false alarm",
    "false discovery rate", "features", "fingerprint", "FPR95", "full spectrum", "fusion", "graph",
    "guard", "head", "link", "logits", "martingale", "monitor", "near", "far", "objective", "OOD",
    "override", "p-value", "package", "PAC", "partials", "penultimate", "promise", "score", "shard",
    "shift", "tap", "urn", "watch", "warning", "zero-shot",
)  # fmt: skip
PLAIN = {
    "always", "and", "average", "ever", "first", "flagged", "hard", "held-out", "just", "network",
    "not", "not flagged", "not trained on", "pays", "on average", "once", "predicted",
    "very", "earlier",
}  # fmt: skip
"""Emphasis on a word of everyday English, or on one with an entry under another form."""
_FENCE = re.compile(r"^```.*?^```|`[^`\n]*`|\]\([^)]*\)", re.M | re.S)
_EMPHASIS = re.compile(
    r"(?<=[\w,;:(—] )(\*{1,2})(?=[a-zA-Z])([^*\s]+( [^*\s]+){0,2})(?<=[a-z])\1(?=[\s,;:).])"
)
_ENTRY = re.compile(r"\*{1,2}([^*]+?)\*{1,2}")


def pages() -> Iterator[tuple[str, str]]:
    """Name and prose of each page, without code and addresses."""
    files = [DOCS.parent / "README.md", *DOCS.glob("*.md")]
    files += [*DOCS.glob("how-to/*.md"), *DOCS.glob("tutorials/*.md")]
    for file in sorted(files):
        if file.name != "glossary.md":
            text = _FENCE.sub(" ", file.read_text(encoding="utf-8"))
            yield file.relative_to(DOCS.parent).as_posix(), text


def explained(glossary: str) -> str:
    """All that the glossary sets in bold or italics, and the names of options it gives."""
    entries = _ENTRY.findall(glossary) + re.findall(r'"(\w+)"', glossary)
    return "\n".join(entry.lower() for entry in entries)


def used() -> dict[str, str]:
    """Term → a page that uses it."""
    found = {str(value): "an option" for value in (*get_args(How), "marginal", "pac")}
    found |= {str(value): "an option" for value in get_args(Link)}
    for name, text in pages():
        for match in _EMPHASIS.finditer(text):
            found.setdefault(match[2], name)
        for word in WORDS:
            if re.search(rf"\b{word}s?\b", text, re.IGNORECASE):
                found.setdefault(word, name)
    return {term: page for term, page in found.items() if term.lower() not in PLAIN}


def missing() -> dict[str, str]:
    """Terms without an entry, with a page that uses each."""
    known = explained((DOCS / "glossary.md").read_text(encoding="utf-8"))
    return {t: page for t, page in used().items() if t.lower().removesuffix("s") not in known}


def main() -> int:
    """Exit code: 1 if a term is not explained."""
    for term, page in missing().items():
        print(f"{term!r}, used by {page}, is in no entry of docs/glossary.md", file=sys.stderr)
    return 1 if missing() else 0


if __name__ == "__main__":
    sys.exit(main())
