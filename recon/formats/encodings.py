"""How values are written in files; in memory they are always activated.

| attribute | memory            | 3DGS PLY                                  |
|-----------|-------------------|-------------------------------------------|
| scales    | linear            | natural logarithm                         |
| opacities | 0 to 1            | logit                                     |
| sh        | [n, k, 3]         | f_dc [n, 3], f_rest [n, 3 (k - 1)], channel-major |
| quats     | unit, wxyz        | wxyz, any length                          |
"""

import numpy as np

# exp(-40) is far below any float32 scene; log(0) would be -inf, which viewers reject.
MIN_LOG_SCALE = -40.0
# Opacities of exactly 0 and 1 have infinite logits.
MAX_LOGIT = 16.0


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
    rest = f_rest.reshape(len(f_dc), 3, -1).transpose(0, 2, 1)
    return np.concatenate([f_dc[:, None], rest], 1)


def decode_quats(quats: np.ndarray) -> np.ndarray:
    """Unit quaternions of quaternions of any length; zero becomes no rotation."""
    length = np.linalg.norm(quats, axis=1, keepdims=True)
    unit = quats / np.maximum(length, 1e-12)
    return np.where(length > 1e-12, unit, np.array([1.0, 0, 0, 0], dtype=quats.dtype))
