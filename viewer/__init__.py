"""Second floor: the live viewer in the browser."""
