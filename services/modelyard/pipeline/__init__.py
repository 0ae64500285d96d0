"""Drives the other services from data to endpoint."""
