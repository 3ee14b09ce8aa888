"""Signals stop a run after its step."""

import signal
from contextlib import nullcontext

import pytest
from parts.training.stop import StopRequestedError, stop_on_signal


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_remembered_and_interrupts_nothing(number: signal.Signals) -> None:
    with stop_on_signal() as stop:
        assert not stop
        stop.raise_if_requested()
        signal.raise_signal(number)
        assert stop
        assert stop.signal_name == number.name
        with pytest.raises(StopRequestedError, match=number.name):
            stop.raise_if_requested()
        assert stop  # asking does not make it forget


def test_a_second_ctrl_c_interrupts_at_once() -> None:
    with stop_on_signal() as stop:
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert stop.signal_name == "SIGINT"


def test_after_any_number_of_sigterms_the_first_ctrl_c_is_a_wish_too() -> None:
    with stop_on_signal() as stop:
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT):
            signal.raise_signal(number)
            assert stop
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("signals", [0, 1])
@pytest.mark.parametrize("fails", [False, True])
def test_handlers_are_as_before_afterwards(signals: int, fails: bool) -> None:
    def mine(number: int, frame: object) -> None:
        pytest.fail("called inside of the context")

    def use() -> None:
        with stop_on_signal():
            for number in before:
                assert signal.getsignal(number) is not mine
                for _ in range(signals):
                    signal.raise_signal(number)
            if fails:
                raise ZeroDivisionError

    before = {number: signal.signal(number, mine) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        with pytest.raises(ZeroDivisionError) if fails else nullcontext():
            use()
        assert [signal.getsignal(number) for number in before] == [mine, mine]
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
