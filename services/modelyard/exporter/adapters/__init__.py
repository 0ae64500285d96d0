"""The exporter's ports over other services."""
