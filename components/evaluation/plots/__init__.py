"""Plots of an evaluation, drawn with matplotlib; the same figures give the same bytes."""

from components.evaluation.plots.figures import draw_all

__all__ = ["draw_all"]
