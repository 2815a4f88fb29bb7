"""The bounded memories: what they forget, and that threads cannot spoil them."""

from __future__ import annotations

import random
import sys
import threading
from collections import OrderedDict

from hypothesis import given
from hypothesis import strategies as st

from tarbox_core.cache import Lru, Names
from tarbox_core.types import ROOT_INO

keys = st.integers(0, 6)
weights = st.integers(0, 5)


@given(st.lists(st.one_of(st.tuples(st.just("put"), keys, weights), st.tuples(st.sampled_from(["get", "drop", "clear"]), keys, st.just(0)))))
def test_lru_is_an_ordered_dictionary_that_forgets_its_oldest(steps: list[tuple[str, int, int]]) -> None:
    limit = 9
    lru: Lru[int, str] = Lru(limit)
    model: OrderedDict[int, int] = OrderedDict()
    for verb, key, weight in steps:
        if verb == "put":
            lru.put(key, f"{key}:{weight}", weight)
            model.pop(key, None)
            model[key] = weight
            while sum(model.values()) > limit:
                model.popitem(last=False)
        elif verb == "get":
            value = lru.get(key)
            if key in model:
                model.move_to_end(key)
                assert value == f"{key}:{model[key]}"
            else:
                assert value is None
        elif verb == "drop":
            lru.drop(key)
            model.pop(key, None)
        else:
            lru.clear()
            model.clear()
        assert lru.weight == sum(model.values()) <= limit


def test_what_outweighs_the_limit_is_not_kept() -> None:
    lru: Lru[str, bytes] = Lru(10)
    lru.put("a", b"a", 4)
    lru.put("big", b"b", 11)
    assert lru.get("big") is None and lru.weight == 0


def test_threads_never_see_a_wrong_value_and_the_weight_stays_true() -> None:
    """Weights that drift would let the cache grow without bound, or keep nothing at all."""
    lru: Lru[int, int] = Lru(50)
    wrong: list[object] = []

    def work(seed: int) -> None:
        choose = random.Random(seed)
        try:
            for _ in range(20_000):
                key = choose.randrange(100)
                if choose.random() < 0.5:
                    lru.put(key, key, 1 + key % 3)
                elif choose.random() < 0.1:
                    lru.drop(key)
                else:
                    value = lru.get(key)
                    if value not in (None, key):
                        wrong.append((key, value))
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert wrong == []
    for key in range(100):
        lru.drop(key)
    assert lru.weight == 0


def test_names_give_the_path_that_was_last_seen() -> None:
    names = Names()
    names.saw(5, ROOT_INO, b"home")
    names.saw(6, 5, b"caf\xc3\xa9")
    assert names.path(ROOT_INO) == "/"
    assert names.path(ROOT_INO, b"x") == "/x"
    assert names.path(6) == "/home/café"
    assert names.path(6, b"\xff\n") == "/home/café/\\xff\n"
    names.saw(5, ROOT_INO, b"moved")
    assert names.path(6) == "/moved/café"
    names.drop(5)
    assert names.path(6) is None and names.path(6, b"x") is None


def test_names_that_go_round_in_a_circle_end() -> None:
    names = Names()
    names.saw(5, 6, b"a")
    names.saw(6, 5, b"b")
    assert names.path(5) is None
