"""Second floor: data, metrics and evaluation, and later the training loop."""
