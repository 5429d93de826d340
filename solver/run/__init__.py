"""A run from case to summary: built, begun or taken up again, logged, kept when it fails."""
