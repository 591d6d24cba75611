"""What the author of a plugin meets: sources, transforms, sinks, hooks, and the registry that finds them."""
