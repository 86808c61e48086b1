"""The zero-shot classifier in a model, for scores that compare images with texts."""

from gradood._zero_shot import ZeroShotClassifier
from gradood.errors import TapError
from gradood.taps import Network, Site

__all__ = ["local_site", "negative_site", "zero_shot_name"]


def zero_shot_name(network: Network, method: str) -> str:
    """Name of the zero-shot classifier that gives the logits, with a dot if it is inside another.

    Raises:
        TapError: there is none.
    """
    head = network.head.layer if network.head_found else None
    for name, module in network.module.named_modules():
        prefix = f"{name}." if name else ""
        if isinstance(module, ZeroShotClassifier) and head == f"{prefix}head":
            return prefix
    raise TapError(
        f"{method} compares images with texts, and the head of this model is no layer of text "
        "embeddings. Make a zero-shot classifier with gradood.zero_shot(image_encoder, "
        f"text_embeddings), or leave {method} out."
    )


def negative_site(network: Network, method: str) -> tuple[Site, int]:
    """Where the cosines with the negative labels are seen, and how many those are.

    Raises:
        TapError: the model is no zero-shot classifier, or has no negative labels.
    """
    layer = network.layers.get(f"{zero_shot_name(network, method)}negative_head")
    if layer is None:
        raise TapError(
            f"{method} compares the classes with negative labels, and this classifier has no such "
            "layer. Give gradood.zero_shot(…, negatives=…) embeddings of labels that no known "
            f"image has, or leave {method} out."
        )
    return layer.output, layer.shape[0]


def local_site(network: Network, method: str) -> Site:
    """Where the local features are seen.

    Raises:
        TapError: the model is no zero-shot classifier, or its encoder returns no local features.
    """
    layer = network.layers.get(f"{zero_shot_name(network, method)}local_features")
    if layer is None:
        raise TapError(
            f"{method} reads local features, and the image encoder returns one embedding of each "
            "image alone. Let its last layer return (embedding, local features (batch, positions, "
            f"width)) in the space of the texts, or leave {method} out."
        )
    return layer.output
