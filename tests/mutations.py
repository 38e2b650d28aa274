"""Damage to files: random bytes, and values of JSON that are of another kind."""

import copy
import json
import random
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

OTHER_VALUES = (None, True, -1, 10**400, float("nan"), "x", [], [[1]], {"a": 1})


def mutated(data: bytes, dice: random.Random) -> bytes:
    """Truncate, flip bits, replace bytes and words, and repeat or remove ranges."""
    changed = bytearray(data)
    for _ in range(dice.choice((1, 1, 2, 5, 20))):
        at = dice.randrange(len(changed)) if changed else 0
        kind = dice.randrange(6)
        # Headers decide most: half of the changes go there.
        if dice.random() < 0.5:
            at = min(at, dice.randrange(64))
        if kind == 0:
            changed = changed[:at]
        elif kind == 1 and changed:
            changed[at] ^= 1 << dice.randrange(8)
        elif kind == 2 and changed:
            changed[at] = dice.choice((0, 1, 0x7F, 0x80, 0xFF, ord("9")))
        elif kind == 3:
            word = dice.choice((0, 1, 2**31 - 1, 2**31, 2**32 - 1, dice.getrandbits(32)))
            changed[at : at + 4] = struct.pack("<I", word)
        elif kind == 4:
            changed[at:at] = changed[at : at + dice.randrange(64)]
        else:
            del changed[at : at + dice.randrange(64)]
    return bytes(changed)


def with_other_values(document: Any) -> Iterator[Any]:
    """Yield a JSON document once for each of its values and each value that replaces it."""
    for path in _paths(document):
        for other in OTHER_VALUES:
            changed = copy.deepcopy(document)
            parent = changed
            for key in path[:-1]:
                parent = parent[key]
            parent[path[-1]] = other
            yield changed


def glb_with_other_values(path: Path) -> Iterator[None]:
    """Write a .glb once for each value of its JSON and each value that replaces it."""
    data = path.read_bytes()
    length = struct.unpack_from("<I", data, 12)[0]
    document, rest = json.loads(data[20 : 20 + length]), data[20 + length :]
    for changed in with_other_values(document):
        text = json.dumps(changed).encode()
        size = 20 + len(text) + len(rest)
        head = struct.pack("<4sIII4s", b"glTF", 2, size, len(text), b"JSON")
        path.write_bytes(head + text + rest)
        yield


def _paths(value: Any) -> Iterator[tuple[Any, ...]]:
    inside = value.items() if isinstance(value, dict) else enumerate(value)
    for key, child in inside:
        yield (key,)
        if isinstance(child, dict | list):
            yield from ((key, *rest) for rest in _paths(child))
