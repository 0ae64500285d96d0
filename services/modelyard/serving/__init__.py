"""Serving: endpoints that answer predictions over the Open Inference Protocol. No torch here."""
