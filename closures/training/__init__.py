"""Training: recipes, the loop, and what makes it stop, continue and agree between processes."""
