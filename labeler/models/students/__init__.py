"""Student models: small models that are trained on a labeled dataset, one kind per file."""
