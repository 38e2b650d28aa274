"""How values are written in files; in memory they are always activated.

|        | memory     | ply       | compressed   | splat  | spz          | sog          | glb    |
| ------ | ---------- | --------- | ------------ | ------ | ------------ | ------------ | ------ |
| means  | world      | float     | 11/10/11     | float  | 24 bit fixed | 16 bit log   | float  |
| scales | linear     | log       | log 11/10/11 | linear | log 8 bit    | log codebook | linear |
| opac.  | 0 to 1     | logit     | 8 bit        | 8 bit  | 8 bit        | 8 bit        | 0 to 1 |
| sh[0]  | f_dc       | f_dc      | colour 8 bit | colour | 8 bit        | codebook     | f_dc   |
| sh[1:] | [n, k, 3]  | by colour | 8 bit        | none   | 8 bit        | palette      | f_rest |
| quats  | unit, wxyz | wxyz      | largest 10b  | 8 bit  | xyzw, 9 bit  | largest 8b   | xyzw   |
| axes   | y down     | same      | same         | same   | same         | same         | -x, -y |

Of compressed.ply, bits are between the bounds of 256 Gaussians. "colour" is 0.5 + C0 f_dc, "by
colour" all red ones first. "largest": which component of the quaternion is the largest, and the
other three. glb has +y up.
"""

import numpy as np
from jaxtyping import Float, Int, UInt

# exp(-40) is far below any float32 scene; log(0) would be -inf, which viewers reject.
MIN_LOG_SCALE = -40.0
# Opacities of exactly 0 and 1 have infinite logits.
MAX_LOGIT = 16.0
SQRT_HALF = float(np.sqrt(0.5))
# Which axes change sign when each real spherical harmonic's polynomial is written out.
_SH_PARITY = "1 y z x xy yz 1 xz 1 y xyz y z x z x xy yz xy yz 1 xz 1 xz 1".split()


def encode_scales(scales: np.ndarray) -> np.ndarray:
    """Linear to log."""
    return np.log(np.maximum(scales, np.exp(MIN_LOG_SCALE)))


def decode_scales(logs: np.ndarray) -> np.ndarray:
    """Log to linear."""
    return np.exp(logs)


def encode_opacities(opacities: np.ndarray) -> np.ndarray:
    """Opacity to logit, kept finite."""
    with np.errstate(divide="ignore"):
        logits = np.log(opacities) - np.log1p(-opacities)
    return np.clip(logits, -MAX_LOGIT, MAX_LOGIT)


def decode_opacities(logits: np.ndarray) -> np.ndarray:
    """Logit to opacity."""
    return 1 / (1 + np.exp(-np.clip(logits, -80, 80)))


def encode_sh(sh: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[n, k, 3] to f_dc [n, 3] and f_rest [n, 3 (k - 1)], all red ones first."""
    return sh[:, 0], sh[:, 1:].transpose(0, 2, 1).reshape(len(sh), -1)


def decode_sh(f_dc: np.ndarray, f_rest: np.ndarray) -> np.ndarray:
    """f_dc and f_rest to [n, k, 3]."""
    rest = f_rest.reshape(len(f_dc), 3, f_rest.shape[1] // 3).transpose(0, 2, 1)
    return np.concatenate([f_dc[:, None], rest], 1)


def decode_quats(quats: np.ndarray) -> np.ndarray:
    """Unit quaternions of quaternions of any length; zero becomes no rotation."""
    # In float64, and of components of at most 1: squares of huge or tiny ones leave float32.
    largest = np.abs(quats).max(axis=1, keepdims=True, initial=0).astype(np.float64)
    even = quats / np.where(largest > 0, largest, 1)
    unit = even / np.maximum(np.linalg.norm(even, axis=1, keepdims=True), 1e-12)
    return np.where(largest > 1e-12, unit, [1.0, 0, 0, 0]).astype(quats.dtype)


def encode_steps(values: np.ndarray, bits: int) -> UInt[np.ndarray, "..."]:
    """0 to 1 to whole steps of 2^bits - 1; the rest is clipped."""
    top = (1 << bits) - 1
    return np.clip(np.floor(values * top + 0.5), 0, top).astype(np.uint32)


def decode_steps(steps: np.ndarray, bits: int) -> Float[np.ndarray, "..."]:
    """Whole steps to 0 to 1."""
    return steps / np.float32((1 << bits) - 1)


def encode_smallest_three(
    quats: Float[np.ndarray, "n 4"],
) -> tuple[Int[np.ndarray, "n"], Float[np.ndarray, "n 3"]]:
    """Position of the largest component, and the others in order, between -sqrt(1/2) and
    sqrt(1/2), of the quaternion's twin whose largest one is positive."""
    largest = np.abs(quats).argmax(1)
    rows = np.arange(len(quats))
    positive = quats * np.where(quats[rows, largest] < 0, -1, 1)[:, None]
    others = (largest[:, None] + 1 + np.arange(3)) % 4
    others.sort(axis=1)
    return largest, positive[rows[:, None], others]


def decode_smallest_three(
    largest: Int[np.ndarray, "n"], three: Float[np.ndarray, "n 3"]
) -> Float[np.ndarray, "n 4"]:
    """Unit quaternions again, their components in the order they had."""
    quats = np.zeros((len(three), 4), np.float32)
    rows = np.arange(len(three))
    others = (largest[:, None].astype(np.int64) + 1 + np.arange(3)) % 4
    others.sort(axis=1)
    quats[rows[:, None], others] = three
    quats[rows, largest] = np.sqrt(np.maximum(1 - np.square(three).sum(1), 0))
    return decode_quats(quats)


def sh_signs(flips: dict[str, int], count: int) -> Float[np.ndarray, "k 1"]:
    """What the coefficients are multiplied with when axes (x, y, z) are negated (-1) or not (1)."""
    signs = [np.prod([flips[axis] for axis in term if axis != "1"]) for term in _SH_PARITY]
    return np.array(signs, np.float32)[:count, None]
