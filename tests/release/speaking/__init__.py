"""A version's own package, of the same name as today's."""
