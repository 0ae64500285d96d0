"""The services this one drives."""
