"""The folders of controls beside the image; each knows the viewer's state and viser's server."""
