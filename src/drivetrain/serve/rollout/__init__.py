"""Requests while a model is rolled out: who decides, who sees it in shadow, and what is told."""
