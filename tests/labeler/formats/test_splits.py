from __future__ import annotations

from labeler.formats.splits import in_validation


def test_a_split_is_a_hash_of_the_id_and_the_seed() -> None:
    names = [f"{index}.jpg" for index in range(4000)]
    chosen = {name for name in names if in_validation(name, 0.2, seed=0)}
    assert 0.175 < len(chosen) / len(names) < 0.225  # four standard deviations
    assert chosen != {name for name in names if in_validation(name, 0.2, seed=1)}
    assert chosen < {name for name in names if in_validation(name, 0.3, seed=0)}
    assert not any(in_validation(name, 0.0, seed=0) for name in names)
    assert all(in_validation(name, 1.0, seed=0) for name in names)
