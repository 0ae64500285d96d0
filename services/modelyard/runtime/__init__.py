"""Executing a bundle as it will be served, and measuring how long an answer takes. No torch here."""

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # onnxruntime 1.31 reports to its maker unless told not to, before its import
