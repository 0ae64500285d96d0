"""What each task makes of the common training loop: one module a task (see run.Learning and tasks.catalogue)."""
