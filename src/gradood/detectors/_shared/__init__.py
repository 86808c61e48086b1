"""Parts that several detectors share, such as default layers, Gaussians and activation shaping."""

__all__: list[str] = []
