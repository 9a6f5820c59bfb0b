"""Waiting for what ends a mount."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import signal, threading, time
from queue import SimpleQueue
from ibtfs.fuse.fuse3.session import next_event
from ibtfs.fuse.signals import ending_signals

def work():
    time.sleep(0.2)
    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
    time.sleep(600)

events = SimpleQueue()
with ending_signals(lambda *_: events.put("signal")):
    threading.Thread(target=work, daemon=True).start()
    print(next_event(events))
"""


def test_a_signal_that_another_thread_is_given_ends_the_wait() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True,
                          timeout=240, check=False)  # fmt: skip
    assert (done.stdout, done.stderr) == ("signal\n", "")
