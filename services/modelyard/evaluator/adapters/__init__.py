"""The services this one calls."""
