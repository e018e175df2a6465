"""Signals that stop a training run: Ctrl-C, SIGTERM, and SIGHUP, which a closed terminal sends."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from gpt1 import console
from gpt1.errors import Interrupted

_HANGUP = getattr(signal, "SIGHUP", None)  # not on Windows


@contextmanager
def graceful_stop() -> Iterator[threading.Event]:
    """Set the returned event at the first Ctrl-C, SIGTERM or SIGHUP; raise KeyboardInterrupt at the second.

    A repeated SIGHUP is ignored, because the system and the shell each send one when a terminal closes.
    """
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def on_signal(number: int, frame: object) -> None:
        if stop.is_set():
            if number == _HANGUP:
                return
            raise KeyboardInterrupt
        stop.set()
        with suppress(RuntimeError):  # the signal may have interrupted another write to stderr
            at_once = "; press Ctrl-C again to stop at once" if number == signal.SIGINT else ""
            console.say(f"Stopping after this step{at_once}.", urgent=True)

    with _signal_handler(on_signal):
        yield stop


@contextmanager
def stop_at_once() -> Iterator[None]:
    """Raise Interrupted at Ctrl-C, SIGTERM or SIGHUP: for work after the last checkpoint, which a resumed run repeats.

    A repeated SIGHUP is ignored, as in `graceful_stop`.
    """
    stopped = False

    def on_signal(number: int, frame: object) -> None:
        nonlocal stopped
        if not stopped or number != _HANGUP:
            stopped = True
            raise KeyboardInterrupt  # not Interrupted: a library might catch that, an Exception

    try:
        if threading.current_thread() is threading.main_thread():
            with _signal_handler(on_signal):
                yield
        else:
            yield
    except KeyboardInterrupt:
        raise Interrupted from None


@contextmanager
def _signal_handler(handler: Callable[[int, object], None]) -> Iterator[None]:
    numbers = [signal.SIGINT, signal.SIGTERM]
    if _HANGUP is not None and signal.getsignal(_HANGUP) is not signal.SIG_IGN:  # ignored under `nohup`
        numbers.append(_HANGUP)
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)
