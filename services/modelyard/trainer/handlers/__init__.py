"""What the trainer does, one module per resource. Handlers take ports."""
