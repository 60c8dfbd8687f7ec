"""Check the manifest with Great Expectations; a failed critical expectation stops the run."""
