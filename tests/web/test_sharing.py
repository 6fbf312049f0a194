import threading
import time

import pytest

from zero123.web.studio import Step, Stopped, Studio


@pytest.fixture
def studio(pipe):
    made = Studio(pipe)
    yield made
    made.close()


def counting(until, seen=None, pace=0.005):
    def job(pipe, tell):
        for number in range(until):
            tell(Step(f"{number}", number / until))
            if seen is not None:
                seen.append(number)
            time.sleep(pace)
        return until

    return job


def test_long_work_tells_its_steps_and_then_its_result(studio):
    work = studio.begin(counting(3))
    assert [step.said for step in work] == ["0", "1", "2"]
    assert work.result() == 3


def test_long_work_is_done_one_after_the_other(studio):
    done = []
    first, second = studio.begin(counting(20, done)), studio.begin(counting(20, done))
    list(first), list(second)
    assert done == [*range(20), *range(20)]


def test_whoever_stops_iterating_stops_the_work(studio):
    done = []
    for step in studio.begin(counting(10_000, done)):
        if step.said == "2":
            break
    assert list(studio.begin(counting(1))) == [Step("0", 0.0)]  # the thread is free again
    assert len(done) < 100


def test_stopped_work_has_no_result(studio):
    work = studio.begin(counting(10_000))
    next(iter(work))
    work.stop()
    list(work)
    with pytest.raises(Stopped):
        work.result()


def test_waiting_work_that_is_stopped_never_begins(studio):
    done = []
    first, second = studio.begin(counting(20)), studio.begin(counting(20, done))
    second.stop()
    list(first)
    assert list(second) == []
    with pytest.raises(Stopped):
        second.result()
    assert not done


def test_what_goes_wrong_reaches_whoever_asked(studio):
    def job(pipe, tell):
        raise ValueError("no object")

    work = studio.begin(job)
    assert list(work) == []
    with pytest.raises(ValueError, match="no object"):
        work.result()


def test_quick_work_is_done_between_two_steps_of_long_work(studio):
    long_done = []
    work = studio.begin(counting(200, long_done, pace=0.01))
    steps = iter(work)
    next(steps)
    with studio.borrowed():
        before = len(long_done)
        time.sleep(0.1)
        assert len(long_done) - before <= 1  # it waits while the model is lent
    assert before < 199
    work.stop()


def test_the_model_is_never_with_two(studio):
    inside, most = 0, 0

    def enter():
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        time.sleep(0.002)
        inside -= 1

    def job(pipe, tell):
        for _ in range(50):
            enter()
            tell(Step("", 0.0))

    def quick():
        for _ in range(20):
            with studio.borrowed():
                enter()

    threads = [threading.Thread(target=quick) for _ in range(4)]
    work = studio.begin(job)
    for thread in threads:
        thread.start()
    list(work)
    for thread in threads:
        thread.join()
    assert most == 1
