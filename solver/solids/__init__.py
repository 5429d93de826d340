"""Bodies in the flow: their shapes, the cells they take, their walls and the outlet."""
