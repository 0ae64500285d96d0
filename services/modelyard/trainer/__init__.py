"""The trainer: trains models in worker processes and keeps their versions."""
