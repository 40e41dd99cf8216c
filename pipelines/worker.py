"""A worker process, of a local run or an engine's: Beam's own, whose log goes to them and not to the terminal as well.

Beam's first message in a process makes Python's logging write everything to stderr, unless a handler is there.
"""

import logging
import signal
import sys

signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the driver's, which ends its workers
logging.getLogger().addHandler(logging.NullHandler())

from apache_beam.runners.worker import sdk_worker_main  # noqa: E402  # after the handler

if __name__ == "__main__":
    sdk_worker_main.main(sys.argv)
