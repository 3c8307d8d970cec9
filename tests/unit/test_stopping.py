"""A request to stop ends work at once, or where deferred work looks for it."""

import os
import signal

import pytest

from distill import stopping
from distill.stopping import Stopped, check, deferred, requested, watched


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGUSR1, 138)])
def test_a_signal_ends_work_at_once(number, code):
    with pytest.raises(Stopped) as stopped, watched():
        os.kill(os.getpid(), number)
        pytest.fail("went on")
    assert stopped.value.exit_code == code and signal.Signals(number).name in str(stopped.value)


def test_deferred_work_goes_on_until_it_looks():
    done = []
    with pytest.raises(Stopped), watched(), deferred():
        os.kill(os.getpid(), signal.SIGUSR1)
        done.append("a block")
        assert requested() == signal.SIGUSR1
        check()
        done.append("another block")
    assert done == ["a block"]


def test_the_first_signal_counts_and_repeated_ones_do_not_interrupt_the_saving():
    with watched(), deferred():
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        assert requested() == signal.SIGTERM


def test_handlers_and_requests_end_with_the_watch():
    before = {number: signal.getsignal(number) for number in stopping.SIGNALS}
    with watched(), deferred():
        os.kill(os.getpid(), signal.SIGTERM)
    assert {number: signal.getsignal(number) for number in stopping.SIGNALS} == before
    with watched():
        check()  # an earlier watch's request is not this one's
