"""One sweep: planes in, where the surface is believed to be out."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from recon.model.networks.cost_volume.depth_distribution import Belief, Planes, believe
from recon.model.networks.cost_volume.matching import PHOTOMETRIC, Level
from recon.model.networks.cost_volume.multi_view_consistency import VOTES, Poll
from recon.model.networks.cost_volume.regulariser import Regulariser


class Stage(nn.Module):
    """Learned features for matching, and the network that weighs the evidence."""

    def __init__(self, context: int, matched: int, groups: int, volume: int, votes: bool) -> None:
        super().__init__()
        self.groups = groups
        self.matched = nn.Conv2d(context, matched, 1)
        # One channel more: the plane's own fraction.
        channels = groups + PHOTOMETRIC + 1 + votes * VOTES
        self.regulariser = Regulariser(channels, context, volume)

    def forward(
        self,
        level: Level,
        planes: Planes,
        prior: Float[Tensor, "n d h w"] | None,
        poll: Poll | None,
        recompute: bool,
    ) -> Belief:
        """`level.features` are the context; `prior` is added to the scores; `poll` asks the other
        views what they believed before, in a stage that was made for votes.

        Without gradients one view goes after the other: a volume is large.
        """
        matched = Level(level.images, self.matched(level.features), level.cameras, level.sources)
        everyone = torch.arange(len(level.images), device=level.images.device)
        if not torch.is_grad_enabled():
            rows = [self._scores(level, matched, planes, poll, one) for one in everyone.split(1)]
            scores = torch.cat(rows)
        elif recompute:
            parts = (level, matched, planes, poll, everyone)
            scores = checkpoint(self._scores, *parts, use_reentrant=False)
        else:
            scores = self._scores(level, matched, planes, poll, everyone)
        return believe(scores if prior is None else scores + prior, planes)

    def _scores(
        self,
        level: Level,
        matched: Level,
        planes: Planes,
        poll: Poll | None,
        which: Int[Tensor, "m"],
    ) -> Float[Tensor, "m d h w"]:
        disparity = planes.disparity[which]
        evidence = matched.evidence(which, disparity, self.groups)
        fraction = planes.fraction[which].expand(len(which), *evidence.shape[2:])[:, None]
        known = [evidence, fraction]
        if poll is not None:
            known.append(poll.votes(which, disparity))
        return self.regulariser(torch.cat(known, 1), level.features[which])
