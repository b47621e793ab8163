"""The machinery of a trial: configuration, the training loop, optimisers, checkpoints, processes."""
