"""The subject: training jobs, recipes and model versions, and the rules they keep. No I/O."""
