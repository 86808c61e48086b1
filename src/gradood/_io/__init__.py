"""Files, records and hashes: atomic replacement, canonical JSON, strict decoding, caches."""

__all__: list[str] = []
