"""Who asks, and what they may: decided before any route is reached."""
