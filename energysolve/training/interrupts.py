"""Ctrl-C between two iterations, where a checkpoint is complete, and not within one."""

import signal
import threading
from types import FrameType


class Interrupts:
    """Notes the first Ctrl-C, while the context is open, instead of raising KeyboardInterrupt; the second raises it.

    Only in the main thread, and only where nobody else handles the signal. Elsewhere it changes nothing.
    """

    def __init__(self):
        self.asked = False
        self._own = False

    def __enter__(self) -> "Interrupts":
        in_main = threading.current_thread() is threading.main_thread()
        self._own = in_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if self._own:
            signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *error: object) -> None:
        if self._own:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        signal.signal(signal.SIGINT, signal.default_int_handler)
