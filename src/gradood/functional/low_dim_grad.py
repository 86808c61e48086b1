"""Last-layer gradients of the energy, reduced to a few directions [wu2023lowdim].

``∂ logsumexp(z) / ∂W = p hᵀ`` is rank one, so the product of two gradients is one of two numbers,
``(p·p′)(h·h′)``, and no gradient is ever held: directions are combinations of samples.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["gradient_products", "mean_directions"]

_BLOCK = 1024


def gradient_products(
    p: Float[Tensor, "batch classes"],
    h: Float[Tensor, "batch width"],
    others_p: Float[Tensor, "samples classes"],
    others_h: Float[Tensor, "samples width"],
    *,
    bias: bool,
) -> Float[Tensor, "batch samples"]:
    """Inner products of ``∂ logsumexp(z) / ∂(W, b)`` between two sets of samples, in float64.

    Args:
        p: softmax(z).
        h: features.
        others_p: of the other set.
        others_h: of the other set.
        bias: whether the head has one.

    Cost:
        batch · samples · (classes + width) multiplications.
    """
    features = h.double() @ others_h.double().T
    return (p.double() @ others_p.double().T) * (features + 1.0 if bias else features)


def mean_directions(
    p: Float[Tensor, "samples classes"],
    h: Float[Tensor, "samples width"],
    labels: Int[Tensor, " samples"],
    *,
    bias: bool,
) -> tuple[Float[Tensor, "samples dims"], Float[Tensor, " dims"]]:
    """The classes' mean gradients about the overall mean, at unit length, in terms of samples.

    Direction c is ``v_c = (ḡ_c − ḡ) / ‖ḡ_c − ḡ‖``; a sample's coordinates are
    ``⟨g − ḡ, v_c⟩ = gradient_products(sample, samples) @ coefficients − offset``.

    Args:
        p: softmax(z).
        h: features.
        labels: true classes.
        bias: whether the head has one.

    Returns:
        coefficients and offset; a class without samples, or whose mean is the overall one, has
        no direction.

    Cost:
        samples² · (classes + width) multiplications; memory for (1024, samples).
    """
    present, place = labels.unique(return_inverse=True)
    member = torch.nn.functional.one_hot(place, len(present)).double()
    coefficients = member / member.sum(0) - 1.0 / len(labels)
    parts: list[Tensor] = []
    total = p.new_zeros(())
    for some_p, some_h in zip(p.split(_BLOCK), h.split(_BLOCK), strict=True):
        rows = gradient_products(some_p, some_h, p, h, bias=bias)
        parts.append(rows @ coefficients)
        total = total + rows.diagonal(sum(map(len, parts[:-1]))).sum()
    products = torch.cat(parts)
    squared = (coefficients * products).sum(0)
    # Relative to the mean squared length of a gradient: below is rounding.
    distinct = squared > 1e-12 * total / len(labels)
    length = squared[distinct].sqrt()
    return coefficients[:, distinct] / length, products[:, distinct].mean(0) / length
