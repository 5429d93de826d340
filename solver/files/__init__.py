"""What lies on disk: run folders, checkpoints, references, cases, exports."""
