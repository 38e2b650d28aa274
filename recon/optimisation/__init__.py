"""Test-time optimisation: a few gradient steps on the views that a scene was predicted from."""
