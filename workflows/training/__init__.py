"""Training student models on a dataset, with established trainers."""
