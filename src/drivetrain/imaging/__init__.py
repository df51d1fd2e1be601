"""Pixels: decode a picture safely, turn it into what the network reads."""
