"""Statistics as numbers: moments, their uncertainty, profiles, wall flow, references."""
