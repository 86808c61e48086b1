"""Tokenizers and feature extractors in folders of Hugging Face's form."""

import hashlib
import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

import numpy as np
from torch import nn

from gradood.data import AudioInput, TextInput
from gradood.errors import ConfigError
from gradood.models._transformers import LOCAL, first_line, silent

__all__ = ["argument_names", "audio_input", "text_input"]

_TOKENIZER_FILES = (
    *("tokenizer.json", "tokenizer_config.json", "vocab.txt", "vocab.json", "merges.txt"),
    *("spiece.model", "tokenizer.model", "sentencepiece.bpe.model"),
)
_EXTRACTOR_FILES = ("preprocessor_config.json",)
_OFFSET = ("camembert", "data2vec-text", "ibert", "longformer", "mpnet", "roberta", "xlm-roberta")
"""Models whose first positions are taken by padding."""
_NO_LIMIT = 10**9
"""A tokenizer without a limit says some number above it."""


def argument_names(model: nn.Module) -> Sequence[str] | None:
    """Names of what a model's forward takes, in order; None if it takes any.

    Args:
        model: unwrapped, or as it is.
    """
    try:
        parameters = inspect.signature(model.forward).parameters.values()
    except (TypeError, ValueError):  # Made by another language, as a scripted module is.
        return None
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return None
    return [p.name for p in parameters if p.kind is not p.VAR_POSITIONAL]


@final
class _Tokenizer:
    """From a text to lists of numbers, those that the model takes."""

    def __init__(self, tokenizer: Any, names: Sequence[str], max_length: int | None) -> None:
        self.tokenizer = tokenizer
        self.names = names
        self.max_length = max_length

    def __call__(self, text: str) -> Mapping[str, Any]:
        options = {} if self.max_length is None else {"max_length": self.max_length}
        cut = self.max_length is not None
        # Without `verbose`, a text above the limit is no warning here: the row says so.
        found = self.tokenizer(text, truncation=cut, verbose=False, **options)
        return {name: found[name] for name in self.names if name in found}


@final
class _Extractor:
    """From a waveform to arrays, those that the model takes."""

    def __init__(self, extractor: Any, names: Sequence[str] | None, rate: int) -> None:
        self.extractor = extractor
        self.names = names
        self.rate = rate

    def __call__(self, samples: np.ndarray) -> Mapping[str, Any]:
        found = self.extractor(samples, sampling_rate=self.rate, return_tensors="np")
        names = list(found) if self.names is None else [n for n in found if n in self.names]
        return {name: np.array(found[name][0]) for name in names}


def text_input(
    transformers: Any,
    folder: Path,
    model: nn.Module,
    *,
    column: str = "text",
    max_length: int | None = None,
    truncate: bool = False,
) -> TextInput:
    """The input of a classifier of texts, by the tokenizer in its folder.

    Args:
        transformers: the package.
        folder: of the model.
        model: the classifier.
        column: of texts.
        max_length: most tokens; None for as many as tokenizer and model take.
        truncate: cut longer texts.

    Raises:
        ConfigError: there is no tokenizer that Transformers can read.
    """
    tokenizer: Any = _read(transformers, "AutoTokenizer", folder)
    limit = _most_tokens(tokenizer, model.config, max_length)
    if truncate and limit is None:
        raise ConfigError("--truncate was given, and no limit is known; give --max-length.")
    taken = argument_names(model)
    names = [n for n in tokenizer.model_input_names if taken is None or n in taken]
    pad = tokenizer.pad_token_id
    if pad is None:
        pad = getattr(model.config, "pad_token_id", None)
    fills: Mapping[str, float] | None = None
    if pad is not None and "attention_mask" in names:
        fills = dict.fromkeys(names, 0) | {"input_ids": pad}
    return TextInput(
        column=column,
        tokenizer=_Tokenizer(tokenizer, names, limit if truncate else None),
        identity=_digest(folder, _TOKENIZER_FILES),
        filling=fills,
        left=tokenizer.padding_side == "left",
        max_length=limit,
        truncate=truncate,
    )


def audio_input(
    transformers: Any,
    folder: Path,
    model: nn.Module,
    *,
    column: str = "audio",
    max_length: int | None = None,
    truncate: bool = False,
) -> AudioInput:
    """The input of a classifier of sound, by the feature extractor in its folder.

    Args:
        transformers: the package.
        folder: of the model.
        model: the classifier.
        column: of sound.
        max_length: most samples, or None.
        truncate: cut longer sound.

    Raises:
        ConfigError: there is no feature extractor that Transformers can read.
    """
    extractor: Any = _read(transformers, "AutoFeatureExtractor", folder)
    rate = int(extractor.sampling_rate)
    fills: Mapping[str, float] | None = None
    if getattr(extractor, "return_attention_mask", False):
        value = float(getattr(extractor, "padding_value", 0.0))
        fills = {extractor.model_input_names[0]: value, "attention_mask": 0}
    return AudioInput(
        column=column,
        sampling_rate=rate,
        extractor=_Extractor(extractor, argument_names(model), rate),
        identity=_digest(folder, _EXTRACTOR_FILES),
        filling=fills,
        max_length=max_length,
        truncate=truncate,
    )


def _read(transformers: Any, kind: str, folder: Path) -> Any:
    try:
        with silent(transformers):
            return getattr(transformers, kind).from_pretrained(folder, **LOCAL)
    except ImportError:
        raise
    except Exception as error:
        raise ConfigError(
            f"Transformers cannot read the {kind.removeprefix('Auto')} in {str(folder)!r}: "
            f"{type(error).__name__}: {first_line(error)}. Save it there (save_pretrained), or "
            "give rows of token ids (--input-column)."
        ) from error


def _most_tokens(tokenizer: Any, config: Any, wanted: int | None) -> int | None:
    """The longest text, in tokens; None if nothing limits it."""
    known = []
    positions = getattr(config, "max_position_embeddings", None)
    if isinstance(positions, int) and positions > 0:
        offset = (getattr(config, "pad_token_id", None) or 0) + 1
        known.append(positions - offset if config.model_type in _OFFSET else positions)
    if tokenizer.model_max_length < _NO_LIMIT:
        known.append(int(tokenizer.model_max_length))
    if wanted is not None and known and wanted > min(known):
        raise ConfigError(
            f"--max-length is {wanted}, and the model takes {min(known)} tokens; expected no more."
        )
    return wanted if wanted is not None else min(known, default=None)


def _digest(folder: Path, names: Sequence[str]) -> str:
    """SHA-256 of the files that a tokenizer or an extractor is made of."""
    total = hashlib.sha256()
    for name in names:
        if (folder / name).is_file():
            total.update(f"{name}\0".encode() + (folder / name).read_bytes())
    return total.hexdigest()
