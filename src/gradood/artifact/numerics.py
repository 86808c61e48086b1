"""The numerical settings that a model was run under, and the words for a difference."""

from dataclasses import dataclass

from gradood.errors import ArtifactError

__all__ = ["NumericsRecord", "numeric_differences"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NumericsRecord:
    """The numerical settings under which the model was run for what was learned and promised.

    Attributes:
        device: kind of the model's, such as ``cpu``.
        autocast: type that autocast rounds to, such as ``bfloat16``; None if it was off.
        float32_matmul: precision of matrix products in float32, as torch names it.
        float32_convolution: likewise, of convolutions.
    """

    device: str
    autocast: str | None
    float32_matmul: str
    float32_convolution: str

    def __post_init__(self) -> None:
        if self.autocast not in (None, "float16", "bfloat16", "float32", "float64"):
            raise ArtifactError(
                f"manifest: numerics.autocast is {self.autocast[:80]!r}; expected a floating type "
                "or null."
            )


def numeric_differences(before: NumericsRecord, now: NumericsRecord) -> list[str]:
    """What differs between two settings on one kind of device, in words; empty if nothing.

    Args:
        before: when statistics were made.
        now: of the same kind of device, or of another, whose precisions cannot be compared.
    """
    lines: list[str] = []
    if before.autocast != now.autocast:
        was, is_now = (settings.autocast or "off" for settings in (before, now))
        lines.append(f"autocast is {is_now}, and was {was}")
    if before.device != now.device:
        return lines
    for what in ("float32_matmul", "float32_convolution"):
        was, is_now = getattr(before, what), getattr(now, what)
        if was != is_now:
            lines.append(f"{what.replace('_', ' ')} precision is {is_now!r}, and was {was!r}")
    return lines
