"""The flows that deployments run, each a thin wrapper with described parameters; see prefect.yaml."""
