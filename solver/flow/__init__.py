"""The equations of motion and their integration in time."""
