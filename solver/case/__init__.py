"""Case files: TOML read, checked and explained."""
