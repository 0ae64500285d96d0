"""Metrics, significance, and the rules of the gate."""
