"""MLflow: the way to it, the names of contents, and what may lie in a stored folder."""
