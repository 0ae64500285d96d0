"""Creating a run, and taking it from step to step."""
