"""The stages of Needledrop: pure functions from files and parameters to files."""
