"""Broken rows of tables: each is a row with its reason, and no other row is lost with it."""

import json

import numpy as np
import pytest
import torch

from gradood.data import (
    AudioInput,
    FeatureInput,
    TensorInput,
    TextInput,
    TokenInput,
    list_columns,
)
from gradood.data._waves import MAX_SAMPLES, resampled
from gradood.errors import BadRowError, DataError

IDS = TokenInput(column="ids", argument="input_ids", mask="attention_mask", vocabulary=100)
NUMBERS = FeatureInput(numbers=("a", "b"))


def refusal(inputs, **values):
    """Status and reason of a row that cannot be used."""
    with pytest.raises(BadRowError) as caught:
        inputs(values)
    return caught.value.status, str(caught.value)


def csv_rows(tmp_path, text):
    """Of each row of a CSV file its values, or its status."""
    path = tmp_path / "rows.csv"
    path.write_text(text)
    source = list_columns(str(path), NUMBERS)
    found = []
    for row in range(len(source)):
        try:
            found.append(tuple(source.values(row).values()))
        except BadRowError as error:
            found.append(error.status)
    return found


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (['"1,2', "3,4", "5,6"], ["unreadable", ("3", "4"), ("5", "6")]),
        (['"1,2', "3,4", '"5",6'], ["unreadable", ("3", "4"), ("5", "6")]),
        (['"1,2', "3,4", '5",6,7', "8,9"], ["unreadable", ("3", "4"), "unreadable", ("8", "9")]),
        (['"1"0,2', "3,4"], ["unreadable", ("3", "4")]),
        (['"1\n2",3', "4,5"], [("1\n2", "3"), ("4", "5")]),
        (["1,2", '"', '"'], [("1", "2"), "unreadable", "unreadable"]),
    ],
)
def test_a_quote_that_is_not_closed_takes_no_other_line(tmp_path, lines, expected):
    assert csv_rows(tmp_path, "\n".join(["a,b", *lines]) + "\n") == expected


def test_a_header_alone_names_its_columns(tmp_path):
    path = tmp_path / "none.csv"
    path.write_text("a,b\n")
    with pytest.raises(DataError, match="no row in"):
        list_columns(str(path), NUMBERS)
    path.write_text('"a,b\n1,2\n')
    with pytest.raises(DataError, match=r"first line of 'none\.csv' is .*no CSV"):
        list_columns(str(path), NUMBERS)


@pytest.mark.parametrize(
    ("value", "status", "reason"),
    [
        ([], "empty", "no token id"),
        ("", "empty", "no token id"),
        ("1_0", "wrong_type", "'1_0'"),
        ("[" * 100_000, "wrong_type", "expected token ids"),
        ([2**63], "wrong_type", "beyond 64 bits"),
        ([[1, None], [2, 3]], "empty", "1 of its 4 values are absent"),
    ],
)
def test_ids_that_are_none_say_why(value, status, reason):
    found = refusal(IDS, ids=value)
    assert found[0] == status and reason in found[1]


def test_a_whole_number_beyond_64_bits_does_not_turn_negative():
    assert refusal(TensorInput(column="x", whole=True), x=[2**63 + 5])[0] == "wrong_type"


@pytest.mark.parametrize(
    ("value", "status"),
    [
        (float("nan"), "nonfinite_input"),
        (float("inf"), "nonfinite_input"),
        (2**63, "wrong_type"),
        (1e300, "wrong_type"),
        ("1_0", "wrong_type"),
    ],
)
def test_categories_that_are_no_codes(value, status):
    assert refusal(FeatureInput(numbers=(), categories={"k": None}), k=value)[0] == status
    assert refusal(NUMBERS, a=1, b="1_0")[0] == "wrong_type"


def letters(text):
    """A tokenizer that knows words of letters alone."""
    ids = [len(word) for word in text.split() if word.isalpha()]
    return {"input_ids": ids, "attention_mask": [1] * len(ids)}


def test_a_text_without_tokens_is_empty_and_joins_no_batch():
    fills = {"input_ids": 0, "attention_mask": 0}
    inputs = TextInput(column="text", tokenizer=letters, filling=fills)
    assert refusal(inputs, text="?!")[0] == "empty"
    whole, odd = inputs({"text": "a bb"}), {n: torch.zeros(3) for n in fills}
    assert inputs.form(whole) == inputs.form(inputs({"text": "c"})) != inputs.form(odd)
    assert inputs.form(whole) != inputs.form({n: torch.zeros(3, 2).long() for n in fills})


def test_sampling_rates_that_no_sound_has():
    pytest.importorskip("scipy")
    sound = np.zeros(1000, np.float32)
    for rate, status in ((0, "broken"), (2**32 - 1, "broken"), (1, "too_large")):
        with pytest.raises(BadRowError) as caught:
            resampled(sound, rate, MAX_SAMPLES // 1000 + 1)
        assert caught.value.status == status
    assert len(resampled(sound, 16_000, 8_000)) == 500


def test_rows_without_a_sound_leave_the_stamps_of_others(tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.wav").write_bytes(name.encode() * (1 + ord(name)))
    path = tmp_path / "rows.jsonl"
    values = [None, "a.wav", 5, "b.wav", "a\0.wav"]
    path.write_text("".join(json.dumps({"audio": value}) + "\n" for value in values))
    inputs = AudioInput(column="audio")
    source = list_columns(str(path), inputs)
    stamps = source.stamps()
    (tmp_path / "b.wav").write_bytes(b"changed")
    assert [old == new for old, new in zip(stamps, source.stamps(), strict=True)] == [
        *(True, True, True),
        *(False, True),
    ]
    assert refusal(inputs, audio=source.values(4)["audio"])[0] == "unreadable"
