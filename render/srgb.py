"""The transfer function of sRGB (IEC 61966-2-1): display values and linear light."""

import numpy as np
from jaxtyping import Float

# End of the straight part of the curve, as a display value and as linear light.
DARK_DISPLAY, DARK_LINEAR = 0.04045, 0.0031308
SLOPE, OFFSET, SCALE, GAMMA = 12.92, 0.055, 1.055, 2.4


def to_linear(display: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
    """Return the linear light of display sRGB values; below 0 the straight part goes on."""
    bent = ((np.maximum(display, 0) + OFFSET) / SCALE) ** GAMMA
    return np.asarray(np.where(display <= DARK_DISPLAY, display / SLOPE, bent))


def from_linear(linear: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
    """Return the display sRGB values of linear light; below 0 the straight part goes on."""
    bent = SCALE * np.maximum(linear, DARK_LINEAR) ** (1 / GAMMA) - OFFSET
    return np.asarray(np.where(linear <= DARK_LINEAR, SLOPE * linear, bent))


def display_slope(linear: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
    """Return the derivative of `from_linear`."""
    bent = SCALE / GAMMA * np.maximum(linear, DARK_LINEAR) ** (1 / GAMMA - 1)
    return np.asarray(np.where(linear <= DARK_LINEAR, SLOPE, bent))
