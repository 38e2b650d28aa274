"""How a scene is predicted, by the number of photos and by whether an optimisation follows."""

from pathlib import Path
from typing import Any

import pytest
from helpers import sample_views

from recon.config import OptimiseConfig, ReconstructConfig
from recon.model.registry import build_model
from recon.pipeline import predict_for_scene
from recon.types import Prediction


@pytest.mark.parametrize(
    "count, steps, feedback, correction",
    [(1, 45, True, False), (2, 45, False, True), (3, 45, False, True), (2, 0, True, False)],
)
def test_feedback_or_correction(
    sample: Path,
    monkeypatch: pytest.MonkeyPatch,
    count: int,
    steps: int,
    feedback: bool,
    correction: bool,
) -> None:
    """One of them: both would fit the Gaussians to depth that changes."""
    model, seen, views = build_model("plane-sweep"), dict[str, Any](), sample_views(sample, 64)

    def predict(*_: object, **options: Any) -> Prediction:
        seen.update(options)
        return model(views[:2], lambda done: None)

    monkeypatch.setattr("recon.pipeline.predict", predict)
    config = ReconstructConfig(optimise=OptimiseConfig(steps=steps))
    predict_for_scene(views[:count], model, config)
    assert seen == {"error_feedback": feedback, "depth_correction": correction}
