"""Encodings of values in files; in memory they are always activated.

|        | memory     | ply       | compressed   | splat  | spz          | sog          | glb    |
| ------ | ---------- | --------- | ------------ | ------ | ------------ | ------------ | ------ |
| means  | world      | float     | 11/10/11     | float  | 24 bit fixed | 16 bit log   | float  |
| scales | linear     | log       | log 11/10/11 | linear | log 8 bit    | log codebook | linear |
| opac.  | 0 to 1     | logit     | 8 bit        | 8 bit  | 8 bit        | 8 bit        | 0 to 1 |
| sh[0]  | f_dc       | f_dc      | colour 8 bit | colour | 8 bit        | codebook     | f_dc   |
| sh[1:] | [n, k, 3]  | by colour | 8 bit        | none   | 8 bit        | palette      | f_rest |
| quats  | unit, wxyz | wxyz      | largest 10b  | 8 bit  | xyzw, 9 bit  | largest 8b   | xyzw   |
| axes   | y down     | same      | same         | same   | same         | same         | -x, -y |

The bits of compressed.ply are relative to the bounds of 256 Gaussians. "colour" is 0.5 + C0 f_dc;
"by colour" means all red coefficients first. "largest" is the index of the largest component of
the quaternion, and the three other components. glb has +y up. USD has the values of glb, with +y or
+z up.
"""

import numpy as np
from jaxtyping import Float, Int, UInt

# exp(-40) is far below any float32 scene; log(0) would be -inf, which viewers reject.
MIN_LOG_SCALE = -40.0
# Squares of larger scales, which covariances consist of, come near the end of float32.
MAX_LOG_SCALE = 40.0
MAX_SCALE = float(np.exp(MAX_LOG_SCALE))
# Opacities of exactly 0 and 1 have infinite logits.
MAX_LOGIT = 16.0
# Stored opacities beyond their range by no more than this are rounded.
OPACITY_ROUNDING = 0.01
SQRT_HALF = float(np.sqrt(0.5))
# Product of axes that has the parity of each real spherical harmonic, in the order of degrees.
_SH_PARITY = "1 y z x xy yz 1 xz 1 y xyz y z x z x xy yz xy yz 1 xz 1 xz 1".split()


def encode_scales(scales: np.ndarray) -> np.ndarray:
    """Convert linear scales to log scales, which are clipped to stay finite."""
    return np.asarray(np.log(np.clip(scales, np.exp(MIN_LOG_SCALE), MAX_SCALE)))


def decode_scales(logs: np.ndarray) -> np.ndarray:
    """Convert log scales to linear scales; they are clipped, so that none is infinite."""
    return np.asarray(np.exp(np.clip(logs, MIN_LOG_SCALE, MAX_LOG_SCALE)))


def encode_opacities(opacities: np.ndarray) -> np.ndarray:
    """Convert opacities to logits, which are clipped to stay finite."""
    with np.errstate(divide="ignore"):
        logits = np.log(opacities) - np.log1p(-opacities)
    return np.asarray(np.clip(logits, -MAX_LOGIT, MAX_LOGIT))


def decode_opacities(logits: np.ndarray) -> np.ndarray:
    """Convert logits to opacities."""
    opacities = 1 / (1 + np.exp(-np.clip(logits, -80, 80)))
    return np.asarray(np.where(logits == -np.inf, 0, opacities).astype(opacities.dtype))


def encode_sh(sh: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Convert SH [n k 3] to f_dc [n 3] and f_rest [n 3(k-1)], all red coefficients first."""
    return sh[:, 0], sh[:, 1:].transpose(0, 2, 1).reshape(len(sh), -1)


def decode_sh(f_dc: np.ndarray, f_rest: np.ndarray) -> np.ndarray:
    """Convert f_dc and f_rest to SH [n k 3]."""
    rest = f_rest.reshape(len(f_dc), 3, f_rest.shape[1] // 3).transpose(0, 2, 1)
    return np.concatenate([f_dc[:, None], rest], 1)


def decode_quats(quats: np.ndarray) -> np.ndarray:
    """Normalise quaternions; zero becomes the identity."""
    # Squares of very large or small components would overflow or underflow float32.
    largest = np.abs(quats).max(axis=1, keepdims=True, initial=0).astype(np.float64)
    scaled = quats / np.where(largest > 0, largest, 1)
    unit = scaled / np.maximum(np.linalg.norm(scaled, axis=1, keepdims=True), 1e-12)
    return np.where(largest > 1e-12, unit, [1.0, 0, 0, 0]).astype(quats.dtype)


def encode_steps(values: np.ndarray, bits: int) -> UInt[np.ndarray, "..."]:
    """Quantise values in [0, 1] to integers from 0 to 2^bits - 1; other values are clipped."""
    top = (1 << bits) - 1
    return np.clip(np.floor(values * top + 0.5), 0, top).astype(np.uint32)


def decode_steps(steps: np.ndarray, bits: int) -> Float[np.ndarray, "..."]:
    """Convert integers from 0 to 2^bits - 1 to values in [0, 1]."""
    return steps / np.float32((1 << bits) - 1)


def encode_smallest_three(
    quats: Float[np.ndarray, "n 4"],
) -> tuple[Int[np.ndarray, " n"], Float[np.ndarray, "n 3"]]:
    """Return the index of the largest component and the three others, in order.

    The sign of the quaternion is chosen so that the largest component is positive; the others are
    then in [-sqrt(1/2), sqrt(1/2)].
    """
    largest = np.abs(quats).argmax(1)
    rows = np.arange(len(quats))
    positive = quats * np.where(quats[rows, largest] < 0, -1, 1)[:, None]
    others = (largest[:, None] + 1 + np.arange(3)) % 4
    others.sort(axis=1)
    return largest, positive[rows[:, None], others]


def decode_smallest_three(
    largest: Int[np.ndarray, " n"], three: Float[np.ndarray, "n 3"]
) -> Float[np.ndarray, "n 4"]:
    """Reconstruct unit quaternions from the result of `encode_smallest_three`."""
    quats = np.zeros((len(three), 4), np.float32)
    rows = np.arange(len(three))
    others = (largest[:, None].astype(np.int64) + 1 + np.arange(3)) % 4
    others.sort(axis=1)
    quats[rows[:, None], others] = three
    quats[rows, largest] = np.sqrt(np.maximum(1 - np.square(three).sum(1), 0))
    return decode_quats(quats)


def sh_signs(flips: dict[str, int], count: int) -> Float[np.ndarray, "k 1"]:
    """Return the factors of SH coefficients when axes (x, y, z) are negated (-1) or kept (1)."""
    signs = [np.prod([flips[axis] for axis in term if axis != "1"]) for term in _SH_PARITY]
    return np.array(signs, np.float32)[:count, None]
