from itertools import chain, repeat

from kvscape.bench.reference import DISTURBED_RATIO, WORK_S, Reference, Watch


def test_a_machine_is_compared_with_what_it_usually_is() -> None:
    times = chain([0.05] * 8, [0.08, 0.05, 0.06])
    watch = Watch(lambda: next(times))
    assert [watch.look() for _ in range(4)] == [1.0] * 4  # the first look takes five times
    assert watch.look() > DISTURBED_RATIO
    assert watch.look() == 1.0


def test_half_of_the_time_may_be_disturbed() -> None:
    times = chain(*repeat((0.05, 0.09), 20))
    watch = Watch(lambda: next(times))
    looks = [watch.look() for _ in range(20)]
    assert min(looks) == 1.0 and max(looks) > 1.7


def test_the_work_is_the_same_every_time() -> None:
    reference = Reference()
    assert 0 < reference() < 100 * WORK_S
    rounds = reference._rounds
    reference()
    assert reference._rounds == rounds >= 1
