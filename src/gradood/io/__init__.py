"""Files, records and hashes: atomic replacement, canonical JSON, strict decoding, caches."""
