"""Removal of floaters: Gaussians in space that cameras see to be free."""
