"""A training in several stages: one file of stages and one command, which goes on where it stopped.

python -m training.campaign --config configs/bundled.yaml
"""
