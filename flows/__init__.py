"""What needs time and effects: running the graph, registering models, the command line."""
