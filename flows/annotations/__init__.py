"""A published list of described clips becomes a folder corpus."""
