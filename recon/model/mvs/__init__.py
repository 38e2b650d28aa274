"""Classical multi-view stereo: two complete models, and parts that the networks also use.

The models are plane_sweep.py and constant_depth.py. warp.py projects pixels between views and
correlation.py compares them; cost_volume.py, sgm.py, fill.py and consistency.py are the steps of
the plane sweep; depth_range.py and depth_planes.py find the range of depths, source_views.py the
views to match with, and pixel_gaussians.py makes Gaussians from a depth map.
"""
