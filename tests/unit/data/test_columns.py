"""Columns of tables as inputs: what each row becomes, and why a broken one becomes none."""

import io
import json
import wave

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from gradood.data import (
    AudioInput,
    FeatureInput,
    TensorInput,
    TextInput,
    TokenInput,
    list_columns,
    loader,
    open_columns,
)
from gradood.data import _waves as waves
from gradood.data._waves import decode_wave, resampled
from gradood.errors import BadRowError, ConfigError, DataError

IDS = TokenInput(column="ids", argument="input_ids", mask="attention_mask", vocabulary=100)


def wav(samples, rate=8000, width=2, channels=1):
    """A WAV file of plain PCM."""
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setparams((channels, width, rate, 0, "NONE", ""))
        scaled = np.clip(np.asarray(samples) * 2 ** (8 * width - 1), -(2.0**31), 2.0**31 - 1)
        if width == 1:
            out.writeframes((scaled + 128).astype(np.uint8).tobytes())
        elif width == 3:
            out.writeframes(
                (scaled * 256).astype("<i4").view(np.uint8).reshape(-1, 4)[:, 1:].tobytes()
            )
        else:
            out.writeframes(scaled.astype(f"<i{width}").tobytes())
    return file.getvalue()


def table(tmp_path, kind, rows):
    """The same rows as Parquet, CSV or JSON Lines."""
    path = tmp_path / f"rows.{kind}"
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        names = list(rows[0])
        lines = [",".join(names)]
        for row in rows:
            cells = ["" if row[n] is None else json.dumps(row[n]) for n in names]
            lines.append(",".join('"' + c.replace('"', "") + '"' for c in cells))
        path.write_text("\n".join(lines) + "\n")
    return str(path)


def status(inputs, **values):
    with pytest.raises(BadRowError) as caught:
        inputs(values)
    assert str(caught.value).endswith((".", "truncate.", "scipy.")) and len(str(caught.value)) > 10
    return caught.value.status


@pytest.mark.parametrize("kind", ["parquet", "csv", "jsonl"])
def test_the_same_rows_in_every_kind_of_table(tmp_path, kind):
    rows = [
        {"ids": [5, 6, 7], "label": 0, "a": 1.5, "b": 2.0},
        {"ids": [8], "label": 1, "a": -1.0, "b": 0.0},
        {"ids": [9, 4], "label": 1, "a": 0.25, "b": 1.0},
    ]
    source = table(tmp_path, kind, rows)
    ids = open_columns(source, IDS)
    assert ids.labels is not None and ids.labels.tolist() == [0, 1, 1]
    x, y = next(iter(loader(ids, batch_size=3)))
    assert y.tolist() == [0, 1, 1]
    assert x["input_ids"].tolist() == [[5, 6, 7], [8, 0, 0], [9, 4, 0]]
    assert x["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0], [1, 1, 0]]
    features = open_columns(f"{source}[1:3]", FeatureInput(), labeled=False)
    assert features.preprocess.columns == ("a", "b")
    assert features[0].tolist() == [-1.0, 0.0] and len(features) == 2
    assert open_columns(source, TensorInput(column="ids"), labeled=False)[1].dtype == torch.int64
    names = [ids.name(0), list_columns(source, IDS).id(2)]
    assert names == [f"rows.{kind}:0", f"rows.{kind}:2"]


def test_contents_and_origins_tell_rows_from_others(tmp_path):
    rows = [{"ids": [1, 2]}, {"ids": [3]}]
    first = open_columns(table(tmp_path, "jsonl", rows), IDS)
    (tmp_path / "other").mkdir()
    second = open_columns(table(tmp_path / "other", "jsonl", rows[::-1]), IDS)
    assert first.content() == first[:].content() != second.content()
    assert len(set(first.origins()) | set(second.origins())) == 4
    assert first.encoded(0) == second.encoded(1) != first.encoded(1)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "empty"),
        ("some words", "wrong_type"),
        ([1, "a"], "wrong_type"),
        ([1.5], "wrong_type"),
        (b"ab", "wrong_type"),
        ([[1], [2, 3]], "wrong_type"),
        ([1, None], "empty"),
        ([], "empty"),
        ([[1, 2]], "wrong_size"),
        ([1, 100], "out_of_vocabulary"),
        ([-1], "out_of_vocabulary"),
        (list(range(9)), "too_long"),
    ],
)
def test_token_ids_that_cannot_be_used(value, expected):
    limited = TokenInput(column="ids", mask="mask", vocabulary=100, max_length=8)
    assert status(limited, ids=value) == expected


def test_padding_ids_are_masked_and_long_rows_can_be_cut():
    padded = TokenInput(column="ids", mask="mask", padding=0, max_length=3, truncate=True)
    row = padded({"ids": "[4, 0, 5, 6]"})
    assert row["input_ids"].tolist() == [4, 0, 5] and row["mask"].tolist() == [1, 0, 1]
    assert status(padded, ids=[0, 0]) == "empty"
    plain = TokenInput(column="ids")
    assert plain({"ids": "4 5"}).tolist() == [4, 5]
    with pytest.raises(DataError, match="differ in size"):
        plain.collate([torch.tensor([1]), torch.tensor([1, 2])])
    filled = TokenInput(column="ids", padding=7)
    assert filled.collate([torch.tensor([1]), torch.tensor([1, 2])]).tolist() == [[1, 7], [1, 2]]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ([1.0] * 5, "wrong_size"),
        ([1.0] * 5 + [float("nan")], "nonfinite_input"),
        ("abc", "wrong_type"),
        (None, "empty"),
    ],
)
def test_tensors_of_a_shape(value, expected):
    inputs = TensorInput(column="x", shape=(1, 2, 3))
    assert inputs({"x": [0.5] * 6}).shape == (1, 2, 3)
    assert status(inputs, x=value) == expected


def test_features_and_categories(tmp_path):
    rows = [{"size": 1, "color": c, "label": 0} for c in ("red", "blue", "red")]
    chosen = FeatureInput(categories={"color": ()}, arguments=("numbers", "codes"))
    opened = open_columns(table(tmp_path, "csv", rows), chosen, labeled=False)
    assert opened.preprocess.categories == {"color": ("blue", "red")}
    row = opened[0]
    assert row["numbers"].tolist() == [1.0] and row["codes"].tolist() == [1]
    found = opened.preprocess
    assert status(found, size=1, color="green") == "out_of_vocabulary"
    assert status(found, size="big", color="red") == "wrong_type"
    assert status(found, size=None, color="red") == "empty"
    assert status(found, size=1e999, color="red") == "nonfinite_input"
    again = FeatureInput(**{k: v for k, v in found.to_dict().items() if k != "kind"})
    assert again == found


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_plain_waves_by_the_standard_library(width, monkeypatch):
    monkeypatch.setattr(waves, "soundfile", lambda: None)
    wanted = np.array([0.0, 0.5, -0.5, 0.25])
    samples, rate = decode_wave(wav(wanted, width=width))
    assert rate == 8000 and samples.dtype == np.float32
    assert np.allclose(samples, wanted, atol=2.0 ** (2 - 8 * width))
    stereo, _ = decode_wave(wav([0.5, 0.0, -0.5, 0.0], channels=2))
    assert np.allclose(stereo, [0.25, -0.25], atol=1e-4)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "empty"),
        (b"", "empty"),
        (3, "wrong_type"),
        (b"<html>no sound</html>", "not_audio"),
        (b"RIFF\x00\x00", "broken"),
        (wav([0.1] * 50)[:-20], "truncated"),
        (wav([]), "empty"),
        (wav([0.1] * 99), "too_long"),
        ("absent.wav", "unreadable"),
    ],
)
def test_sound_that_cannot_be_used(value, expected, monkeypatch, tmp_path):
    monkeypatch.setattr(waves, "soundfile", lambda: None)
    monkeypatch.chdir(tmp_path)
    assert status(AudioInput(column="audio", max_length=64), audio=value) == expected


@pytest.mark.parametrize("container", ["WAV", "FLAC", "OGG", "AIFF", "MP3"])
def test_sound_by_soundfile(container):
    soundfile = pytest.importorskip("soundfile")
    wanted = 0.5 * np.sin(np.arange(1600) / 9)
    found = io.BytesIO()
    soundfile.write(found, np.stack([wanted, wanted], 1), 16000, format=container)
    samples, rate = decode_wave(found.getvalue())
    assert rate == 16000 and samples.dtype == np.float32
    assert np.abs(samples[:1600] - wanted).max() < 0.05
    if container != "MP3":  # A row of frames, each for itself.
        cut = status(AudioInput(column="audio"), audio=found.getvalue()[:-900])
        if container in ("WAV", "AIFF"):
            assert cut == "truncated"
        assert cut in ("truncated", "broken", "empty")


def test_a_header_that_names_more_than_there_is(monkeypatch):
    class Reader:
        """Decodes whatever it is given, as soundfile does."""

        class SoundFile:
            frames, channels, samplerate = 2, 1, 8000

            def __init__(self, file):
                pass

            def __enter__(self):
                return self

            def __exit__(self, *_):
                pass

            def read(self, **_):
                return np.zeros((2, 1), np.float32)

    monkeypatch.setattr(waves, "soundfile", lambda: Reader)
    inputs, whole = AudioInput(column="audio"), wav([0.1] * 50)
    assert status(inputs, audio=whole[:-20]) == "truncated"
    streamed = whole[:4] + b"\xff\xff\xff\xff" + whole[8:-20]
    assert len(inputs({"audio": whole})) == len(inputs({"audio": streamed})) == 2


def test_sound_that_needs_a_decoder_or_a_resampler(monkeypatch):
    monkeypatch.setattr(waves, "soundfile", lambda: None)
    assert status(AudioInput(column="audio"), audio=b"fLaC" + bytes(40)) == "no_decoder"
    tone = np.sin(np.arange(800) * 2 * np.pi * 100 / 8000).astype(np.float32)
    at16 = np.sin(np.arange(1600) * 2 * np.pi * 100 / 16000)
    pytest.importorskip("scipy")
    assert np.abs(resampled(tone, 8000, 16000) - at16)[100:-100].max() < 0.01
    monkeypatch.setattr(waves, "resampling", lambda: None)
    inputs = AudioInput(column="audio", sampling_rate=16000)
    assert status(inputs, audio=wav([0.1] * 9)) == "wrong_rate"


def test_sound_by_paths_and_by_structs(tmp_path):
    (tmp_path / "a.wav").write_bytes(wav([0.5, -0.5]))
    rows = [{"audio": "a.wav"}]
    source = table(tmp_path, "csv", rows)
    dataset = open_columns(source, AudioInput(column="audio"))
    assert np.allclose(dataset[0], [0.5, -0.5], atol=1e-4)
    content = dataset.content()
    (tmp_path / "a.wav").write_bytes(wav([0.25, -0.5]))
    assert dataset.content() != content
    path = tmp_path / "struct.parquet"
    pq.write_table(pa.Table.from_pylist([{"audio": {"bytes": wav([0.5]), "path": None}}]), path)
    masked = AudioInput(
        column="audio", argument="x", mask="mask", filling={"x": 0.0, "mask": 0}, max_length=9
    )
    row = open_columns(path, masked)[0]
    assert row["mask"].tolist() == [1] and abs(float(row["x"][0]) - 0.5) < 1e-3


def words(text):
    ids = [1 + len(word) for word in text.split()]
    return {"input_ids": ids, "attention_mask": [1] * len(ids)}


def test_texts_by_a_tokenizer():
    inputs = TextInput(
        column="text",
        tokenizer=words,
        filling={"input_ids": 0, "attention_mask": 0},
        max_length=4,
        left=True,
    )
    rows = [inputs({"text": "a bb"}), inputs({"text": "ccc"})]
    assert inputs.collate(rows)["input_ids"].tolist() == [[2, 3], [0, 4]]
    assert status(inputs, text=None) == status(inputs, text=" ") == "empty"
    assert status(inputs, text=3) == "wrong_type"
    assert status(inputs, text="a b c d e") == "too_long"


def test_broken_lines_are_rows_of_their_own(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"ids": [1]}\n\n{"ids": \n[2]\n{"ids": [3]}\n')
    source = list_columns(str(path), IDS)
    assert len(source) == 4
    for row in (1, 2):
        with pytest.raises(BadRowError, match="its line is") as caught:
            source.values(row)
        assert caught.value.status == "unreadable"
    path = tmp_path / "b.csv"
    path.write_text('ids,name\n"1 2",x\n"3"\n"4",y\n')
    source = list_columns(str(path), IDS)
    assert source.values(2) == {"ids": "4"} and source.id(2) == "b.csv:2:y"
    with pytest.raises(BadRowError, match="has 1 fields; expected 2"):
        source.values(1)
    with pytest.raises(DataError, match=r"row 1 of .* cannot be used: its line has 1 fields"):
        open_columns(str(path), IDS)[1]


def test_what_is_no_table_or_has_no_such_column(tmp_path):
    source = table(tmp_path, "csv", [{"ids": [1], "label": 1}])
    with pytest.raises(ConfigError, match=r"no column 'idz' .* did you mean 'ids'"):
        open_columns(source, TokenInput(column="idz"))
    with pytest.raises(DataError, match="does not exist"):
        open_columns(str(tmp_path / "absent.csv"), IDS)
    (tmp_path / "a.txt").write_text("a.png 3\n")
    with pytest.raises(DataError, match=r"is no table; expected a \.parquet file"):
        open_columns(str(tmp_path / "a.txt"), IDS)
    with pytest.raises(DataError, match="none in"):
        open_columns(f"{source}[5:]", IDS)
