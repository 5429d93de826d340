"""Which rank holds what, and what ranks say to each other."""
