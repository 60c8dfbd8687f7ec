"""Segment features of pictures, sound and text, in stores that grow row by row."""
