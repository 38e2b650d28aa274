"""Random damage to files."""

import random
import struct


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
