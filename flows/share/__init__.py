"""The files of dvc.lock, through a remote."""
