"""Models: from posed views to Gaussians.

api.py has the input and output of networks, registry.py all models by name, checkpoint.py their
files and inference.py runs them; normalise.py and heads.py are what every network has before and
after it. The models are in mvs/ (classical) and networks/ (trainable), their parts in layers/.
"""
