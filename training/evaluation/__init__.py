"""Evaluation of methods on held-out views, of solved cameras, and of compressed files."""
