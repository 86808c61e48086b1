"""Relative angles of decision boundaries [demirel2025ora]."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gradood.evidence.tracing import tracing

__all__ = ["angle_between", "boundary_angle", "squared_separations", "widest_boundary"]


def squared_separations(
    weight: Float[Tensor, "classes width"],
) -> Float[Tensor, "classes classes"]:
    """``‖w_a − w_b‖₂²`` in float64, by differences, as rows may be nearly equal.

    Cost:
        classes² · width operations, once per fit.
    """
    rows = weight.double()
    return torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist").square()


def boundary_angle(
    logits: Float[Tensor, "batch classes"],
    projected: Float[Tensor, "batch classes"],
    squared_length: Float[Tensor, " batch"],
    separations: Float[Tensor, "classes classes"],
) -> Float[Tensor, " batch"]:
    """Largest angle, seen from an origin, between a feature and its projection on a boundary.

    With ``v = w_ĉ − w_c``, ``a = h − μ`` and ``d = (z_ĉ − z_c) / ‖v‖²``, the projection is
    ``a − d v``; the angle is taken from the area that both span and from their product, which is
    precise for small angles as for large ones.

    Args:
        logits: z, in float64.
        projected: ``W (h − μ)``, in float64.
        squared_length: ``‖h − μ‖²``.
        separations: from `squared_separations`.

    Returns:
        ``max_c θ_c`` in radians, high for in-distribution samples; classes whose rows equal the
        predicted one's have no boundary with it.
    """
    return _angles(logits, projected, squared_length, separations).amax(1)


def widest_boundary(
    logits: Float[Tensor, "batch classes"],
    projected: Float[Tensor, "batch classes"],
    squared_length: Float[Tensor, " batch"],
    separations: Float[Tensor, "classes classes"],
) -> Int[Tensor, " batch"]:
    """The class c whose boundary with the predicted one is seen under the largest angle."""
    return _angles(logits, projected, squared_length, separations).argmax(1)


def angle_between(
    base: Float[Tensor, "batch width"],
    added: Float[Tensor, "batch width"],
    normal: Float[Tensor, "batch width"],
) -> Float[Tensor, " batch"]:
    """The angle between `base` and ``base + added``, positive where `added` is along `normal`.

    Args:
        base: the projection on a boundary, from the origin.
        added: from there.
        normal: of the boundary.
    """
    size = torch.linalg.vector_norm(normal, dim=1).clamp_min(torch.finfo(base.dtype).tiny)
    unit = normal / size[:, None]
    across = (base * unit).sum(1)
    flat = base - across[:, None] * unit
    side = torch.linalg.vector_norm(flat, dim=1)
    return torch.atan2((added * unit).sum(1) * side, (base * (base + added)).sum(1))


def _angles(
    logits: Tensor, projected: Tensor, squared_length: Tensor, separations: Tensor
) -> Tensor:
    """(batch, classes) θ_c."""
    largest, predicted = logits.max(1)
    squared = separations[predicted]
    along = projected.gather(1, predicted[:, None]) - projected
    shift = (largest[:, None] - logits) / torch.where(squared > 0, squared, torch.inf)
    length = squared_length[:, None]
    square = length * squared - along.square()
    wide = square > 0  # Elsewhere the root is 0, and has no derivative.
    area = shift * torch.where(wide, torch.where(wide, square, 1.0).sqrt(), 0.0)
    angle = _angle if tracing() else torch.atan2
    return angle(area, length - shift * along)


def _angle(y: Tensor, x: Tensor) -> Tensor:
    """``atan2(y, x)`` for y ≥ 0 in a graph: onnxruntime has the arctangent in float32 alone.

    Corrected by the angle that is left, which is so small that it is its tangent.
    """
    rough = torch.atan((y / x).float()).double() + torch.where(x < 0, torch.pi, 0.0)
    rough = torch.where(x == 0, torch.where(y > 0, torch.pi / 2, 0.0), rough)
    sine, cosine = torch.sin(rough), torch.sin(rough + torch.pi / 2)
    along = x * cosine + y * sine
    return rough + torch.where(along > 0, (y * cosine - x * sine) / along, 0.0)
