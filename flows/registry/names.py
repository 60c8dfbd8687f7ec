"""What figures are called in MLflow, the same in every run, so that runs can be compared."""


def metric(name: str) -> str:
    """Return a metric's name in MLflow, whose names have no @ and no +."""
    return name.replace("@", "").replace("+", "-and-")
