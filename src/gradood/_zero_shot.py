"""Zero-shot classifier: an image encoder against the text embeddings of the classes."""

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any, cast, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gradood.errors import ConfigError

__all__ = ["ZeroShotClassifier", "zero_shot"]

_EMBEDDING = (
    *("image_embeds", "image_features", "image_embedding", "embeddings", "embedding"),
    "pooler_output",
)
_LOCAL = ("local_features", "local_embeds", "patch_features", "patch_embeds")
"""Names under which encoders return an embedding of the image, and those of its patches."""


@final
class ZeroShotClassifier(nn.Module):
    """Classes named by text: ``logits = scale · normalize(encoder(x)) @ text.T``.

    Made by `gradood.zero_shot`. Its head is an `nn.Linear` without bias on the normalized
    embedding, so that every detector reads it as that of any classifier.

    Attributes:
        image_encoder: as given.
        head: weight (classes, width), ``scale · text``.
        negative_head: weight (negatives, width), unit vectors; None without negative labels. It is
            computed beside the logits, and no part of them.
        local_features: sees the normalized local features (batch, positions, width), where the
            encoder returns some.
        scale: of the logits.
        class_names: one per class, or None.
    """

    def __init__(
        self,
        image_encoder: nn.Module,
        text: Tensor,
        negatives: Tensor | None,
        *,
        scale: float,
        class_names: tuple[str, ...] | None,
    ) -> None:
        """Store what `zero_shot` has checked.

        Args:
            image_encoder: see `zero_shot`.
            text: (classes, width) unit vectors.
            negatives: (negatives, width) unit vectors, or None.
            scale: > 0.
            class_names: one per class, or None.
        """
        super().__init__()
        self.image_encoder = image_encoder
        self.local_features = nn.Identity()
        self.negative_head = None if negatives is None else _linear(negatives)
        self.head = _linear(scale * text)
        self.scale = scale
        self.class_names = class_names

    def forward(self, *inputs: Any, **named: Any) -> Tensor:
        """Logits (batch, classes).

        Args:
            inputs: of the image encoder.
            named: of the image encoder.

        Raises:
            ConfigError: what the encoder returns holds no embedding of the text's width.
        """
        embedding, local = self._embeddings(self.image_encoder(*inputs, **named))
        unit = self._normalized(embedding)
        if local is not None:
            self.local_features(self._normalized(local))
        if self.negative_head is not None:
            self.negative_head(unit)
        return cast("Tensor", self.head(unit))

    def extra_repr(self) -> str:
        """What the head was made with."""
        classes, width = self.head.weight.shape
        negatives = 0 if self.negative_head is None else len(self.negative_head.weight)
        return f"classes={classes}, width={width}, negatives={negatives}, scale={self.scale:g}"

    def _normalized(self, vectors: Tensor) -> Tensor:
        wide = vectors.to(torch.promote_types(vectors.dtype, torch.float32))
        return F.normalize(wide, dim=-1).to(self.head.weight.dtype)

    def _embeddings(self, returned: Any) -> tuple[Tensor, Tensor | None]:
        """The embedding (batch, width), and local features (batch, positions, width) or None."""
        width = self.head.weight.shape[1]
        found, local = _items(returned)
        if not isinstance(found, Tensor) or found.ndim != 2 or found.shape[1] != width:
            shown = f"{tuple(found.shape)}" if isinstance(found, Tensor) else _described(returned)
            raise ConfigError(
                f"the image encoder returned {shown}, and the text embeddings have width {width}; "
                f"expected an embedding (batch, {width}), alone, first in a tuple, or as "
                "'image_embeds': give the encoder with its projection, and its own texts."
            )
        return found, _positions(local, width)


def zero_shot(
    image_encoder: nn.Module,
    text_embeddings: Any,
    negatives: Any = None,
    *,
    scale: Any = 100.0,
    class_names: Sequence[str] | None = None,
) -> ZeroShotClassifier:
    """A classifier of images whose classes are texts, such as CLIP's.

    ``logits = scale · normalize(image_encoder(x)) @ normalize(text_embeddings).T``

    It is a classifier like any other, for every detector. ``mcm``, ``gl-mcm`` and ``neg-label``
    are made for it; they are not fitted, so that images without labels calibrate them.

    Args:
        image_encoder: images → embeddings (batch, width) in the space of the texts: a tensor, the
            first of a tuple, or ``image_embeds`` (``image_features``, ``pooler_output``) of a
            mapping or object. Local features (batch, positions, width) or (batch, height, width of
            the map, width), the second of the tuple or ``local_features``, are what ``gl-mcm``
            reads; they must be in the space of the texts too.
        text_embeddings: (classes, width), finite, of any length: they are normalized here. Of
            several prompts per class, the mean of the normalized embeddings.
        negatives: (negatives, width), embeddings of labels that no known image has, which
            ``neg-label`` reads; they are none of the classes.
        scale: of the logits, > 0: the inverse of the softmax's temperature. Of CLIP, the
            exponential of its ``logit_scale``, which training ends at 100.
        class_names: one per class, kept as an attribute.

    Returns:
        A module in the precision of the encoder, or float32 where that is less; its head is on
        the device of `text_embeddings`.

    Raises:
        ConfigError: the embeddings are no finite matrices of one width, one of them is zero, or
            `scale` or `class_names` do not fit.

    Cost:
        The encoder's forward, and (classes + negatives) · width multiplications per image.

    >>> from torch import nn
    >>> text = torch.eye(3, 8)
    >>> zero_shot(nn.Linear(5, 8), text)(torch.zeros(2, 5)).shape
    torch.Size([2, 3])
    """
    if not isinstance(image_encoder, nn.Module):
        raise ConfigError(
            f"image_encoder is a {type(image_encoder).__name__}; expected a torch.nn.Module whose "
            "forward gives embeddings of images: wrap what does in one."
        )
    text = _unit_rows(text_embeddings, "text_embeddings").to(_precision(image_encoder))
    other = None if negatives is None else _unit_rows(negatives, "negatives").to(text)
    if other is not None and other.shape[1] != text.shape[1]:
        raise ConfigError(
            f"negatives have width {other.shape[1]}, and text_embeddings {text.shape[1]}; expected "
            "embeddings of one text encoder."
        )
    names = _names(class_names, len(text))
    made = ZeroShotClassifier(image_encoder, text, other, scale=_scale(scale), class_names=names)
    return made.train(image_encoder.training)


def _names(given: Sequence[str] | None, classes: int) -> tuple[str, ...] | None:
    if given is None:
        return None
    if isinstance(given, str) or not hasattr(given, "__len__") or len(given) != classes:
        raise ConfigError(
            f"class_names={given!r}; expected {classes} names, one for each row of text_embeddings."
        )
    return tuple(map(str, given))


def _linear(weight: Tensor) -> nn.Linear:
    rows, width = weight.shape
    # Without the random values that a new layer draws.
    layer = nn.utils.skip_init(
        nn.Linear, width, rows, bias=False, device=weight.device, dtype=weight.dtype
    )
    layer.weight = nn.Parameter(weight, requires_grad=False)
    return cast("nn.Linear", layer)


def _precision(image_encoder: nn.Module) -> torch.dtype:
    """That of the encoder's first floating tensor; at least float32."""
    tensors = (*image_encoder.parameters(), *image_encoder.buffers())
    floating = (tensor.dtype for tensor in tensors if tensor.is_floating_point())
    return torch.promote_types(next(floating, torch.float32), torch.float32)


def _unit_rows(given: Any, name: str) -> Tensor:
    """The rows of a matrix, normalized, in float32 or wider."""
    try:
        rows = torch.as_tensor(given).detach()
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(
            f"{name} is a {type(given).__name__}; expected a matrix (labels, width)."
        ) from error
    if rows.layout != torch.strided or rows.is_meta:
        raise ConfigError(f"{name} is sparse, or holds no data; expected a dense matrix.")
    if rows.ndim != 2 or not rows.numel() or not rows.is_floating_point():
        raise ConfigError(
            f"{name} is {tuple(rows.shape)} {str(rows.dtype).removeprefix('torch.')}; expected "
            "floats (labels, width), one row per label: the mean over prompts, if there are "
            "several."
        )
    wide = rows.to(torch.promote_types(rows.dtype, torch.float32))
    if not bool(wide.isfinite().all()):
        raise ConfigError(f"{name} holds NaN or infinity; expected finite embeddings.")
    zero = (wide == 0).all(1).nonzero()
    if len(zero):
        raise ConfigError(
            f"row {int(zero[0])} of {name} is zero, and has no direction; expected embeddings."
        )
    # By the largest entry first, whose square is a number.
    return F.normalize(wide / wide.abs().amax(1, keepdim=True), dim=1)


def _scale(given: Any) -> float:
    try:
        value = float(given.detach() if isinstance(given, Tensor) else given)
    except (TypeError, ValueError, RuntimeError):
        value = float("nan")
    if isinstance(given, bool) or not isfinite(value) or value <= 0:
        raise ConfigError(
            f"scale={given!r}; expected a number > 0, such as 100, or clip.logit_scale.exp()."
        )
    return value


def _items(returned: Any) -> tuple[Any, Any]:
    """The embedding and the local features in what an encoder returns; None where there is none."""
    if isinstance(returned, Tensor):
        return returned, None
    found = _named(returned, _EMBEDDING)
    if found is None and isinstance(returned, tuple | list):
        items = (*returned, None, None)
        return items[0], items[1]
    return found, _named(returned, _LOCAL)


def _named(returned: Any, names: Sequence[str]) -> Any:
    """The first of these keys or attributes that there is."""
    held = returned.get if isinstance(returned, Mapping) else lambda n: getattr(returned, n, None)
    return next((value for name in names if (value := held(name)) is not None), None)


def _positions(local: Any, width: int) -> Tensor | None:
    """Local features as (batch, positions, width); None of what is not in the texts' space."""
    if not isinstance(local, Tensor) or not local.is_floating_point():
        return None
    if local.ndim == 4 and local.shape[3] != width and local.shape[1] == width:
        local = local.movedim(1, 3)
    if local.ndim not in (3, 4) or local.shape[-1] != width:
        return None
    return local.flatten(1, -2)


def _described(returned: Any) -> str:
    if isinstance(returned, Mapping):
        return f"a mapping with keys {sorted(map(str, returned))}"
    return f"a {type(returned).__name__}"
