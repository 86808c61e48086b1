"""The decoder: dataclasses from plain values, and back."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import pytest

from gradood._io.records import (
    KEY,
    OMIT,
    Expect,
    Extensible,
    Rules,
    decode,
    shortened,
    to_plain,
)
from gradood.errors import ConfigError, DataError

OPEN = Rules(error=DataError)
Share = Annotated[float, Expect(lambda x: 0 <= x <= 1, "a number from 0 to 1", ("nan",))]


@dataclass(frozen=True, kw_only=True)
class Inner(Extensible):
    n: int
    kind: str | None = field(default=None, metadata={KEY: "class"})
    note: str | None = field(default=None, metadata={OMIT: True})


@dataclass(frozen=True, kw_only=True)
class Outer(Extensible):
    share: Share
    inner: tuple[Inner, ...] = ()
    by_name: Mapping[str, Share] = field(default_factory=dict)
    level: Literal["near", "far"] | int | None = None
    free: Any = None


@dataclass(frozen=True, kw_only=True)
class Closed:
    n: int
    name: str = "x"


FULL = {
    "share": 0.5,
    "inner": [{"n": 1, "class": "A", "later": {"x": [1]}}, {"n": 2}],
    "by_name": {"a": 1.0},
    "level": "near",
    "free": [None],
    "new_in_a_later_version": 3,
}


def test_what_is_read_is_what_is_written():
    found = decode(Outer, FULL, "", OPEN)
    assert found.inner[0].kind == "A" and found.inner[1].kind is None
    assert json.loads(json.dumps(to_plain(found))) == FULL
    assert to_plain(decode(Outer, {"share": 0.5}, "", OPEN)) == {"share": 0.5}


def test_what_is_made_here_is_written_whole_but_for_what_is_omitted():
    assert to_plain(Inner(n=1)) == {"n": 1, "class": None}
    assert to_plain(Inner(n=1, note="a")) == {"n": 1, "class": None, "note": "a"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"share": 2}, r"^share is 2; expected a number from 0 to 1\.$"),
        ({"share": "inf"}, r"^share is 'inf'; expected a number from 0 to 1\.$"),
        ({"inner": [{"n": 1}, {}]}, r"^inner\[1\] lacks n\.$"),
        ({"inner": {}}, r"^inner is a table; expected a list\.$"),
        ({"inner": [{"n": True}]}, r"^inner\[0\]\.n is True; expected a whole number\.$"),
        ({"by_name": {"b\n": "x"}}, r"^by_name\['b\\n'\] is 'x'; expected a number from 0 to 1"),
        ({"level": "nea"}, r"^level is 'nea'; expected 'near' or 'far' or a whole number\.$"),
        ({"by_name": [1] * 100}, r"^by_name is \[1, 1, .{50}…; expected a table\.$"),
    ],
)
def test_a_fault_is_told_with_its_place(changes, message):
    with pytest.raises(DataError, match=message):
        decode(Outer, FULL | changes, "", OPEN)


def test_texts_for_numbers_that_json_lacks():
    assert str(decode(Outer, {"share": "nan"}, "", OPEN).share) == "nan"


def test_a_closed_dataclass_takes_no_other_key():
    assert decode(Closed, {"n": 1}, "it") == Closed(n=1)
    with pytest.raises(ConfigError, match=r"it has no option 'nam'; did you mean 'name'\?"):
        decode(Closed, {"n": 1, "nam": "y"}, "it")
    with pytest.raises(DataError, match=r"it has an unknown key 'nam'; did you mean 'name'\?"):
        decode(Closed, {"n": 1, "nam": "y"}, "it", OPEN)
    with pytest.raises(DataError, match=r"it lacks name\."):
        decode(Closed, {"n": 1}, "it", Rules(error=DataError, defaults=False))


def test_a_long_value_is_shortened():
    assert shortened("x" * 100) == "'" + "x" * 56 + "…"
    assert shortened([1]) == "[1]"
