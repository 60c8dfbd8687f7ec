"""Baselines that the model must beat, measured by the same code: chance, popularity, CCA, late fusion."""
