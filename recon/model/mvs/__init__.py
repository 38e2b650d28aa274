"""Classical multi-view stereo: warping, matching, cost volumes, consistency."""
