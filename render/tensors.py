"""The base of dataclasses whose fields are tensors."""

import functools
import operator
import reprlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields, replace
from typing import Any, ClassVar, TypeVar, get_args

import torch
from torch import Tensor

Struct = TypeVar("Struct", bound="TensorStruct")


class TensorStruct:
    """A frozen dataclass of tensors that moves, indexes, joins and compares as one value.

    ```
    @dataclass(frozen=True)
    class Views(TensorStruct, axis="v"):
        images: Float[Tensor, "*v 3 h w"]
        cameras: Cameras
        names: tuple[str, ...]
        depth_bounds: Float[Tensor, "*v 2"] | None = None
    ```

    `axis` names the axis that `len`, `[...]`, iteration and `cat` work on. Its position in a tensor
    is read from the annotated shape, counted from the end: `*v` stands for any batch axes followed
    by v. Nested structs with the same axis follow, tuples have one element for each index along the
    axis, and everything else (None, numbers, tensors without that axis) is carried along. A value
    without the axis, as an int selects it, is a single element: always true, whereas a set is true
    if it is not empty. A struct without `axis` can be moved and compared, but has no length.
    """

    _axis: ClassVar[str | None] = None

    def __init_subclass__(cls, axis: str | None = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._axis = axis or cls._axis
        # Defined in the class, or @dataclass would generate its own, which compare tensors with ==.
        for name in ("__eq__", "__hash__", "__repr__"):
            if name not in vars(cls):
                setattr(cls, name, getattr(cls, name))

    @property
    def device(self) -> torch.device:
        """Device of the first tensor; all are expected to be on the same one."""
        for value in _values(self).values():
            if isinstance(value, Tensor | TensorStruct):
                return value.device
        raise AttributeError(f"{type(self).__name__} contains no tensors")

    def map(self: Struct, function: Callable[[Tensor], Tensor]) -> Struct:
        """Apply a function to every tensor, including those of nested structs and tuples."""
        return replace(  # type: ignore[type-var]
            self, **{name: _mapped(value, function) for name, value in _values(self).items()}
        )

    def to(self: Struct, *args: Any, **kwargs: Any) -> Struct:
        """Move or cast every tensor, as `Tensor.to` does; only floating-point dtypes change."""

        def moved(tensor: Tensor) -> Tensor:
            found = tensor.to(*args, **kwargs)
            if tensor.is_floating_point() or found.dtype == tensor.dtype:
                return found
            return tensor.to(found.device)

        return self.map(moved)

    def detach(self: Struct) -> Struct:
        """Drop the graph of every tensor."""
        return self.map(Tensor.detach)

    def __len__(self) -> int:
        count = self._count()
        if count is None:
            raise self._has_no_axis("has no length")
        return count

    def __bool__(self) -> bool:
        """Return whether there is anything: a single element, or a set that is not empty."""
        return self._count() != 0

    def _count(self) -> int | None:
        """Return the length of the axis, or None if there is no such axis."""
        axes = _axes(type(self))
        for name, value in _values(self).items():
            if name in axes and isinstance(value, Tensor):
                return int(value.shape[axes[name]]) if value.ndim >= -axes[name] else None
            if self._follows(value):
                return value._count()  # type: ignore[no-any-return]
        return None

    def _has_no_axis(self, problem: str) -> TypeError:
        name = type(self).__name__
        if self._axis is None:
            return TypeError(f"{name} {problem}: it has no axis")
        return TypeError(
            f"a single {name} (no axis {self._axis!r}) {problem}; {name}.cat([value]) makes a set "
            "of one"
        )

    def __getitem__(self: Struct, which: Any) -> Struct:
        """Select along the axis.

        Args:
            which: an int drops the axis (IndexError beyond either end); a slice, a list or tensor
                of indices, or a mask of bools keeps it.
        """
        count = self._count()
        if count is None:
            raise self._has_no_axis("cannot be indexed")
        index = _index(which, count, type(self).__name__)
        axes, picked = _axes(type(self)), dict[str, Any]()
        for name, value in _values(self).items():
            if name in axes and isinstance(value, Tensor):
                picked[name] = value[(..., index, *[slice(None)] * (-1 - axes[name]))]
            elif isinstance(value, tuple):
                picked[name] = _elements(value, index)
            elif self._follows(value):
                picked[name] = value[index]
        return replace(self, **picked)  # type: ignore[type-var]

    def __iter__(self: Struct) -> Iterator[Struct]:
        count = self._count()
        if count is None:
            raise self._has_no_axis("cannot be iterated")
        return (self[i] for i in range(count))

    @classmethod
    def cat(cls: type[Struct], parts: Iterable[Struct]) -> Struct:
        """Join along the axis, in order; a single element is one on the axis.

        Raises:
            ValueError: there are no parts, or what is not along the axis differs between them.
            TypeError: a part is of another type, or the type has no axis.
        """
        if cls._axis is None:
            raise TypeError(f"{cls.__name__} has no axis to join along")
        parts = list(parts)
        if not parts:
            raise ValueError(f"{cls.__name__}.cat needs at least one part")
        for part in parts:
            if not isinstance(part, cls):
                raise TypeError(
                    f"{cls.__name__}.cat joins {cls.__name__}, got {_description(part)}"
                )
        parts = [part._with_axis() for part in parts]
        columns = {name: [getattr(part, name) for part in parts] for name in _values(parts[0])}
        return cls(**{name: cls._joined(name, column) for name, column in columns.items()})

    def _with_axis(self: Struct) -> Struct:
        """Return a single element as a set of one; a set as it is."""
        if self._count() is not None:
            return self
        axes, moved = _axes(type(self)), dict[str, Any]()
        for name, value in _values(self).items():
            if name in axes and isinstance(value, Tensor):
                moved[name] = value.unsqueeze(axes[name])
            elif self._follows(value):
                moved[name] = value._with_axis()
        return replace(self, **moved)  # type: ignore[type-var]

    @classmethod
    def _joined(cls, name: str, values: list[Any]) -> Any:
        first, axes = values[0], _axes(cls)
        if len({type(value) for value in values}) == 1:
            if isinstance(first, tuple):
                return tuple(element for value in values for element in value)
            if isinstance(first, Tensor) and name in axes:
                return cls._joined_tensors(name, values, axes[name])
            if cls._follows(first):
                return type(first).cat(values)
        for value in values[1:]:
            if not _equal(first, value):
                raise ValueError(
                    f"{cls.__name__}.{name} differs between the parts to join: "
                    f"{_description(first)} and {_description(value)}"
                )
        return first

    @classmethod
    def _joined_tensors(cls, name: str, tensors: list[Tensor], axis: int) -> Tensor:
        shapes = [list(tensor.shape) for tensor in tensors]
        for shape in shapes:
            alike = [*shape]
            if len(shape) == len(shapes[0]):
                alike[axis] = shapes[0][axis]
            if alike != shapes[0]:
                raise ValueError(
                    f"{cls.__name__}.{name} has shapes {shapes[0]} and {shape}, which may only "
                    f"differ along {cls._axis}"
                )
        return torch.cat(tensors, axis)

    @classmethod
    def _follows(cls, value: object) -> bool:
        """Return whether a field's value is a struct along the same axis."""
        return isinstance(value, TensorStruct) and value._axis == cls._axis is not None

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        theirs = _values(other)
        return all(_equal(value, theirs[name]) for name, value in _values(self).items())

    def __hash__(self) -> int:
        # Hashes shapes alone: equal values have equal shapes, and values may be written to.
        shapes = (getattr(value, "shape", None) for value in _values(self).values())
        return hash((type(self), *shapes))

    def __repr__(self) -> str:
        inside = (f"{name}={_description(value)}" for name, value in _values(self).items())
        return f"{type(self).__name__}({', '.join(inside)})"


def _values(struct: Any) -> dict[str, Any]:
    return {field.name: getattr(struct, field.name) for field in fields(struct)}


def _axes(cls: Any) -> dict[str, int]:
    """Return the struct's axis, counted from the end, in each field whose shape has it."""
    return _read_axes(cls)


@functools.cache
def _read_axes(cls: Any) -> dict[str, int]:
    found = {}
    for field in fields(cls):
        # The annotation itself or, of an optional field, one member of the union.
        candidates = (field.type, *get_args(field.type))
        if cls._axis is not None and Tensor in candidates:
            raise TypeError(f"{cls.__name__}.{field.name}: annotate its shape, Float[Tensor, ...]")
        shapes = [each.dim_str for each in candidates if hasattr(each, "dim_str")]
        names = [name.lstrip("*#?") for name in shapes[0].split()] if shapes else []
        if cls._axis in names:
            found[field.name] = names.index(cls._axis) - len(names)
    return found


def _index(which: Any, count: int, name: str) -> int | slice | Tensor:
    """Check an index; return a position from the start, a slice or a tensor of positions."""
    if isinstance(which, slice):
        if (which.step or 1) > 0:
            return which
        # Tensors do not support slices with a negative step.
        return torch.tensor(range(count)[which], dtype=torch.long)
    if isinstance(which, tuple):
        raise TypeError(f"{name} has one axis to index, got {len(which)} indices")
    # Not every array: one of a single element would pass as an int.
    if getattr(which, "ndim", 0) > 0 or not hasattr(which, "__index__"):
        return _positions(which, count, name)
    # A bool would pass as 0 or 1, but is probably a mask without its axis.
    if isinstance(which, bool) or getattr(which, "dtype", None) == torch.bool:
        raise _unusable(which, name)
    position = operator.index(which)
    _check_range(position, position, count, name)
    return position % count


def _check_range(lowest: int, highest: int, count: int, name: str) -> None:
    if lowest < -count or highest >= count:
        outside = highest if highest >= count else lowest
        raise IndexError(f"index {outside} is out of range for {count} {name}")


def _unusable(which: Any, name: str) -> TypeError:
    return TypeError(
        f"{name} are indexed by an int, a slice, or a row of ints or bools; got "
        f"{_description(which)}"
    )


def _positions(which: Any, count: int, name: str) -> Tensor:
    try:
        positions = torch.as_tensor(which)
    except (TypeError, ValueError, RuntimeError):
        positions = torch.zeros(())
    if positions.numel() == 0 and positions.dtype != torch.bool:
        positions = positions.long()
    if positions.ndim != 1 or positions.is_floating_point():
        raise _unusable(which, name)
    if positions.dtype != torch.bool:
        # On a GPU the question would wait for everything before it.
        if positions.device.type == "cpu" and len(positions):
            _check_range(int(positions.min()), int(positions.max()), count, name)
        return positions
    if len(positions) != count:
        raise IndexError(f"a mask of {len(positions)} does not fit {count} {name}")
    return positions.nonzero()[:, 0]


def _elements(values: tuple[Any, ...], index: int | slice | Tensor) -> tuple[Any, ...]:
    if isinstance(index, slice):
        return values[index]
    positions = [index] if isinstance(index, int) else index.tolist()
    return tuple(values[i] for i in positions)


def _mapped(value: Any, function: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, TensorStruct):
        return value.map(function)
    if isinstance(value, tuple):
        return tuple(_mapped(element, function) for element in value)
    return value


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        alike = one.dtype == other.dtype and one.device == other.device
        return alike and torch.equal(one, other)
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(_equal, one, other))
    return type(one) is type(other) and bool(one == other)


def _description(value: Any) -> str:
    if isinstance(value, Tensor):
        dtype = str(value.dtype).removeprefix("torch.")
        return f"{dtype}{list(value.shape)} {value.device}"
    if isinstance(value, tuple) and any(isinstance(each, Tensor) for each in value):
        return f"({', '.join(map(_description, value))})"
    return repr(value) if isinstance(value, TensorStruct) else reprlib.repr(value)
