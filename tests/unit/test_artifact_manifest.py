import copy
import json
import operator
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from artifact_samples import sample

import gradood
from gradood._io.canonical import MAX_DEPTH, check_plain, encode, parse
from gradood._io.records import SINCE, decode
from gradood.artifact import FORMAT, Format, Manifest, Override, check, read
from gradood.artifact.manifest import check_version, manifest_rules
from gradood.errors import ArtifactError

GOLDEN = Path(__file__).parents[1] / "golden" / "artifact_1_0.safetensors"
DOCUMENT = sample()[0].to_dict()

# Keys whose values are free: whatever plain JSON is in them is taken.
FREE = ("options", "reads", "preprocess", "calibration")


def places(value: Any, path: tuple = ()) -> list[tuple]:
    """Where every value with a declared type is."""
    found = [path] if path else []
    if path and (path[-1] in FREE or path[-2:-1] == ("modules",)):
        return found
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            found += places(item, (*path, key))
    return found


def changed(path: tuple, action) -> dict:
    document = copy.deepcopy(DOCUMENT)
    owner = document
    for key in path[:-1]:
        owner = owner[key]
    action(owner, path[-1])
    return document


def dotted(path: tuple) -> str:
    return "".join(f"[{k}]" if isinstance(k, int) else f".{k}" for k in path)


def test_a_manifest_goes_through_json_and_back():
    manifest = sample()[0]
    assert Manifest.from_dict(json.loads(manifest.to_json())) == manifest
    assert parse(manifest.to_json(), "it") == manifest.to_dict()


@pytest.mark.parametrize(
    "path", [path for path in places(DOCUMENT) if path[0] != "format"], ids=dotted
)
def test_a_value_of_another_type_is_named(path):
    wrong = changed(path, lambda owner, key: operator.setitem(owner, key, 1.5))
    with pytest.raises(ArtifactError) as caught:
        Manifest.from_dict(wrong)
    assert f"manifest{dotted(path)} is 1.5; expected" in str(caught.value)


@pytest.mark.parametrize(
    "path", [p for p in places(DOCUMENT) if isinstance(p[-1], str)], ids=dotted
)
def test_a_missing_key_is_named(path):
    free = any(key in ("state", "seeds", "tensors", "modules", "scores") for key in path[:-1])
    document = changed(path, lambda owner, key: owner.pop(key))
    if free:  # A mapping by name may have any names.
        Manifest.from_dict(document)
        return
    with pytest.raises(ArtifactError) as caught:
        Manifest.from_dict(document)
    if path[0] != "format":
        assert f"lacks the key {path[-1]!r}" in str(caught.value)


@pytest.mark.parametrize(
    "path", [(), ("format",), ("model",), ("model", "fingerprint"), ("fit",), ("canary",)]
)
def test_an_unknown_key_is_named_with_a_suggestion(path):
    document = copy.deepcopy(DOCUMENT)
    owner = document
    for key in path:
        owner = owner[key]
    near = next(iter(owner))
    owner[near + "s"] = 1
    with pytest.raises(ArtifactError, match=f"unknown key '{near}s'; did you mean '{near}'"):
        Manifest.from_dict(document)


@pytest.mark.parametrize("value", [True, None, "1", 1.0, [1], {}])
def test_an_integer_is_an_integer(value):
    document = changed(("model", "classes"), lambda owner, key: owner.update({key: value}))
    with pytest.raises(ArtifactError, match=r"manifest\.model\.classes is .*; expected an integer"):
        Manifest.from_dict(document)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"detectors": ()}, "detectors is empty"),
        ({"detectors": sample()[0].detectors * 2}, "two detectors are called alike"),
        ({"library": "1.0; rm -rf /"}, "library is"),
        ({"created": "yesterday"}, "expected UTC, as 2026"),
        ({"created": "2026-11-21T13:00:00+01:00"}, "expected UTC"),
        ({"fit": replace(sample()[0].fit, samples=-1)}, "negative"),
        ({"canary": replace(sample()[0].canary, scores={"x": "y"})}, "which is no detector here"),
    ],
)
def test_values_that_make_no_sense(changes, words):
    with pytest.raises(ArtifactError, match=words):
        replace(sample()[0], **changes)


def test_a_digest_is_sixty_four_hex_digits():
    with pytest.raises(ArtifactError, match="SHA-256 digest of 64 hex digits"):
        replace(sample()[0].model.fingerprint, digest="x" * 64)


def test_what_is_made_now_says_so():
    manifest = sample()[0]
    kept = {"torch", "bare", "detectors", "model"}
    made = Manifest(**{name: getattr(manifest, name) for name in kept})
    assert made.library == gradood.__version__ and made.format == FORMAT
    assert made.created.endswith("Z") and made.created >= "2026"
    assert Manifest.from_dict(made.to_dict()) == made


def test_every_tensor_is_referred_to():
    manifest, arrays = sample()
    assert manifest.tensors == set(arrays)


# -- versions -------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [(2, 0), (1, 2), (999, 0)])
def test_a_newer_format_is_refused_with_the_version_to_install(version):
    future = {"format": {"major": version[0], "minor": version[1]}, "library": "3.4.1", "new": 1}
    with pytest.raises(ArtifactError) as caught:
        Manifest.from_dict(future)
    said = str(caught.value)
    assert f"has format {version[0]}.{version[1]}; gradood {gradood.__version__} reads" in said
    assert "pip install 'gradood>=3.4.1'" in said


@pytest.mark.parametrize("library", [None, 3, "x' && rm -rf ~", "1" * 1000])
def test_no_command_is_made_of_a_version_that_is_none(library):
    with pytest.raises(ArtifactError, match=r"pip install --upgrade gradood\.$"):
        check_version({"format": {"major": 2, "minor": 0}, "library": library})


@pytest.mark.parametrize(
    "version", [None, 1, {}, {"major": 1}, {"major": True, "minor": 0}, {"major": -1, "minor": 0}]
)
def test_a_format_that_is_none(version):
    with pytest.raises(ArtifactError, match="no major and minor version"):
        Manifest.from_dict({**DOCUMENT, "format": version})


def test_a_file_of_the_first_format_loads():
    """Written once by gradood 0.1.0, and never again: whatever becomes of the format."""
    assert read(GOLDEN).verified.manifest == replace(
        sample()[0], library="0.1.0", format=Format(major=1, minor=0)
    )
    assert check(GOLDEN).manifest.format == Format(major=1, minor=0)


@pytest.mark.parametrize("current", [(1, 3), (2, 0)])
def test_an_older_format_loads(monkeypatch, current):
    now = Format(major=current[0], minor=current[1])
    monkeypatch.setattr("gradood.artifact.manifest.FORMAT", now)
    assert read(GOLDEN).verified.manifest.format == Format(major=1, minor=0)


def test_a_field_that_a_later_format_brings_has_its_default_in_older_files():
    @dataclass(frozen=True, kw_only=True)
    class Thing:
        old: int
        new: str = field(default="as before", metadata={SINCE: (1, 2)})

    assert decode(Thing, {"old": 1}, "thing", manifest_rules(1, 1)) == Thing(old=1)
    assert decode(Thing, {"old": 1, "new": "x"}, "thing", manifest_rules(1, 2)) == Thing(
        old=1, new="x"
    )
    with pytest.raises(ArtifactError, match="thing lacks the key 'new'"):
        decode(Thing, {"old": 1}, "thing", manifest_rules(1, 2))


# -- free parts -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (float("nan"), "manifest.preprocess.x is nan; expected a finite number"),
        (float("inf"), "manifest.preprocess.x is inf"),
        (2**70, "beyond 64 bits"),
        (object(), "is of type object; expected plain JSON"),
        (b"x", "is of type bytes"),
        ({1: 2}, "a key in manifest.preprocess.x is of type int"),
        ("\ud800", "half a character"),
    ],
)
def test_free_parts_must_be_plain(value, words):
    manifest = replace(sample()[0], preprocess={"x": value})
    with pytest.raises(ArtifactError) as caught:
        manifest.to_json()
    assert words in str(caught.value)


def test_free_parts_are_bounded_in_depth_and_size():
    deep: Any = 1
    for _ in range(MAX_DEPTH + 1):
        deep = [deep]
    with pytest.raises(ArtifactError, match=f"exceeds {MAX_DEPTH} levels deep"):
        check_plain(deep, "it")
    with pytest.raises(ArtifactError, match="exceeds 1,000,000 values"):
        check_plain([0] * 1_000_001, "it")
    check_plain(deep[0], "it")


def test_one_value_has_one_text():
    assert encode({"b": 1, "a": "é"}) == '{"a":"\\u00e9","b":1}'
    assert encode({"a": "é", "b": 1}) == encode({"b": 1, "a": "é"})
    for number in (0.1, 1e-300, 5e-324, -0.0, 1e16, 123456789.125):
        assert parse(encode(number), "it") == number


def test_text_of_any_language_is_kept():
    reason = "Änderung gewollt – 変更 \U0001f600"
    manifest = replace(sample()[0], overrides=(Override(what="x", reason=reason, details=()),))
    assert Manifest.from_dict(json.loads(manifest.to_json())).overrides[0].reason == reason


def test_many_keys_of_which_one_occurs_twice_are_refused_at_once():
    count = 40_000
    keys = [f'"{number:x}":0' for number in range(count)]
    text = "{" + ",".join([*keys, keys[-1]]) + "}"
    start = time.perf_counter()
    with pytest.raises(ArtifactError, match=f"the key '{count - 1:x}' occurs twice"):
        parse(text, "it", canonical=False)
    assert time.perf_counter() - start < 5  # Where every key is counted for itself, 30 s.
