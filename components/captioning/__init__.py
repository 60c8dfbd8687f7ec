"""A sentence per clip, from its tags."""
