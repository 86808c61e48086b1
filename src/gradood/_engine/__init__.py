"""The engine: fits and scores a set of detectors over batches, in one pass of the model."""

__all__: list[str] = []
