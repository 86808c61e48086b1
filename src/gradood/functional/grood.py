"""Gradients of a nearest-prototype classifier [elaraby2025grood]."""

import torch
from jaxtyping import Float
from torch import Tensor

from gradood.functional.codes import CodedVectors, Codes, rotated
from gradood.functional.neighbors import Bank, CodedPolar, Polar

__all__ = ["coded_gradients", "gradient_bank", "ood_gradient", "prototype_distances"]

_CHUNK = 4096


def prototype_distances(
    features: Float[Tensor, "batch width"], prototypes: Float[Tensor, "prototypes width"]
) -> Float[Tensor, "batch prototypes"]:
    """``‖h − p_j‖₂`` in float64, about the prototypes' mean so that no offset cancels."""
    center = prototypes.double().mean(0)
    return torch.cdist(
        features.double() - center,
        prototypes.double() - center,
        compute_mode="use_mm_for_euclid_dist",
    )


def ood_gradient(
    features: Float[Tensor, "batch width"],
    prototypes: Float[Tensor, "classes width"],
    ood: Float[Tensor, " width"],
) -> Polar:
    """Gradient of the cross-entropy with respect to the OOD prototype, for any class label.

    ``g = π_o · (h − p_o) / ‖h − p_o‖`` with π = softmax(−‖h − p_j‖) over the class prototypes and
    the OOD prototype. Its length is π_o, kept as a logarithm: in float32 π_o² is subnormal once
    ‖h − p_o‖ exceeds the nearest prototype's distance by about 44.

    Args:
        features: h.
        prototypes: of the classes.
        ood: p_o.
    """
    away = features.double() - ood.double()
    distance = torch.linalg.vector_norm(away, dim=1)
    others = prototype_distances(features, prototypes)
    # log π_o = −log(1 + Σ exp(d_o − d_j))
    margin = torch.cat([distance[:, None] - others, distance.new_zeros(distance.shape[0], 1)], 1)
    log_pi = -torch.logsumexp(margin, 1)
    unit = away / distance.clamp_min(torch.finfo(torch.float64).tiny)[:, None]
    return Polar(unit.float(), log_pi)


def gradient_bank(
    features: Float[Tensor, "samples width"],
    prototypes: Float[Tensor, "classes width"],
    ood: Float[Tensor, " width"],
) -> Bank:
    """`ood_gradient` of every sample, made for the search of the nearest.

    Args:
        features: of the fit samples.
        prototypes: of the classes.
        ood: p_o.
    """
    parts = [ood_gradient(rows, prototypes, ood) for rows in features.split(_CHUNK)]
    units, lengths = [part.unit for part in parts], [part.log_length for part in parts]
    return Bank.of(Polar(torch.cat(units), torch.cat(lengths)))


def coded_gradients(
    features: CodedVectors,
    prototypes: Float[Tensor, "classes width"],
    ood: Float[Tensor, " width"],
) -> CodedPolar:
    """`ood_gradient` of every sample, in as many bits as its features, in the order of these.

    Args:
        features: of the fit samples.
        prototypes: of the classes.
        ood: p_o.

    Cost:
        As `gradient_bank`; memory for 4,096 decoded features.
    """
    centers, away = rotated(prototypes), rotated(ood[None])[0]
    bits, width = features.codes.bits, features.codes.width
    packed, lengths = [], []
    for start in range(0, len(features), _CHUNK):
        part = ood_gradient(features[start : start + _CHUNK], centers, away)
        packed.append(Codes.of(part.unit, 4 if bits == 4 else 8, turned=True).packed)
        lengths.append(part.log_length)
    return CodedPolar(Codes(torch.cat(packed), width, bits), torch.cat(lengths))
