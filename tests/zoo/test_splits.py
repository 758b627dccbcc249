"""Splits share neither pictures nor makers, and every kind of maker gets its share."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mergekit_nb.zoo.splits import SHARES, SPLITS, by_maker, cut, deal, even, join, pictures, without_copies


def pile(count, classes=3, makers=None, seed=0):
    images = np.random.default_rng(seed).integers(0, 256, (count, 4, 4), np.uint8)
    return pictures(images, np.arange(count) % classes, makers or "")


makers = st.dictionaries(st.text("abcdef", min_size=1), st.sampled_from(["latin", "thai"]), min_size=1, max_size=60)


@given(makers, st.integers(0, 5))
def test_every_maker_is_dealt_to_one_split_the_same_way_each_time(named, seed):
    given_out = deal(named, seed)
    assert set(given_out) == set(named)
    assert set(given_out.values()) <= set(SPLITS)
    assert given_out == deal(dict(reversed(named.items())), seed)


def test_each_kind_gets_its_shares_to_within_one_maker():
    named = {f"{kind}{number}": kind for kind, count in {"latin": 200, "telugu": 12}.items() for number in range(count)}
    dealt = deal(named, seed=1)
    for kind in ("latin", "telugu"):
        mine = [dealt[name] for name, of in named.items() if of == kind]
        for split in SPLITS:
            assert abs(mine.count(split) - SHARES[split] * len(mine)) <= 1


def test_makers_stay_whole():
    lot = pile(40, makers=[f"font {number % 7}" for number in range(40)])
    parts = by_maker(lot, deal({f"font {number}": "latin" for number in range(7)}, seed=0))
    assert sum(map(len, parts.values())) == len(lot)
    seen = [set(part.makers) for part in parts.values()]
    assert sum(map(len, seen)) == len(set.union(*seen))


def test_a_random_cut_keeps_the_classes_in_proportion_and_loses_nothing():
    lot = pile(300)
    parts = cut(lot, seed=3)
    assert sorted(join(list(parts.values())).labels) == sorted(lot.labels)
    for split, part in parts.items():
        assert np.bincount(part.labels).tolist() == [round(SHARES[split] * 100)] * 3


def test_a_copy_stays_in_the_first_split_only():
    first, second = pile(5), pile(7)  # the same seed: the first five are the same pictures
    kept = without_copies({"test": first, "train": join([second, second])})
    assert len(kept["test"]) == 5
    assert len(kept["train"]) == 2


def test_pictures_seen_before_are_dropped_too():
    lot = pile(4)
    assert len(without_copies({"pool": lot}, {lot.images[2].tobytes()})["pool"]) == 3


def test_even_takes_from_the_rarest_class_first():
    # classes of 10, 3 and 1 pictures: eight of them are 4 + 3 + 1
    images = np.zeros((14, 4, 4), np.uint8)
    lot = pictures(images, [0] * 10 + [1] * 3 + [2], "")
    assert np.bincount(even(lot, 8, seed=0).labels).tolist() == [4, 3, 1]
    assert len(even(lot, 100, seed=0)) == 14
