"""Sources, transforms, sinks and hooks for authors of plugins, and the registry that finds them."""
