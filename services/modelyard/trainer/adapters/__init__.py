"""The other services and files the trainer depends on, one technology each."""
