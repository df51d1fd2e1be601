"""Gather pictures from the web and from folders: what is wanted, who may be asked, and where it is kept."""
