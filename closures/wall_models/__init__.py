"""Wall models: the stress on a wall from the velocity at a height above it."""
