"""What runs in a training job's own process. torch lives here and in recipes/build_*, and nowhere else."""
