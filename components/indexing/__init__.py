"""Stage ``indexing``: the catalogue's music embeddings, an index over them, and what they are."""
