"""Principal components of class-mean gradients of the head [seleznova2025gradpca]."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gradood.evidence.tracing import tracing

__all__ = ["head_gradients", "retained_share", "retained_terms", "subspace"]


def head_gradients(features: Float[Tensor, "batch width"]) -> Float[Tensor, "batch _"]:
    """``(h, 1)`` in float64: the gradient of one logit by its own row of the head and its bias.

    The gradient of the largest logit is this in the predicted class's block and zero in every other
    class's; that of the sum of the logits is this in every block.
    """
    wide = features.double()
    return torch.cat([wide, wide.new_ones(wide.shape[0], 1)], 1)


def subspace(
    means: Float[Tensor, "classes blocks width"], epsilon: float
) -> tuple[Float[Tensor, "blocks width"], Float[Tensor, "classes blocks width"], int]:
    """The span of the leading principal components of class means.

    Args:
        means: class-mean gradients by block, of classes that occur.
        epsilon: share of the trace that the components keep; as few as reach it.

    Returns:
        The mean of the means; an operator T whose rows span the components and ``‖T g‖`` is the
        length of the projection of g on them; and the number of components, 0 where the means do
        not differ. ``T = V_k U_kᵀ`` from the singular vectors of the centered means, which no sign
        or order of theirs changes.
    """
    flat = means.flatten(1)
    center = flat.mean(0)
    left, sizes, right = torch.linalg.svd(flat - center, full_matrices=False)
    mass = sizes.square()
    # Beyond rounding: means that are equal but for it have no direction.
    if float(mass.sum()) <= 1e-24 * float(flat.square().sum()):
        return center.view(means.shape[1:]), torch.zeros_like(means), 0
    reached = torch.cumsum(mass, 0) >= epsilon * mass.sum() * (1.0 - 1e-12)
    kept = min(int(reached.int().argmax()) + 1, int((sizes > 1e-6 * sizes[0]).sum()))
    operator = left[:, :kept] @ right[:kept]
    return center.view(means.shape[1:]), operator.view(means.shape), kept


def retained_share(
    gradients: Float[Tensor, "batch width"],
    block: Int[Tensor, " batch"],
    center: Float[Tensor, "blocks width"],
    operator: Float[Tensor, "classes blocks width"],
) -> Float[Tensor, " batch"]:
    """``‖T (g − ḡ)‖ / ‖g − ḡ‖`` where g is `gradients` in one block and zero in the others.

    A gradient equal to the mean has no direction, and gets 0.

    Args:
        gradients: the part that is not zero.
        block: which one, per sample.
        center: ḡ, by block.
        operator: T, by block.

    Cost:
        A (classes, width) product per block present in the batch and per sample.
    """
    if tracing():
        return _dense_share(gradients, block, center, operator)
    offset = torch.einsum("cbw,bw->c", operator, center)
    sizes = center.square().sum(1)
    projected = gradients.new_empty(len(gradients), len(operator))
    for b in block.unique().tolist():
        rows = (block == b).nonzero()[:, 0]
        # Off its own block a gradient is zero, so that all of the mean is its distance there.
        projected[rows] = (gradients[rows] - center[b]) @ operator[:, b].T
        projected[rows] -= offset - operator[:, b] @ center[b]
    own = (gradients - center[block]).square().sum(1)
    total = own + (sizes.sum() - sizes[block]).clamp_min(0.0)
    share = projected.square().sum(1) / total.clamp_min(torch.finfo(torch.float64).tiny)
    return share.clamp_max(1.0).sqrt()


def _dense_share(gradients: Tensor, block: Tensor, center: Tensor, operator: Tensor) -> Tensor:
    """The same for a graph: each row with the operator of its own block."""
    offset = (operator * center).sum((1, 2))
    sizes = center.square().sum(1)
    own = gradients - center[block]
    apart = (operator * center).sum(2).T - offset
    if center.shape[0] == 1:
        projected = own @ operator[:, 0].T + apart[0]
    else:
        projected = (operator.transpose(0, 1)[block] @ own[..., None])[..., 0] + apart[block]
    total = own.square().sum(1) + (sizes.sum() - sizes[block]).clamp_min(0.0)
    share = projected.square().sum(1) / total.clamp_min(torch.finfo(torch.float64).tiny)
    return share.clamp_max(1.0).sqrt()


def retained_terms(
    gradients: Float[Tensor, "batch width"],
    block: Int[Tensor, " batch"],
    center: Float[Tensor, "blocks width"],
    operator: Float[Tensor, "classes blocks width"],
) -> tuple[Float[Tensor, "batch width"], Float[Tensor, " batch"]]:
    """`retained_share` by entries of y = g − ḡ: ``y_d (Tᵀ T y)_d / (‖T y‖ ‖y‖)``.

    Returns:
        Of the entries in each sample's own block, and the sum of the others.
    """
    own, rest = [], []
    for i, b in enumerate(block.tolist()):
        whole = -center.clone()
        whole[b] += gradients[i]
        inside = torch.einsum("cbw,bw->c", operator, whole)
        length = torch.linalg.vector_norm(inside) * torch.linalg.vector_norm(whole)
        made = whole * torch.einsum("cbw,c->bw", operator, inside)
        made = made / torch.where(length > 0, length, 1.0)
        own.append(made[b])
        rest.append(made.sum() - made[b].sum())
    return torch.stack(own), torch.stack(rest)
