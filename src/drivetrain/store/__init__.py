"""What production remembers: people and keys, predictions, feedback, and who did what."""
