"""Probe and decode every file, find copies, make splits, quarantine what cannot be used."""
