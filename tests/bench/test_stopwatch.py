import gc

import pytest

from seqbraid.bench import Times, interleave, stopwatch


def test_contenders_take_turns_and_the_first_round_does_not_count():
    calls, ticks = [], []

    def contender(name, seconds):
        answers = iter(seconds)

        def run():
            calls.append(name)
            return next(answers)

        return run

    contenders = {"a": contender("a", [9.0, 1.0, 3.0, 2.0]), "b": contender("b", [8.0, 4.0, 4.0, 7.0])}
    times = interleave(contenders, 3, lambda: ticks.append(len(calls)))
    assert "".join(calls) == "abababab"
    assert ticks == list(range(1, 9))
    assert times == {"a": Times((1.0, 3.0, 2.0)), "b": Times((4.0, 4.0, 7.0))}
    assert (times["a"].median, times["a"].least) == (2.0, 1.0)
    assert (times["b"].median, times["b"].least) == (4.0, 4.0)


def test_without_warming_up_every_round_counts():
    assert interleave({"a": lambda: 5.0}, 2, warm_up=False) == {"a": Times((5.0, 5.0))}


def test_the_stopwatch_reads_its_timer_around_the_call():
    clock = iter([10.0, 12.5])
    order = []

    def timer():
        order.append("timer")
        return next(clock)

    assert stopwatch(lambda: order.append("call"), timer)() == 2.5
    assert order == ["timer", "call", "timer"]


def test_the_garbage_collector_rests_while_a_contender_runs():
    assert gc.isenabled()
    seen = []

    def fail():
        seen.append(gc.isenabled())
        raise KeyError("defect")

    with pytest.raises(KeyError):
        interleave({"a": fail}, 1)
    assert seen == [False]
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0
