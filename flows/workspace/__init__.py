"""One folder with a dvc.yaml: its graph, its runs, its locks."""
