"""The study: what held, measured; see docs/study.md."""
