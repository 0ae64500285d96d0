"""Scores exported bytes through the runtime that serves them, and decides whether they may be deployed."""
