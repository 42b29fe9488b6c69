"""Fourier transforms that ``jnp`` lacks, and window functions."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from flaxnets.ops.promotion import floating

Sizes = Sequence[int] | None
# A Hermitian transform equals a real transform of the conjugate in the other direction.
_OPPOSITE = {None: "forward", "backward": "forward", "forward": "backward", "ortho": "ortho"}


def hfftn(input: jax.Array, s: Sizes = None, dim: Sizes = None, norm: str | None = None) -> jax.Array:
    """Return the discrete Fourier transform of a Hermitian signal over several axes; the result is real.

    See `torch.fft.hfftn <https://docs.pytorch.org/docs/stable/generated/torch.fft.hfftn.html>`_.

    >>> hfftn(jnp.ones((2, 2))).tolist()
    [[4.0, 0.0], [0.0, 0.0]]
    """
    return jnp.fft.irfftn(jnp.conj(floating(input)), s=s, axes=dim, norm=_OPPOSITE[norm])


def ihfftn(input: jax.Array, s: Sizes = None, dim: Sizes = None, norm: str | None = None) -> jax.Array:
    """Return the inverse of :func:`hfftn`.

    See `torch.fft.ihfftn <https://docs.pytorch.org/docs/stable/generated/torch.fft.ihfftn.html>`_.

    >>> ihfftn(jnp.array([[4.0, 0.0], [0.0, 0.0]])).real.tolist()
    [[1.0, 1.0], [1.0, 1.0]]
    """
    return jnp.conj(jnp.fft.rfftn(floating(input), s=s, axes=dim, norm=_OPPOSITE[norm]))


def _cosines(length: int, periodic: bool, weights: Sequence[float], dtype: DTypeLike | None) -> jax.Array:
    """Return a window that is a sum of cosines; a periodic window is one element longer, without the last element."""
    if length < 0:
        raise RuntimeError(f"window: got a length of {length}. Expected a non-negative length")
    if length == 1:
        return jnp.ones(1, dtype or jnp.float32)
    angles = 2 * np.pi * np.arange(length) / (length if periodic else length - 1)
    window = sum(weight * np.cos(i * angles) for i, weight in enumerate(weights))
    return jnp.asarray(np.asarray(window).astype(dtype or np.float32))


def hann_window(window_length: int, periodic: bool = True, *, dtype: DTypeLike | None = None) -> jax.Array:
    """Return a Hann window. Default dtype: float32.

    See `torch.hann_window <https://docs.pytorch.org/docs/stable/generated/torch.hann_window.html>`_.

    >>> hann_window(4).tolist()
    [0.0, 0.5, 1.0, 0.5]
    """
    return _cosines(window_length, periodic, (0.5, -0.5), dtype)


def hamming_window(
    window_length: int,
    periodic: bool = True,
    alpha: float = 0.54,
    beta: float = 0.46,
    *,
    dtype: DTypeLike | None = None,
) -> jax.Array:
    """Return a Hamming window ``alpha - beta * cos``. Default dtype: float32.

    See `torch.hamming_window <https://docs.pytorch.org/docs/stable/generated/torch.hamming_window.html>`_.

    >>> hamming_window(2, alpha=0.5, beta=0.5).tolist()
    [0.0, 1.0]
    """
    return _cosines(window_length, periodic, (alpha, -beta), dtype)


def blackman_window(window_length: int, periodic: bool = True, *, dtype: DTypeLike | None = None) -> jax.Array:
    """Return a Blackman window. Default dtype: float32.

    See `torch.blackman_window <https://docs.pytorch.org/docs/stable/generated/torch.blackman_window.html>`_.

    >>> blackman_window(3, False)[1].item()
    1.0
    """
    return _cosines(window_length, periodic, (0.42, -0.5, 0.08), dtype)


def bartlett_window(window_length: int, periodic: bool = True, *, dtype: DTypeLike | None = None) -> jax.Array:
    """Return a Bartlett (triangular) window. Default dtype: float32.

    See `torch.bartlett_window <https://docs.pytorch.org/docs/stable/generated/torch.bartlett_window.html>`_.

    >>> bartlett_window(4).tolist()
    [0.0, 0.5, 1.0, 0.5]
    """
    full = np.bartlett(window_length + 1)[:-1] if periodic and window_length > 1 else np.bartlett(window_length)
    return jnp.asarray(full.astype(dtype or np.float32))


def kaiser_window(
    window_length: int, periodic: bool = True, beta: float = 12.0, *, dtype: DTypeLike | None = None
) -> jax.Array:
    """Return a Kaiser window. Default dtype: float32.

    See `torch.kaiser_window <https://docs.pytorch.org/docs/stable/generated/torch.kaiser_window.html>`_.

    >>> kaiser_window(3, False, 0.0).tolist()
    [1.0, 1.0, 1.0]
    """
    length = window_length + (periodic and window_length > 1)
    return jnp.asarray(np.kaiser(length, beta)[:window_length].astype(dtype or np.float32))


def _full_window(window: jax.Array | None, win_length: int, n_fft: int, dtype: DTypeLike) -> jax.Array:
    """Centre the window in ``n_fft`` elements; None means ones."""
    window = jnp.ones(win_length, dtype) if window is None else window
    if window.shape != (win_length,) or win_length > n_fft:
        raise RuntimeError(f"stft: got a window of shape {window.shape}. Expected ({win_length},), at most {n_fft}")
    left = (n_fft - win_length) // 2
    return jnp.pad(window, (left, n_fft - win_length - left))


def stft(
    input: jax.Array,
    n_fft: int,
    hop_length: int | None = None,
    win_length: int | None = None,
    window: jax.Array | None = None,
    center: bool = True,
    pad_mode: str = "reflect",
    normalized: bool = False,
    onesided: bool | None = None,
    return_complex: bool | None = None,
) -> jax.Array:
    """Short-time Fourier transform: return the Fourier transforms of windows of a signal.

    Args:
        input: of shape ``(time,)`` or ``(batch, time)``.
        n_fft: number of elements per transform.
        hop_length: distance between windows. Default: a quarter of ``n_fft``.
        win_length: size of the window. Default: ``n_fft``.
        window: vector of that size. Default: ones.
        center: whether to pad the signal so that the first window is centred on the first element.
        pad_mode: padding mode of ``torch.nn.functional.pad``.
        normalized: whether to divide the result by the square root of ``n_fft``.
        onesided: whether to return only the first half of the frequencies. Default: True for real signals.
        return_complex: whether to return complex numbers, instead of real and imaginary parts in a new last axis.

    Returns:
        The transforms, of shape ``(batch, frequencies, windows)``.

    See `torch.stft <https://docs.pytorch.org/docs/stable/generated/torch.stft.html>`_.

    >>> stft(jnp.ones(8), 4, return_complex=True).shape
    (3, 9)
    """
    hop, length = hop_length or n_fft // 4, win_length or n_fft
    signal = jnp.atleast_2d(input)
    if center:
        modes = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}
        signal = jnp.pad(signal, ((0, 0), (n_fft // 2, n_fft // 2)), mode=modes[pad_mode])
    starts = np.arange(0, signal.shape[-1] - n_fft + 1, hop)
    weights = _full_window(window, length, n_fft, signal.real.dtype)
    frames = signal[:, starts[:, None] + np.arange(n_fft)] * weights[None, None]
    is_complex = jnp.iscomplexobj(frames)
    onesided = not is_complex if onesided is None else onesided
    result = (jnp.fft.rfft if onesided else jnp.fft.fft)(frames).swapaxes(-1, -2)
    result = result / math.sqrt(n_fft) if normalized else result
    result = result if input.ndim > 1 else result[0]
    return result if return_complex is not False else jnp.stack([result.real, result.imag], axis=-1)


def istft(
    input: jax.Array,
    n_fft: int,
    hop_length: int | None = None,
    win_length: int | None = None,
    window: jax.Array | None = None,
    center: bool = True,
    normalized: bool = False,
    onesided: bool | None = None,
    length: int | None = None,
    return_complex: bool = False,
) -> jax.Array:
    """Inverse short-time Fourier transform: return the signal that :func:`stft` transformed.

    Args:
        input: of shape ``(frequencies, windows)`` or ``(batch, frequencies, windows)``.
        n_fft: number of elements per transform.
        hop_length: distance between windows.
        win_length: size of the window.
        window: vector of that size.
        center: whether the signal was padded.
        normalized: whether the transforms were divided by the square root of ``n_fft``.
        onesided: whether the input has only the first half of the frequencies.
        length: size of the result. Default: all elements that the windows cover.
        return_complex: whether the signal is complex.

    See `torch.istft <https://docs.pytorch.org/docs/stable/generated/torch.istft.html>`_.

    >>> istft(stft(jnp.arange(8.0), 4), 4).shape
    (8,)
    """
    hop, size = hop_length or n_fft // 4, win_length or n_fft
    spectra = (input if input.ndim == 3 else input[None]).swapaxes(-1, -2)
    spectra = spectra * math.sqrt(n_fft) if normalized else spectra
    onesided = spectra.shape[-1] != n_fft if onesided is None else onesided
    frames = jnp.fft.irfft(spectra, n=n_fft) if onesided else jnp.fft.ifft(spectra)
    frames = frames if return_complex or onesided else frames.real
    weights = _full_window(window, size, n_fft, frames.real.dtype)
    positions = (np.arange(frames.shape[1]) * hop)[:, None] + np.arange(n_fft)
    total = int(positions[-1, -1]) + 1
    signal = jnp.zeros((frames.shape[0], total), frames.dtype).at[:, positions].add(frames * weights[None, None])
    envelope = jnp.zeros(total, weights.dtype).at[positions].add(jnp.broadcast_to(jnp.square(weights), positions.shape))
    start = n_fft // 2 if center else 0
    stop = start + length if length is not None else total - start
    missing = max(stop - total, 0)
    signal = jnp.pad(signal[:, start:stop] / envelope[None, start:stop], ((0, 0), (0, missing)))
    return signal if input.ndim == 3 else signal[0]
