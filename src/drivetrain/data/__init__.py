"""Read the world: items, labels, splits."""
