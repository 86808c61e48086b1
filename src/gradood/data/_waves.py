"""Encoded sound made into samples, or the reason why it cannot be, in a word programs can read.

Sound that cannot be used is one of

- ``empty``: no bytes, or no samples;
- ``not_audio``: its bytes are something else;
- ``broken``: it begins like sound and cannot be decoded;
- ``truncated``: it ends before its samples do;
- ``too_large``: longer than the limit;
- ``no_decoder``: a format other than plain PCM in a WAV file, without soundfile;
- ``wrong_rate``: a sampling rate other than the model's, without SciPy;
- ``unreadable``: it cannot be opened, or is no file.
"""

import io
import math
import os
import stat
import wave
from pathlib import Path
from typing import Any, Literal

import numpy as np

from gradood.data._extras import resampling, soundfile
from gradood.errors import BadRowError

__all__ = ["decode_wave", "resampled"]

MAX_SAMPLES = 16_000 * 3600
"""Longest sound that is decoded, over all channels; and that resampling makes."""
MAX_RATE = 1_000_000
"""Highest sampling rate that is resampled, in Hz."""
_BEGINNINGS = (b"RIFF", b"fLaC", b"OggS", b"ID3", b"FORM", b".snd")


def decode_wave(encoded: bytes | Path) -> tuple[np.ndarray, int]:
    """The samples (length,) float32 in [-1, 1], and the sampling rate; channels are averaged.

    By soundfile where it is installed; else WAV files of plain PCM by the standard library.

    Args:
        encoded: the content of a sound file, or where it is.

    Raises:
        BadRowError: it cannot be used; says why.
    """
    content = encoded if isinstance(encoded, bytes) else _read(encoded)
    if not content:
        raise BadRowError("it is empty: there are no bytes of sound.", "empty")
    reader = soundfile()
    try:
        samples, rate = _plain(content) if reader is None else _by_soundfile(reader, content)
    except (MemoryError, BadRowError):
        raise
    except Exception as error:  # Decoders raise whatever a broken file makes them raise.
        raise _diagnosis(content, error) from error
    if not samples.size:
        raise BadRowError("it is empty: it holds no samples.", "empty")
    if not np.isfinite(samples).all():
        raise BadRowError("its samples hold NaN or infinity.", "nonfinite_input")
    return samples.astype(np.float32), rate


def resampled(samples: np.ndarray, rate: int, wanted: int) -> np.ndarray:
    """The samples at another sampling rate, by a polyphase filter.

    Args:
        samples: (length,).
        rate: theirs, in Hz.
        wanted: in Hz.

    Raises:
        BadRowError: the rates differ, and SciPy is not installed, or the rate is one that no sound
            has, or makes of a short file a sound of hours.
    """
    if rate == wanted:
        return samples
    if not 0 < rate <= MAX_RATE:  # The filter is as long as the larger of the two.
        raise BadRowError(f"it is broken: its sampling rate is {rate} Hz.", "broken")
    _check_length(len(samples) * wanted // rate)
    filtered = resampling()
    if filtered is None:
        raise BadRowError(
            f"its sampling rate is {rate} Hz, and the model takes {wanted} Hz; resample it, or "
            "pip install scipy.",
            "wrong_rate",
        )
    common = math.gcd(rate, wanted)
    return filtered(samples, wanted // common, rate // common).astype(np.float32)


def _read(path: Path) -> bytes:
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # Opening a pipe would wait forever.
            raise BadRowError("it is no regular file.", "unreadable")
        return path.read_bytes()
    except OSError as error:
        raise BadRowError(
            f"it cannot be opened: {error.strerror or error}.", "unreadable"
        ) from error
    except ValueError as error:  # A name that holds a zero byte.
        raise BadRowError(f"it cannot be opened: {error}.", "unreadable") from error


def _by_soundfile(reader: Any, content: bytes) -> tuple[np.ndarray, int]:
    _check_whole(content)
    with reader.SoundFile(io.BytesIO(content)) as file:
        _check_length(file.frames * file.channels)
        samples = file.read(dtype="float32", always_2d=True)
        return samples.mean(1), int(file.samplerate)


def _check_whole(content: bytes) -> None:
    """Refuse a file that ends before the size that its header names; soundfile reads what is there.

    Raises:
        BadRowError: it does.
    """
    if content[:4] not in (b"RIFF", b"FORM") or len(content) < 12:
        return
    order: Literal["little", "big"] = "little" if content[:4] == b"RIFF" else "big"
    size = int.from_bytes(content[4:8], order)
    # Of sound that was written as it came, the size is unknown; odd chunks may lack their padding.
    if size not in (0, 2**32 - 1) and size + 7 > len(content):
        raise BadRowError(
            f"it is truncated: it has {len(content)} of {size + 8} bytes.", "truncated"
        )


def _plain(content: bytes) -> tuple[np.ndarray, int]:
    try:
        file = wave.open(io.BytesIO(content))  # noqa: SIM115
    except wave.Error as error:
        if content.startswith(b"RIFF") and "unknown format" not in str(error):
            raise
        raise _without_decoder(content, error) from error
    with file:
        channels, width, rate, frames = file.getparams()[:4]
        _check_length(frames * channels)
        data = file.readframes(frames)
    if len(data) < frames * channels * width:
        raise BadRowError(
            f"it is truncated: it holds {len(data) // (channels * width)} of {frames} samples.",
            "truncated",
        )
    return _scaled(data, width).reshape(-1, channels).mean(1), rate


def _scaled(data: bytes, width: int) -> np.ndarray:
    """PCM samples in [-1, 1]."""
    if width == 1:
        return (np.frombuffer(data, np.uint8).astype(np.float32) - 128) / 128
    if width == 3:
        parts = np.frombuffer(data, np.uint8).reshape(-1, 3)
        wide = np.zeros((len(parts), 4), np.uint8)
        wide[:, 1:] = parts
        return wide.view("<i4")[:, 0].astype(np.float32) / 2**31
    return np.frombuffer(data, f"<i{width}").astype(np.float32) / 2 ** (8 * width - 1)


def _check_length(samples: int) -> None:
    if samples > MAX_SAMPLES:
        raise BadRowError(
            f"it is too large: {samples} samples, and the limit is {MAX_SAMPLES}.", "too_large"
        )


def _is_sound(content: bytes) -> bool:
    """Whether bytes begin as sound does; MPEG audio by eleven set bits."""
    mpeg = len(content) > 1 and content[0] == 0xFF and content[1] >= 0xE0
    return mpeg or content.startswith(_BEGINNINGS)


def _without_decoder(content: bytes, error: Exception) -> BadRowError:
    if not _is_sound(content):
        return BadRowError(f"its {len(content)} bytes are no sound of a known format.", "not_audio")
    return BadRowError(
        f"it is no WAV file of plain PCM ({error}), which needs a decoder: "
        "pip install 'gradood[audio]'.",
        "no_decoder",
    )


def _diagnosis(content: bytes, error: Exception) -> BadRowError:
    if not _is_sound(content):
        return BadRowError(f"its {len(content)} bytes are no sound of a known format.", "not_audio")
    what = f"{type(error).__name__}: {error}".strip(": .")
    return BadRowError(f"it is broken: {what}.", "broken")
