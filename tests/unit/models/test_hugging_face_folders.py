"""Folders of texts, tokens and sound, and columns chosen: by stand-ins and by Transformers."""

import importlib
import io
import wave
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from gradood.cli import main
from gradood.data import AudioInput, FeatureInput, TensorInput, TextInput, TokenInput
from gradood.errors import BadRowError, ConfigError
from gradood.models._columns import ColumnChoice, chosen_input, stored_input
from gradood.models._encoders import argument_names, audio_input, text_input
from gradood.models._load import load_model
from gradood.models.opened import OpenedModel


class Masked(nn.Module):
    """A stand-in of a classifier of sequences."""

    def __init__(self):
        super().__init__()
        self.word = nn.Embedding(30, 4)
        self.config = SimpleNamespace(
            max_position_embeddings=6, pad_token_id=None, model_type="bert"
        )

    def forward(self, input_ids, attention_mask=None):
        return self.word(input_ids).mean(1)


class Plain(nn.Module):
    def forward(self, x):
        return x


class Pair(nn.Module):
    def forward(self, x_num, x_cat):
        return x_num


class Anything(nn.Module):
    def forward(self, *args, **kwargs):
        return args[0]


class Tokenizer:
    """A stand-in: a word is its length; [CLS] is 1."""

    model_input_names = ("input_ids", "token_type_ids", "attention_mask")
    pad_token_id = 2
    padding_side = "right"
    model_max_length = 10**30

    def __call__(self, text, *, truncation, verbose, max_length=None):
        ids = [1, *(len(word) for word in text.split())]
        ids = ids[:max_length] if truncation else ids
        return {
            "input_ids": ids,
            "token_type_ids": [0] * len(ids),
            "attention_mask": [1] * len(ids),
        }


class Extractor:
    sampling_rate = 8000
    return_attention_mask = True
    padding_value = 0.5
    model_input_names = ("input_values",)

    def __call__(self, samples, *, sampling_rate, return_tensors):
        return {"input_values": samples[None] * 2, "attention_mask": np.ones((1, len(samples)))}


@pytest.fixture
def transformers():
    logging = SimpleNamespace(
        CRITICAL=50,
        get_verbosity=lambda: 30,
        set_verbosity=lambda level: None,
        is_progress_bar_enabled=lambda: False,
        disable_progress_bar=lambda: None,
        enable_progress_bar=lambda: None,
    )
    made = {"AutoTokenizer": Tokenizer(), "AutoFeatureExtractor": Extractor()}
    reading = {
        name: SimpleNamespace(from_pretrained=lambda folder, o=one, **options: o)
        for name, one in made.items()
    }
    return SimpleNamespace(utils=SimpleNamespace(logging=logging), **reading)


def test_a_tokenizer_gives_what_the_model_takes_and_pads_as_it_says(transformers, tmp_path):
    inputs = text_input(transformers, tmp_path, Masked())
    row = inputs({"text": "a bbb"})
    assert {name: leaf.tolist() for name, leaf in row.items()} == {
        "input_ids": [1, 1, 3],
        "attention_mask": [1, 1, 1],
    }
    batch = inputs.collate([row, inputs({"text": "cc"})])
    assert batch["input_ids"].tolist() == [[1, 1, 3], [1, 2, 2]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]
    with pytest.raises(BadRowError, match="7 tokens, and the limit is 6"):
        inputs({"text": "a b c d e f"})
    cut = text_input(transformers, tmp_path, Masked(), max_length=4, truncate=True)
    assert len(cut({"text": "a b c d e f"})["input_ids"]) == 4
    with pytest.raises(ConfigError, match="--max-length is 9, and the model takes 6"):
        text_input(transformers, tmp_path, Masked(), max_length=9)


def test_another_tokenizer_than_that_of_the_fit_is_refused(transformers, tmp_path):
    def opened():
        def encoder(**options):
            return text_input(transformers, tmp_path, Masked(), **options)

        return OpenedModel(model=Masked(), reads="text", encoder=encoder)

    stored = opened().encoder(column="words").to_dict()
    assert stored_input(stored, opened()).columns == ("words",)
    (tmp_path / "vocab.txt").write_text("other")
    with pytest.raises(ConfigError, match="another tokenizer than the model's folder has now"):
        stored_input(stored, opened())


def test_a_feature_extractor_at_its_rate(transformers, tmp_path):
    inputs = audio_input(transformers, tmp_path, Masked())
    assert inputs.sampling_rate == 8000
    inputs = audio_input(transformers, tmp_path, Anything())
    row = inputs({"audio": tone(10, 8000)})
    assert row["input_values"].shape == (10,) and row["attention_mask"].shape == (10,)
    batch = inputs.collate([row, inputs({"audio": tone(4, 8000)})])
    assert batch["input_values"][1, 4:].tolist() == [0.5] * 6


def tone(samples, rate):
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setparams((1, 2, rate, 0, "NONE", ""))
        out.writeframes((8000 * np.sin(np.arange(samples) / 3)).astype("<i2").tobytes())
    return file.getvalue()


@pytest.mark.parametrize(
    ("choice", "model", "expected"),
    [
        (
            ColumnChoice(column="ids"),
            Masked(),
            TokenInput(column="ids", argument="input_ids", mask="attention_mask", vocabulary=30),
        ),
        (
            ColumnChoice(column="ids", padding=0, names={"mask": "none"}),
            Masked(),
            TokenInput(column="ids", padding=0, vocabulary=30),
        ),
        (ColumnChoice(column="ids"), Plain(), TokenInput(column="ids")),
        (
            ColumnChoice(column="m", shape=(1, 4, 2)),
            Plain(),
            TensorInput(column="m", shape=(1, 4, 2)),
        ),
        (ColumnChoice(features=("a", "b")), Plain(), FeatureInput(numbers=("a", "b"))),
        (
            ColumnChoice(features=("all",), categories=("c",)),
            Pair(),
            FeatureInput(categories={"c": ()}, arguments=("x_num", "x_cat")),
        ),
        (ColumnChoice(), Plain(), None),
    ],
)
def test_columns_go_to_the_arguments_of_forward(choice, model, expected):
    opened = OpenedModel(model=model)
    found = chosen_input(choice, opened)
    assert found == expected
    if found is not None:
        assert stored_input(found.to_dict(), opened) == found


def test_waves_of_a_model_of_ones_own_come_back():
    opened = OpenedModel(model=Plain())
    found = chosen_input(ColumnChoice(audio="a", sampling_rate=8000), opened)
    assert (
        isinstance(found, AudioInput)
        and stored_input(found.to_dict(), opened).to_dict() == found.to_dict()
    )
    with pytest.raises(ConfigError, match=r"--text-column needs a model with a tokenizer"):
        chosen_input(ColumnChoice(text="t"), opened)
    with pytest.raises(ConfigError, match="numbers and categories are two inputs"):
        chosen_input(ColumnChoice(features=("a",), categories=("b",)), opened)
    assert argument_names(Anything()) is None and argument_names(Pair()) == ["x_num", "x_cat"]


# ---------------------------------------------------------------- Transformers itself


def needs(name):
    try:
        return importlib.import_module(name)
    except ImportError:
        pytest.skip(f"{name} is not installed")


WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "book", "a", "flight", "play", "some", "music"]


@pytest.fixture
def texts(tmp_path):
    """A tiny BERT with a tokenizer built here, saved as Transformers does."""
    transformers = needs("transformers")
    tokenizers = needs("tokenizers")
    words = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="[UNK]")
    )
    words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    words.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    made = transformers.PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]"
    )
    made.save_pretrained(tmp_path)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.BertConfig(
        vocab_size=10, intermediate_size=16, max_position_embeddings=12, num_labels=3, **sizes
    )
    return transformers, config, tmp_path


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("task", ["Sequence", "Token"])
def test_a_folder_of_texts(texts, task):
    transformers, config, folder = texts
    model = getattr(transformers, f"BertFor{task}Classification")(config).eval()
    model.save_pretrained(folder)
    loaded = load_model(f"hf:{folder}")
    assert type(loaded.model).__name__ == f"BertFor{task}Classification"
    inputs = loaded.preprocess
    assert isinstance(inputs, TextInput) and inputs.max_length == 12
    rows = [inputs({"text": text}) for text in ("book a flight", "play music")]
    batch = inputs.collate(rows)
    assert batch["input_ids"].tolist() == [[2, 4, 5, 6, 3], [2, 7, 9, 3, 0]]
    with torch.inference_mode():
        alone = loaded.model(**inputs.collate(rows[1:])).logits
        together = loaded.model(**batch).logits[1:]
    together = together[:, :4] if task == "Token" else together
    assert torch.allclose(alone, together, rtol=1e-4, atol=1e-6)
    with pytest.raises(BadRowError, match="14 tokens, and the limit is 12"):
        inputs({"text": "music " * 12})
    assert loaded.preprocess_like(inputs.to_dict()).to_dict() == inputs.to_dict()


@pytest.fixture
def sound(tmp_path):
    """A tiny wav2vec2 of random weights with its feature extractor, saved as Transformers does."""
    transformers = needs("transformers")
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.Wav2Vec2Config(
        **small,
        intermediate_size=16,
        conv_dim=(8, 8),
        conv_stride=(5, 4),
        conv_kernel=(10, 8),
        num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2,
        num_labels=3,
        classifier_proj_size=8,
        feat_extract_norm="layer",
    )
    torch.manual_seed(0)
    folder = tmp_path / "wav2vec2"
    transformers.Wav2Vec2ForSequenceClassification(config).eval().save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor(return_attention_mask=True).save_pretrained(folder)
    return folder


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_folder_of_sound(sound):
    loaded = load_model(f"hf:{sound}")
    inputs = loaded.preprocess
    assert isinstance(inputs, AudioInput) and inputs.sampling_rate == 16000
    rows = [inputs({"audio": tone(n, 16000)}) for n in (900, 600)]
    with torch.inference_mode():
        alone = loaded.model(**inputs.collate(rows[1:])).logits
        together = loaded.model(**inputs.collate(rows)).logits[1:]
    assert torch.allclose(alone, together, rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_folder_of_sound_by_the_shell(sound, tmp_path):
    """Fit, calibrate and score folders of waves, some of which cannot be used."""
    parquet = pytest.importorskip("pyarrow.parquet")
    for place, (part, count) in enumerate((("fit", 12), ("known", 60), ("new", 6))):
        for kind in range(3):
            (tmp_path / part / str(kind)).mkdir(parents=True)
            for row in range(count // 3):
                wave = tone(500 + 13 * row + 5 * kind + place, 16000)
                (tmp_path / part / str(kind) / f"{row}.wav").write_bytes(wave)
    (tmp_path / "new" / "0" / "broken.wav").write_bytes(b"no sound")
    (tmp_path / "new" / "1" / "cut.wav").write_bytes(tone(500, 16000)[:600])
    model, out = ["--model", f"hf:{sound}"], tmp_path / "detector.safetensors"
    detector, workers = ["--detector", str(out)], ["--workers", "0"]
    data = ["--audio-column", "audio", *workers]
    fit = ["fit", *model, "--data", str(tmp_path / "fit"), *data]
    assert main([*fit, "--methods", "energy,knn", "--combine", "fisher", "--out", str(out)]) == 0
    calibrate = ["calibrate", *model, *detector, "--data", str(tmp_path / "known"), *workers]
    assert main([*calibrate, "--fpr", "0.1", "--out", str(out)]) == 0
    score = ["score", str(tmp_path / "new"), *model, *detector, *workers]
    assert main([*score, "--out", str(tmp_path / "scores")]) == 4
    rows = parquet.read_table(tmp_path / "scores").to_pylist()
    statuses = sorted(row["status"] for row in rows)
    assert statuses == ["not_audio", *["ok"] * 6, "truncated"]
