"""`hf:` folders of sound through the shell: fit, calibrate, score. Mechanics, no detection figure.

    python benchmarks/sound_folder.py wav2vec2|ast

Small networks of random weights, saved as Transformers does, on the 100 known clips and the others
of ../shared/sound (GRADOOD_SHARED), laid out as folders of sound files, a folder for each word; one
file is cut short, one is no sound. Prints each command, its exit code and the statuses.
"""

import os
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch

from gradood.cli import main as gradood

SHARED = Path(os.environ.get("GRADOOD_SHARED", Path(__file__).parents[2] / "shared"))
_SMALL: dict[str, Any] = {
    **{"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2},
    **{"intermediate_size": 64, "num_labels": 12},
}


def network(kind: str, folder: Path) -> None:
    """A folder as `save_pretrained` leaves it."""
    import transformers as hf

    torch.manual_seed(0)
    if kind == "ast":
        config = hf.ASTConfig(**_SMALL, num_mel_bins=32, max_length=128, patch_size=16)
        model, extractor = (
            hf.ASTForAudioClassification(config),
            hf.ASTFeatureExtractor(num_mel_bins=32, max_length=128),
        )
    else:
        config = hf.Wav2Vec2Config(
            **_SMALL,
            **{"conv_dim": (16, 16, 16), "conv_stride": (5, 4, 4), "conv_kernel": (10, 8, 8)},
            **{"num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2},
            **{"classifier_proj_size": 16, "feat_extract_norm": "layer"},
            do_stable_layer_norm=True,
        )
        model = hf.Wav2Vec2ForSequenceClassification(config)
        extractor = hf.Wav2Vec2FeatureExtractor(return_attention_mask=True)
    model.eval().save_pretrained(folder)
    extractor.save_pretrained(folder)


def clips(folder: Path) -> None:
    """Known clips by word, to fit and to calibrate; the others, and two broken ones, to score."""
    rows = pq.read_table(SHARED / "sound" / "speech_clips.parquet").to_pylist()
    known = [row for row in rows if row["label"] >= 0]
    parts = {"fit": known[:40], "known": known[40:], "new": [r for r in rows if r["label"] < 0]}
    for part, some in parts.items():
        for place, row in enumerate(some):
            file = folder / part / str(max(0, row["label"])) / f"{place:03}.wav"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(row["audio"]["bytes"])
    sound = (folder / "new" / "0" / "000.wav").read_bytes()
    (folder / "new" / "0" / "cut.wav").write_bytes(sound[: len(sound) // 2])
    (folder / "new" / "0" / "text.wav").write_bytes(b"no sound")


def main() -> None:
    """Run the three commands."""
    kind = sys.argv[1]
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        network(kind, place / kind)
        clips(place)
        file = str(place / "detector.safetensors")
        model = ["--model", f"hf:{place / kind}"]
        own = ["--methods", "energy,msp,knn", "--out", file]
        fit = ["fit", *model, "--data", str(place / "fit"), "--audio-column", "audio", *own]
        held = ["--data", str(place / "known"), "--fpr", "0.1", "--out", file]
        for command in (
            fit,
            ["calibrate", *model, "--detector", file, *held],
            ["score", str(place / "new"), *model, "--detector", file, "--out", f"{name}/scores"],
        ):
            code = gradood(command)
            print(f"gradood {' '.join(command).replace(name, '.')}\n  exit code {code}", flush=True)
        rows = pq.read_table(place / "scores").to_pylist()
        print(len(rows), "rows:", dict(Counter(row["status"] for row in rows)))


if __name__ == "__main__":
    main()
