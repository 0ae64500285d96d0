"""A worker that speaks with nobody: it writes two words and waits for SIGTERM."""

import signal
import sys
import time

signal.signal(signal.SIGTERM, lambda *_: sys.exit(5))
print("hello\nworld", flush=True)
time.sleep(600)
