"""What ``solver bench`` measures."""
