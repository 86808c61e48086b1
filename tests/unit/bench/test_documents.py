import json
import math
from pathlib import PurePosixPath

import pytest
import torch

from gradood.bench import json_text, plain


def test_numbers_that_json_lacks_become_words_that_float_reads_back():
    text = json_text({"a": math.inf, "b": [-math.inf, math.nan], "c": 0.5})
    found = json.loads(text, parse_constant=pytest.fail)
    assert found == {"a": "inf", "b": ["-inf", "nan"], "c": 0.5}
    assert float(found["a"]) == math.inf


def test_tensors_paths_tuples_and_keys_become_plain():
    given = {1: torch.tensor([1.0, math.nan]), "p": PurePosixPath("a/b"), "t": (True, None, 3)}
    assert plain(given) == {"1": [1.0, "nan"], "p": "a/b", "t": [True, None, 3]}


def test_what_has_no_plain_form_is_refused():
    with pytest.raises(TypeError, match="object"):
        plain(object())


def test_text_ends_in_one_newline_and_keeps_letters():
    assert json_text({"a": "σ"}) == '{\n  "a": "σ"\n}\n'


def test_bytes_of_a_path_that_are_not_utf_8_come_back_as_they_were():
    path = "caf\udce9/é|\u2028"
    text = json_text({"path": path})
    assert json.loads(text.encode("utf-8").decode("utf-8")) == {"path": path}
