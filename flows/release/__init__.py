"""Releases: what is signed off together, the states it goes through, and the log of who decided what."""
