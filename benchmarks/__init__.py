"""One script per figure; each measures its peers side by side in one run and prints a ratio."""
