"""What the domain is: axes, their ends and their points."""
