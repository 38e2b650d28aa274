"""Layers shared by the networks, none of which knows a camera model beyond its rays.

attention.py has transformer blocks, convolutions.py and norms.py have their 2D and 3D parts,
tokens.py converts images and rays to tokens and back, pyramid.py combines them into the feature
pyramid of `cost-volume` and `epipolar`, and precision.py keeps geometry out of autocast.
"""
