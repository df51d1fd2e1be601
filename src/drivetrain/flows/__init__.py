"""Use cases that join rooms: train, evaluate, demo."""
