"""Image-classification pipelines of Hugging Face Transformers with a reject option.

Nothing of Transformers is imported: the pipeline is used as it is.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, final

import torch
from torch import Tensor

from gradood.errors import ConfigError, DataError
from gradood.rejection import Guard, guard

__all__ = ["GuardedPipeline"]

_BATCH = 32


@final
class GuardedPipeline:
    """A pipeline that names no class for images unlike what its model knows.

    Args:
        pipeline: of the task ``"image-classification"``, in torch.
        guard: of the pipeline's model; `GuardedPipeline.of` makes it.
        reject_label: what stands in place of a class.

    Raises:
        ConfigError: the pipeline is of another kind, or the guard of another model.
    """

    def __init__(
        self, pipeline: Any, guard: Guard, *, reject_label: str = "out-of-distribution"
    ) -> None:
        _check(pipeline)
        if guard.model is not pipeline.model:
            raise ConfigError(
                "the guard is of another model than the pipeline's; make it with "
                "GuardedPipeline.of(pipeline, known), or load it on pipeline.model."
            )
        self.pipeline = pipeline
        self.guard = guard
        self.reject_label = reject_label

    @staticmethod
    def of(
        pipeline: Any, known: Iterable[Any], labels: Sequence[int] | None = None, **options: Any
    ) -> "GuardedPipeline":
        """The pipeline with a guard made from images.

        Args:
            pipeline: as for the class.
            known: images as the pipeline takes them, which its model was not trained on.
            labels: their classes by the numbers of the model's configuration, or None.
            options: of `gradood.guard`.

        Raises:
            CalibrationError: too few images for the promise.
            ConfigError: the pipeline is of another kind.
            DataError: there are not as many labels as images.
        """
        _check(pipeline)
        images = list(known)
        if labels is not None and len(labels) != len(images):
            raise DataError(f"there are {len(labels)} labels for {len(images)} images.")
        batches: list[Any] = []
        for start, x in zip(range(0, len(images), _BATCH), _pixels(pipeline, images), strict=True):
            part = None if labels is None else torch.as_tensor(labels[start : start + _BATCH])
            batches.append(x if part is None else (x, part))
        return GuardedPipeline(pipeline, guard(pipeline.model, batches, **options))

    def __call__(self, images: Any, **parameters: Any) -> Any:
        """What the pipeline gives, but for images that are out-of-distribution.

        Args:
            images: one as the pipeline takes them, or a list of them.
            parameters: of the pipeline's postprocessing, such as `top_k`.

        Returns:
            For each image a list of ``{"label", "score"}``; of one that is out-of-distribution,
            ``[{"label": reject_label, "score": 1 − p}]`` with its p-value p.

        Cost:
            One forward pass per 32 images: the pipeline's own is not run.
        """
        several = isinstance(images, list | tuple)
        answers: list[Any] = []
        for x in _pixels(self.pipeline, list(images) if several else [images]):
            result = self.guard.predict(x)
            assert result.logits is not None
            for row, (flagged, p_value) in enumerate(
                zip(result.is_ood.tolist(), result.p_value.tolist(), strict=True)
            ):
                logits = result.logits[row : row + 1].float()
                answers.append(
                    [{"label": self.reject_label, "score": 1 - p_value}]
                    if flagged
                    else self.pipeline.postprocess({"logits": logits}, **parameters)
                )
        return answers if several else answers[0]


def _check(pipeline: Any) -> None:
    task = getattr(pipeline, "task", None)
    if task != "image-classification":
        raise ConfigError(
            f"the pipeline's task is {task!r}; expected 'image-classification', as of "
            "transformers.pipeline('image-classification', model=…)."
        )


def _pixels(pipeline: Any, images: Sequence[Any]) -> Iterator[Tensor]:
    """Batches of what the model takes, by the pipeline's own preprocessing."""
    for start in range(0, len(images), _BATCH):
        part = images[start : start + _BATCH]
        yield torch.cat([pipeline.preprocess(image)["pixel_values"] for image in part])
