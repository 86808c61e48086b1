"""The mathematics: stateless functions of tensors, used by detectors, trainers and tests alike."""

__all__: list[str] = []
