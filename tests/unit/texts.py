"""Texts for the tests of deltas: small ones for Hypothesis, long ones with edits like people's and programs'."""

from __future__ import annotations

import random

from hypothesis import strategies as st

# Few different lines, so that they repeat; ends of every kind; what begins with a carriage return or is one line only.
LINES = (b"a\n", b"b\n", b"c\n", b"\n", b"\r\n", b"a\r\n", b"  }\n", b"-- a\n", b"\\ No newline at end of file\n", b"\xff\x00\n")
TAILS = (b"", b"", b"", b"a", b"b", b"a\r", b" ")

plain = st.builds(lambda lines, tail: b"".join(lines) + tail, st.lists(st.sampled_from(LINES), max_size=40), st.sampled_from(TAILS))


@st.composite
def edited(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """A text of up to 120 lines, and the same after a few edits."""
    old = draw(st.lists(st.one_of(st.sampled_from(LINES), st.integers(0, 30).map(lambda n: b"line %d\n" % n)), max_size=120))
    new = list(old)
    for _ in range(draw(st.integers(0, 6))):
        at, gone = draw(st.integers(0, len(new))), draw(st.integers(0, 20))
        new[at : at + gone] = draw(st.one_of(st.lists(st.sampled_from(LINES), max_size=8), st.just(old[: gone * 2])))
    return b"".join(old) + draw(st.sampled_from(TAILS)), b"".join(new) + draw(st.sampled_from(TAILS))


pairs = st.one_of(st.tuples(plain, plain), edited(), st.tuples(st.binary(max_size=300), st.binary(max_size=300)))


def csv(lines: int, seed: int = 1) -> list[bytes]:
    """Rows that are all different."""
    numbers = random.Random(seed)
    return [b"%d,%s,%d,%d\n" % (row, numbers.randbytes(8).hex().encode(), numbers.randrange(10**9), numbers.randrange(100)) for row in range(lines)]


def program(lines: int, seed: int = 1) -> list[bytes]:
    """Like a program: functions of a few lines, many of which are empty, brackets, or the same as elsewhere."""
    numbers = random.Random(seed)
    common = [b"\n", b"\n", b"    }\n", b"    return 0;\n", b"    if (error)\n", b"        return error;\n", b"    i += 1;\n", b"    free(buffer);\n"]
    made: list[bytes] = []
    while len(made) < lines:
        made += [b"int function_%d(int a)\n" % numbers.randrange(10**6), b"{\n"]
        for _ in range(numbers.randrange(3, 25)):
            made.append(numbers.choice(common) if numbers.random() < 0.6 else b"    call_%d(a, %d);\n" % (numbers.randrange(300), numbers.randrange(9)))
        made += [b"}\n", b"\n"]
    return made[:lines]


def records(count: int, seed: int = 1) -> list[bytes]:
    """Like pretty-printed JSON: what is the same in every record is longer than what is its own."""
    numbers = random.Random(seed)
    made: list[bytes] = []
    for _ in range(count):
        made += [b"  {\n", *(b'    "field%d": null,\n' % field for field in range(12)), b'    "id": %d\n' % numbers.randrange(10**9), b"  },\n"]
    return made


def change_lines(lines: list[bytes], share: float, seed: int = 2) -> list[bytes]:
    """That share of the lines modified, removed or followed by a new one."""
    numbers = random.Random(seed)
    made = []
    for line in lines:
        chance = numbers.random() / share
        if chance >= 1:
            made.append(line)
        elif chance < 0.5:
            made.append(line[:-1] + b" %d\n" % numbers.randrange(10**6))
        elif chance >= 0.75:
            made += [line, b"new %d\n" % numbers.randrange(10**6)]
    return made


def move_blocks(lines: list[bytes], count: int, seed: int = 2) -> list[bytes]:
    """Blocks of up to 200 lines cut out and put elsewhere."""
    numbers = random.Random(seed)
    made = list(lines)
    for _ in range(count):
        at, size = numbers.randrange(len(made)), numbers.randrange(1, 200)
        block = made[at : at + size]
        del made[at : at + size]
        to = numbers.randrange(len(made) + 1)
        made[to:to] = block
    return made


def copy_blocks(lines: list[bytes], count: int, seed: int = 2) -> list[bytes]:
    """Blocks of up to 60 lines repeated a little further down, with a line changed: a function written after another's model."""
    numbers = random.Random(seed)
    made = list(lines)
    for _ in range(count):
        at, size = numbers.randrange(len(made)), numbers.randrange(1, 60)
        block = made[at : at + size]
        block[len(block) // 2] = b"changed %d\n" % numbers.randrange(10**6)
        to = min(len(made), at + size + numbers.randrange(100))
        made[to:to] = block
    return made


