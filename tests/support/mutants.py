"""Files changed as chance and malice change them: the same seed gives the same bytes."""

from __future__ import annotations

import random

EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFFE, 1 << 62, (1 << 64) - 1)
"""Numbers that lengths, offsets and indices break at."""


def mutant(data: bytes, seed: int) -> bytes:
    """The file with one to eight changes: bits, bytes, numbers, pieces that are cut, doubled, swapped or emptied."""
    dice = random.Random(seed)
    changed = bytearray(data)
    for _ in range(dice.choice((1, 1, 1, 2, 4, 8))):
        dice.choice(_CHANGES)(changed, dice)
    return bytes(changed)


def _bit(data: bytearray, dice: random.Random) -> None:
    place = _place(data, dice)
    data[place] ^= 1 << dice.randrange(8)


def _byte(data: bytearray, dice: random.Random) -> None:
    data[_place(data, dice)] = dice.randrange(256)


def _number(data: bytearray, dice: random.Random) -> None:
    size = dice.choice((2, 4, 4, 4, 8))
    place = _place(data, dice) // size * size
    value = dice.choice(EXTREMES) if dice.random() < 0.7 else dice.randrange(1 << (8 * size))
    data[place : place + size] = (value % (1 << (8 * size))).to_bytes(size, "little")


def _cut(data: bytearray, dice: random.Random) -> None:
    place = _place(data, dice)
    del data[place : place + dice.choice((1, 4, 16, len(data)))]


def _doubled(data: bytearray, dice: random.Random) -> None:
    place, size = _place(data, dice), dice.choice((1, 4, 16, 64))
    data[place:place] = data[place : place + size]


def _swapped(data: bytearray, dice: random.Random) -> None:
    first, second = _place(data, dice), _place(data, dice)
    data[first : first + 4], data[second : second + 4] = data[second : second + 4], data[first : first + 4]


def _emptied(data: bytearray, dice: random.Random) -> None:
    place, size = _place(data, dice), dice.choice((4, 16, 64))
    data[place : place + size] = bytes(len(data[place : place + size]))


def _place(data: bytearray, dice: random.Random) -> int:
    """Anywhere, but more often near the beginning, where the tables are."""
    end = max(1, len(data))
    return dice.randrange(min(end, 256)) if dice.random() < 0.3 else dice.randrange(end)


_CHANGES = (_bit, _byte, _byte, _number, _number, _number, _cut, _doubled, _swapped, _emptied)
