"""Executing a bundle as it will be served (onnxruntime on a CPU), and measuring how long an answer takes. No torch here."""
