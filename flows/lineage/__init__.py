"""Where a model comes from, where a track went, and how to make a result again."""
