"""What serving stands on: the database, the other services, onnxruntime, threads."""
