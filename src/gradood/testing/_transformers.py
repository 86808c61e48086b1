"""Small random classifiers of Hugging Face Transformers: texts, waves, spectra."""

import importlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from gradood.testing._sequences import InputNetwork, texts

__all__ = ["transformers_networks"]

_WORDS = 60
_SMALL = {
    "vocab_size": _WORDS,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
    "num_labels": 5,
}


def words(n: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Token ids with their mask."""
    return texts(n, generator, _WORDS)


def waves(n: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Waves of 400 to 800 samples, padded with zeros, and their mask."""
    counts = torch.randint(400, 801, (n,), generator=generator)
    mask = (torch.arange(800) < counts[:, None]).long()
    return {"input_values": torch.randn(n, 800, generator=generator) * mask, "attention_mask": mask}


def spectra(n: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Mel spectra of a fixed length."""
    return {"input_values": torch.randn(n, 64, 32, generator=generator)}


def transformers_networks() -> dict[str, InputNetwork]:
    """Of each architecture one, by name; empty where Transformers is not installed."""
    try:
        hf: Any = importlib.import_module("transformers")
    except ImportError:
        return {}
    conv = {"conv_dim": (16, 16), "conv_stride": (5, 4), "conv_kernel": (10, 8)}
    speech = {**_SMALL, **conv, "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2}
    speech |= {
        "classifier_proj_size": 16,
        "feat_extract_norm": "layer",
        "do_stable_layer_norm": True,
    }
    spectrum = {**_SMALL, "num_mel_bins": 32, "max_length": 64, "patch_size": 16}
    distil = {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64}
    gpt = {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 64, "pad_token_id": 0}
    deberta = {**_SMALL, "relative_attention": True, "pos_att_type": ["p2c", "c2p"]}
    known: dict[str, tuple[Callable[[], nn.Module], Callable[..., dict[str, Tensor]]]] = {
        "bert": (
            lambda: hf.BertForSequenceClassification(hf.BertConfig(**_SMALL)),
            words,
        ),
        "distilbert": (
            lambda: hf.DistilBertForSequenceClassification(
                hf.DistilBertConfig(**{**_SMALL, **distil})
            ),
            words,
        ),
        "roberta": (
            lambda: hf.RobertaForSequenceClassification(
                hf.RobertaConfig(**{**_SMALL, "pad_token_id": 0, "max_position_embeddings": 80})
            ),
            words,
        ),
        "deberta-v2": (
            lambda: hf.DebertaV2ForSequenceClassification(hf.DebertaV2Config(**deberta)),
            words,
        ),
        "gpt-2": (
            lambda: hf.GPT2ForSequenceClassification(hf.GPT2Config(**{**_SMALL, **gpt})),
            words,
        ),
        "wav2vec2": (
            lambda: hf.Wav2Vec2ForSequenceClassification(hf.Wav2Vec2Config(**speech)),
            waves,
        ),
        "ast": (
            lambda: hf.ASTForAudioClassification(hf.ASTConfig(**spectrum)),
            spectra,
        ),
    }
    return {
        name: InputNetwork(name, lambda _, make=make: make(), draw)
        for name, (make, draw) in known.items()
    }
