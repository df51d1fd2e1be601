"""How the server starts, listens, shares a port, drains and ends; and what guards its connections."""
