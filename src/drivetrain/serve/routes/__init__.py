"""One file for each kind of request."""
