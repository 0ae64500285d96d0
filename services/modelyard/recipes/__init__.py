"""What can be trained: the catalogue of architectures with their hyperparameters (data), and the builders (torch) for workers."""
