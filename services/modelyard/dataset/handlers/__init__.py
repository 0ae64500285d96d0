"""What the dataset service does, one module per resource."""
