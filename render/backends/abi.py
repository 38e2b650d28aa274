"""The structs of the CPU kernel's C ABI (cpu/state.h), and the check that a library fits them."""

import ctypes
from collections.abc import Iterator

VERSION = 7


class Request(ctypes.Structure):
    """Sizes, settings and inputs of a call."""

    _fields_ = (
        [(name, ctypes.c_int32) for name in "scenes views count width height threads".split()]
        + [(name, ctypes.c_int32) for name in "colors coefficients depth".split()]
        + [(name, ctypes.c_int32) for name in ("antialiased", "absgrad")]
        + [(name, ctypes.c_float) for name in "near_plane far_plane eps2d radius_clip".split()]
        + [(name, ctypes.c_float) for name in "alpha_max alpha_min transmittance_min".split()]
        + [(name, ctypes.c_void_p) for name in "means quats scales opacities".split()]
        + [(name, ctypes.c_void_p) for name in "color_values mask viewmats Ks".split()]
    )


class Images(ctypes.Structure):
    """Outputs of the forward pass, or their gradients."""

    _fields_ = [(name, ctypes.c_void_p) for name in ("colors", "depth", "alpha")]


class Gradients(ctypes.Structure):
    """Outputs of the backward pass."""

    _fields_ = [
        (name, ctypes.c_void_p)
        for name in "means quats scales opacities color_values viewmats absgrad".split()
    ]


class Contributions(ctypes.Structure):
    """Outputs of `recon_cpu_contributions`."""

    _fields_ = [(name, ctypes.c_void_p) for name in ("weight_sum", "weight_max", "hits")]


class AdamStep(ctypes.Structure):
    """Parameters, settings and outputs of `recon_cpu_adam_step` (cpu/adam.h)."""

    _fields_ = (
        [(name, ctypes.c_int32) for name in "count coefficients threads".split()]
        + [(f"lr_{name}", ctypes.c_float) for name in "means quats scales opacities sh".split()]
        + [(name, ctypes.c_float) for name in "beta1 beta2 eps correction1 correction2".split()]
        + [(name, ctypes.c_void_p) for name in "unit min_scales means quats log_scales".split()]
        + [(name, ctypes.c_void_p) for name in "logits sh scales opacities moments".split()]
    )


class PhotoLoss(ctypes.Structure):
    """Settings, inputs and outputs of `recon_cpu_photo_loss` (cpu/photo_loss.h)."""

    _fields_ = (
        [(name, ctypes.c_int32) for name in "width height threads grey".split()]
        + [("ssim_weight", ctypes.c_float)]
        + [(name, ctypes.c_void_p) for name in "image photo valid gradient".split()]
        + [(name, ctypes.c_void_p) for name in ("absolute", "similarity")]
    )


STRUCTS: tuple[type[ctypes.Structure], ...] = (
    Request,
    Images,
    Gradients,
    Contributions,
    AdamStep,
    PhotoLoss,
)
Layout = list[tuple[str, int, int]]


def expected_layout() -> Layout:
    """List name, offset and size of every struct and of its fields, as `recon_cpu_layout` does."""
    return [row for struct in STRUCTS for row in _struct_layout(struct)]


def _struct_layout(struct: type[ctypes.Structure]) -> Iterator[tuple[str, int, int]]:
    yield struct.__name__, 0, ctypes.sizeof(struct)
    for name, *_ in struct._fields_:
        field = getattr(struct, name)
        yield f"{struct.__name__}.{name}", field.offset, field.size


def library_layout(library: ctypes.CDLL) -> Layout:
    """Read the same list from a library."""
    name, offset, size = ctypes.c_char_p(), ctypes.c_int32(), ctypes.c_int32()
    rows: Layout = []
    while library.recon_cpu_layout(
        ctypes.c_int32(len(rows)), ctypes.byref(name), ctypes.byref(offset), ctypes.byref(size)
    ):
        rows.append(((name.value or b"").decode(), offset.value, size.value))
    return rows


def layout_difference(library: ctypes.CDLL) -> str | None:
    """Describe the first difference between the library's structs and these; None if they agree."""
    found, expected = library_layout(library), expected_layout()
    for theirs, ours in zip(found, expected, strict=False):
        if theirs != ours:
            return "{} at {}, {} bytes; expected {} at {}, {} bytes".format(*theirs, *ours)
    if len(found) != len(expected):
        return f"{len(found)} fields; expected {len(expected)}"
    return None
