"""A scene in the browser, through viser's own splat renderer."""

import numpy as np
import torch
import viser
from jaxtyping import Float

from render import Cameras, Gaussians
from render.paths import default_camera, focus_point
from render.quaternions import rotmats_to_quats
from render.sh import sh_to_colors

# viser 1.1 drops splats with alpha * det(cov2d + 0.3 I) < 0.25 (px^4): at full alpha
# those below 0.45 px. Splats are shown at least this wide from the start camera.
MIN_SIGMA_PX = 0.6
# viser stores covariances as float16, so the scene is shown at this size.
SHOWN_RADIUS = 10.0
START_BACK = 0.2


def serve(
    gaussians: Gaussians, cameras: Cameras | None, host: str = "127.0.0.1", port: int = 8080
) -> viser.ViserServer:
    """Start a server that shows the scene; the caller stops it.

    Colours are those seen from the start view (viser knows no spherical harmonics).
    When the port is taken, viser moves to the next free one: see `get_port()`.
    """
    server = viser.ViserServer(host=host, port=port, verbose=False)
    start = (cameras if cameras is not None else default_camera(gaussians, 768, 512))[[0]]
    center = gaussians.means.median(0).values
    scale = SHOWN_RADIUS / _radius(gaussians)
    server.scene.set_up_direction(tuple(_up(cameras if cameras is not None else start).tolist()))
    _add_splats(server, gaussians, start, center, scale)
    if cameras is not None:
        _add_frustums(server, cameras, center, scale)
    focus = focus_point(gaussians, start)
    # A little behind the first photo, so that its own frustum is in view, not around it.
    place = start.centers[0] + START_BACK * (start.centers[0] - focus)
    server.initial_camera.position = _shown(place, center, scale)
    server.initial_camera.look_at = _shown(focus, center, scale)
    server.initial_camera.fov = 2 * float(torch.atan(start.height / 2 / start.Ks[0, 1, 1]))
    return server


def _up(cameras: Cameras) -> Float[torch.Tensor, "3"]:
    """The direction that is nearest to the photos' up and square to their horizontals.

    Photos look down on things, but are seldom rolled: their x axes are level.
    """
    level, up = cameras.viewmats[:, 0, :3], -cameras.viewmats[:, 1, :3].mean(0)
    pull = 0.01 * len(cameras) * torch.eye(3).to(level)
    return torch.nn.functional.normalize(torch.linalg.solve(level.T @ level + pull, up), dim=0)


def _radius(gaussians: Gaussians) -> float:
    part = gaussians.means[:: max(1, len(gaussians) // 100_000)]
    distance = (part - part.median(0).values).norm(dim=1)
    return max(float(distance.quantile(0.9)), 1e-9)


def _shown(point: Float[torch.Tensor, "3"], center: Float[torch.Tensor, "3"], scale: float):
    return tuple(((point - center) * scale).tolist())


def _add_splats(
    server: viser.ViserServer,
    gaussians: Gaussians,
    start: Cameras,
    center: Float[torch.Tensor, "3"],
    scale: float,
) -> None:
    dirs = torch.nn.functional.normalize(gaussians.means - start.centers[0], dim=-1)
    colors = sh_to_colors(gaussians.sh, dirs).clamp(0, 1)
    depth = (gaussians.means @ start.viewmats[0, 2, :3] + start.viewmats[0, 2, 3]).abs()
    smallest = MIN_SIGMA_PX * depth / start.Ks[0, 0, 0]
    widened = Gaussians(
        gaussians.means,
        gaussians.quats,
        torch.maximum(gaussians.scales, smallest[:, None]) * scale,
        gaussians.opacities,
        gaussians.sh,
    )
    server.scene.add_gaussian_splats(
        "/splats",
        centers=((gaussians.means - center) * scale).numpy().astype(np.float32),
        covariances=widened.covars().numpy().astype(np.float32),
        rgbs=colors.numpy().astype(np.float32),
        opacities=gaussians.opacities[:, None].numpy().astype(np.float32),
    )


def _add_frustums(
    server: viser.ViserServer, cameras: Cameras, center: Float[torch.Tensor, "3"], scale: float
) -> None:
    quats = rotmats_to_quats(cameras.c2w[:, :3, :3])
    for i in range(len(cameras)):
        server.scene.add_camera_frustum(
            f"/cameras/{i}",
            fov=2 * float(torch.atan(cameras.height / 2 / cameras.Ks[i, 1, 1])),
            aspect=cameras.width / cameras.height,
            scale=0.03 * SHOWN_RADIUS,
            wxyz=tuple(quats[i].tolist()),
            position=_shown(cameras.centers[i], center, scale),
        )
