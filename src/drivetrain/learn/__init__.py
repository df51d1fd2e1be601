"""Fit: backbones (torch), heads, export."""
