"""The look of every page that people read: one base template, one style sheet, and drawings in its colours."""
