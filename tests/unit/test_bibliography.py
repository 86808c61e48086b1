import re
import unicodedata
from itertools import pairwise
from pathlib import Path

import pytest

import gradood
from gradood._bibliography import CITATION, bibliography, reference
from gradood.errors import UnknownNameError
from gradood.registry import methods

SOURCES = sorted(Path(gradood.__file__).parent.rglob("*.py"))
BIB = Path(gradood.__file__).parent / "references.bib"


def cited() -> set[str]:
    """Keys in brackets anywhere in the source, and the papers of the detectors."""
    text = "\n".join(source.read_text(encoding="utf-8") for source in SOURCES)
    return {*CITATION.findall(text), *(method.paper for method in methods())}


def entries(text: str) -> list[tuple[int, str]]:
    """Line and key of every entry."""
    lines = enumerate(text.splitlines(), start=1)
    return [(n, found[1]) for n, line in lines if (found := re.match(r"@\w+\{([^,]+),", line))]


def disorder(keys: list[tuple[int, str]]) -> str | None:
    """The first two entries that are out of order, with their lines."""
    for (first, before), (second, after) in pairwise(keys):
        where = f"references.bib:{second}: {after}"
        if before == after:
            return f"{where} is there already, on line {first}; keep one"
        if before > after:
            return f"{where} comes after {before} of line {first}; entries are sorted by their keys"
    return None


def test_every_citation_resolves():
    assert sorted(cited() - bibliography().keys()) == []


def test_every_reference_is_cited():
    assert sorted(bibliography().keys() - cited()) == []


def test_every_entry_of_the_file_is_read_and_they_are_sorted():
    keys = entries(BIB.read_text(encoding="utf-8"))
    assert disorder(keys) is None, disorder(keys)
    assert [key for _, key in keys] == list(bibliography())


def test_what_is_out_of_order_is_told_with_both_lines():
    assert disorder([(1, "a2001b"), (9, "c2001d")]) is None
    assert disorder([(1, "c2001d"), (9, "a2001b")]) == (
        "references.bib:9: a2001b comes after c2001d of line 1; entries are sorted by their keys"
    )
    assert disorder([(1, "c2001d"), (9, "c2001d")]) == (
        "references.bib:9: c2001d is there already, on line 1; keep one"
    )


@pytest.mark.parametrize("key", list(bibliography()))
def test_entries_are_complete_and_free_of_bibtex(key):
    paper = reference(key)
    assert CITATION.fullmatch(f"[{key}]")
    assert str(paper.year) in key
    family = unicodedata.normalize("NFKD", paper.families[0]).encode("ascii", "ignore").decode()
    assert family.lower().replace(" ", "").startswith(re.match("[a-z]+", key)[0])
    assert paper.url.startswith("https://")
    assert not re.search(r"[{}\\]|--", str(paper))
    assert len(paper.authors) == len(paper.families) >= 1
    assert not any(" and " in author for author in paper.authors)


def test_a_paper_in_words():
    paper = reference("chen2010oas")
    assert paper.short == "Chen et al. 2010"
    assert str(paper) == (
        "Yilun Chen, Ami Wiesel, Yonina C. Eldar, Alfred O. Hero. Shrinkage Algorithms for MMSE "
        "Covariance Estimation. IEEE Transactions on Signal Processing 58(10), 5016–5029, 2010. "
        "https://arxiv.org/abs/0907.4698"
    )
    assert reference("hendrycks2017msp").short == "Hendrycks and Gimpel 2017"


def test_a_miss_suggests():
    with pytest.raises(UnknownNameError, match="did you mean 'chen2023gaia'"):
        reference("chen2022gaia")
