"""Heads of small random models of `transformers`: what is found, and how well it is verified.

python benchmarks/sequence_heads.py > docs/results/sequence-heads.md

Needs `transformers`, which no extra brings. Seconds on one core.
"""

import warnings

import torch
import transformers as tf

from gradood._engine.binding import observed
from gradood.errors import GradoodError
from gradood.evidence import FEATURES, LOGITS, gather
from gradood.taps import Arguments, Inputs

ROWS, LENGTH, CLASSES = 12, 11, 5
_SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "num_labels": CLASSES,
}
_TEXT = {**_SIZES, "vocab_size": 99}
_PLACES = {"max_position_embeddings": 80}


def texts() -> dict[str, torch.nn.Module]:
    """Classifiers of token ids with a mask."""
    small = {"num_labels": CLASSES, "vocab_size": 99}
    return {
        "BERT": tf.BertForSequenceClassification(tf.BertConfig(**_TEXT)),
        "BERT, one output": tf.BertForSequenceClassification(
            tf.BertConfig(**{**_TEXT, "num_labels": 1})
        ),
        "RoBERTa": tf.RobertaForSequenceClassification(
            tf.RobertaConfig(**_TEXT, **_PLACES, pad_token_id=0)
        ),
        "DistilBERT": tf.DistilBertForSequenceClassification(
            tf.DistilBertConfig(dim=32, n_layers=2, n_heads=2, hidden_dim=48, **small)
        ),
        "DeBERTa": tf.DebertaForSequenceClassification(tf.DebertaConfig(**_TEXT)),
        "DeBERTa-v2": tf.DebertaV2ForSequenceClassification(tf.DebertaV2Config(**_TEXT)),
        "ELECTRA": tf.ElectraForSequenceClassification(
            tf.ElectraConfig(**_TEXT, embedding_size=32)
        ),
        "ALBERT": tf.AlbertForSequenceClassification(tf.AlbertConfig(**_TEXT, embedding_size=16)),
        "MPNet": tf.MPNetForSequenceClassification(tf.MPNetConfig(**_TEXT, **_PLACES)),
        "XLNet": tf.XLNetForSequenceClassification(
            tf.XLNetConfig(d_model=32, n_layer=2, n_head=2, d_inner=48, **small)
        ),
        "GPT-2": tf.GPT2ForSequenceClassification(
            tf.GPT2Config(n_embd=32, n_layer=2, n_head=2, pad_token_id=0, n_positions=80, **small)
        ),
        "Llama": tf.LlamaForSequenceClassification(tf.LlamaConfig(**_TEXT, pad_token_id=0)),
    }


def others() -> dict[str, tuple[torch.nn.Module, Inputs]]:
    """Classifiers of waveforms, spectrograms and images, with inputs."""
    waves = torch.randn(ROWS, 1600)
    long = torch.tensor([1600, 1600] + [1200] * (ROWS - 2))
    mask = (torch.arange(1600) < long[:, None]).long()
    config = tf.Wav2Vec2Config(
        **_SIZES,
        conv_dim=(16, 16),
        conv_kernel=(10, 8),
        conv_stride=(5, 4),
        num_feat_extract_layers=2,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=2,
        classifier_proj_size=24,
        feat_extract_norm="layer",
        do_stable_layer_norm=True,
    )
    spectrogram = tf.ASTConfig(**_SIZES, num_mel_bins=16, max_length=32, patch_size=8)
    return {
        "wav2vec2": (
            tf.Wav2Vec2ForSequenceClassification(config),
            Arguments(named={"input_values": waves * mask, "attention_mask": mask}),
        ),
        "AST": (tf.ASTForAudioClassification(spectrogram), torch.randn(ROWS, 32, 16)),
        "ViT": (
            tf.ViTForImageClassification(tf.ViTConfig(**_SIZES, image_size=32, patch_size=8)),
            torch.randn(ROWS, 3, 32, 32),
        ),
    }


def token_ids() -> Arguments:
    """Ids of texts of several lengths, padded; the first two have none."""
    ids = torch.randint(2, 99, (ROWS, LENGTH))
    sizes = torch.randint(3, LENGTH + 1, (ROWS,))
    sizes[:2] = LENGTH
    mask = (torch.arange(LENGTH) < sizes[:, None]).long()
    return Arguments(named={"input_ids": ids * mask, "attention_mask": mask})


def row(name: str, model: torch.nn.Module, x: Inputs) -> str:
    """A row of the table: the model is observed on two rows, and read on all."""
    try:
        network = observed(model.eval(), x[:2])
        head = network.head
        evidence = gather(network, x, (FEATURES, LOGITS))
    except GradoodError as error:
        return f"| {name} | refused | {error} | | |"
    weight, bias = head.linear()
    ours = evidence.features.double() @ weight.double().T
    ours = ours if bias is None else ours + bias.double()
    error = float((ours - evidence.logits).abs().max() / evidence.logits.abs().max())
    return f"| {name} | works | `{head.layer}` | {head.reduction} | {error:.0e} |"


def main() -> None:
    """Print the page."""
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    print("# Heads of sequence models\n")
    print(
        f"`python benchmarks/sequence_heads.py`, transformers {tf.__version__}, torch "
        f"{torch.__version__}. Small random configurations; observed on two rows without padding, "
        f"read on {ROWS} of which most are padded. Error: of features · Wᵀ + b, by the largest "
        "logit.\n"
    )
    print("| model | | head | features | error |\n|---|---|---|---|---:|")
    ids = token_ids()
    for name, model in texts().items():
        print(row(name, model, ids))
    for name, (model, x) in others().items():
        print(row(name, model, x))


if __name__ == "__main__":
    main()
