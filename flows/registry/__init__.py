"""MLflow: the way to it, and what a model version holds there."""
