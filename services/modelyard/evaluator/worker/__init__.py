"""The process in which an evaluation runs."""
