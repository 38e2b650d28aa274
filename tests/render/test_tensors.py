"""Dataclasses of tensors: length, index, join, move, map, compare, print."""

from dataclasses import dataclass, replace

import pytest
import torch
from helpers import look_at_cameras, random_gaussians
from jaxtyping import Float, Int
from torch import Tensor

from render import Cameras, TensorStruct


@dataclass(frozen=True)
class Photos(TensorStruct, axis="v"):
    images: Float[Tensor, "*v 3 h w"]
    cameras: Cameras
    names: tuple[str, ...]
    ranks: Int[Tensor, "*v"]
    background: Float[Tensor, "3"]
    bounds: Float[Tensor, "*v 2"] | None = None


@dataclass(frozen=True)
class Output(TensorStruct):
    photos: Photos
    levels: tuple[Float[Tensor, "h w"], ...]
    scale: float = 1.0


def photos(count: int = 4) -> Photos:
    return Photos(
        images=torch.arange(float(count)).reshape(-1, 1, 1, 1).expand(count, 3, 2, 5),
        cameras=look_at_cameras(count),
        names=tuple(f"{i}.jpg" for i in range(count)),
        ranks=torch.arange(count),
        background=torch.ones(3),
    )


def output() -> Output:
    return Output(photos(), (torch.zeros(2, 2), torch.ones(1, 1)))


def test_cameras_are_a_sequence() -> None:
    cameras = look_at_cameras(3)
    assert len(cameras) == len(list(cameras)) == 3
    for index, camera in enumerate(cameras):
        assert camera.viewmats.shape == (4, 4) and camera.Ks.shape == (3, 3)
        assert torch.equal(camera.viewmats, cameras.viewmats[index])
    assert [i for i, _ in zip(range(9), cameras)] == [0, 1, 2]  # noqa: B905


@pytest.mark.parametrize("index", [3, -4, 100])
def test_index_beyond_either_end_is_an_error(index: int) -> None:
    with pytest.raises(IndexError, match=f"index {index} is out of range for 3 Cameras"):
        look_at_cameras(3)[index]
    with pytest.raises(IndexError, match=f"index {index} is out of range for 3 Cameras"):
        look_at_cameras(3)[[0, index]]


@pytest.mark.parametrize(
    ("which", "expected"),
    [
        (slice(1, 3), [1, 2]),
        (slice(None, None, -1), [3, 2, 1, 0]),
        (slice(-1, None), [3]),
        (slice(7, 9), []),
        ([2, 0], [2, 0]),
        ([-1], [3]),
        ([], []),
        (torch.tensor([2]), [2]),
        (range(2), [0, 1]),
        (torch.tensor([3, 3]), [3, 3]),
        ([True, False, False, True], [0, 3]),
        (torch.arange(4) > 2, [3]),
    ],
)
def test_everything_but_an_int_keeps_the_axis(which: object, expected: list[int]) -> None:
    picked = photos()[which]
    assert len(picked) == len(picked.cameras) == len(expected)
    assert picked.ranks.tolist() == expected
    assert picked.names == tuple(f"{i}.jpg" for i in expected)
    assert picked.images[:, 0, 0, 0].tolist() == expected
    assert torch.equal(picked.background, torch.ones(3))
    assert torch.equal(picked.cameras.viewmats, look_at_cameras(4).viewmats[expected])


@pytest.mark.parametrize("index", [1, -3, torch.tensor(1)])
def test_an_int_drops_the_axis_of_nested_structs_too(index: object) -> None:
    one = photos()[index]
    assert one.images.shape == (3, 2, 5) and one.cameras.viewmats.shape == (4, 4)
    assert one.names == ("1.jpg",) and one.ranks.item() == 1
    with pytest.raises(TypeError, match="single Photos"):
        len(one)


def test_the_axis_is_counted_from_the_end() -> None:
    cameras = look_at_cameras(6).unflatten(2)
    assert cameras.viewmats.shape == (2, 3, 4, 4) and len(cameras) == 3
    assert torch.equal(cameras[1].viewmats, cameras.viewmats[:, 1])
    assert torch.equal(cameras[[2, 0]].Ks, cameras.Ks[:, [2, 0]])
    assert torch.equal(Cameras.cat([cameras[:1], cameras[1:]]).viewmats, cameras.viewmats)


@pytest.mark.parametrize(
    "which", ["0", 1.5, torch.zeros(2, 2).long(), (0, 1), None, True, torch.tensor(True)]
)
def test_invalid_indices_are_named(which: object) -> None:
    with pytest.raises(TypeError, match="Cameras"):
        look_at_cameras(3)[which]


def test_a_mask_of_another_length_is_an_error() -> None:
    with pytest.raises(IndexError, match="mask of 2 does not fit 3 Cameras"):
        look_at_cameras(3)[[True, False]]


def test_cat_undoes_indexing() -> None:
    whole = photos()
    assert Photos.cat([whole[:1], whole[1:1], whole[1:]]) == whole
    bounded = replace(whole, bounds=torch.ones(4, 2))
    assert Photos.cat([bounded[:2], bounded[2:]]) == bounded
    scene = random_gaussians(7, torch.Generator().manual_seed(0))
    assert type(scene).cat([scene[:3], scene[3:]]) == scene


def test_cat_makes_a_set_of_single_elements() -> None:
    whole = photos()
    assert Photos.cat(list(whole)) == whole
    assert Photos.cat(part for part in whole) == whole
    assert Photos.cat([whole[0], whole[1:3], whole[3]]) == whole
    assert len(Photos.cat([whole[2]])) == 1
    scene = random_gaussians(7, torch.Generator().manual_seed(0))
    assert type(scene).cat(scene) == scene


def test_a_single_element_is_true_and_has_no_elements() -> None:
    whole = photos()
    assert whole and whole[0] and not whole[:0] and output()
    for use, problem in [
        (len, "has no length"),
        (iter, "cannot be iterated"),
        (lambda one: one[0], "cannot be indexed"),
    ]:
        with pytest.raises(TypeError, match=rf"a single Photos.* {problem}; Photos.cat\(\[value\]"):
            use(whole[0])


def test_cat_refuses_parts_that_differ() -> None:
    whole = photos()
    for name, value in [
        ("bounds", torch.ones(4, 2)),
        ("background", torch.zeros(3)),
    ]:
        with pytest.raises(ValueError, match=f"Photos.{name} differs"):
            Photos.cat([whole, replace(whole, **{name: value})])
    with pytest.raises(ValueError, match="Cameras.width differs"):
        Cameras.cat([whole.cameras, whole.cameras.resized(7, whole.cameras.height)])
    scene = random_gaussians(7, torch.Generator().manual_seed(0), degree=1)
    shapes = r"Gaussians.sh has shapes \[7, 4, 3\] and \[7, 1, 3\], which may only differ along n"
    with pytest.raises(ValueError, match=shapes):
        type(scene).cat([scene, scene.cut_sh(0)])
    with pytest.raises(TypeError, match="Cameras.cat joins Cameras, got"):
        Cameras.cat([scene])
    with pytest.raises(ValueError, match="at least one"):
        Photos.cat([])
    with pytest.raises(TypeError, match="no axis"):
        Output.cat([output(), output()])


def test_to_moves_all_and_casts_only_what_is_floating() -> None:
    whole = output()
    cast = whole.to(dtype=torch.float16)
    assert cast.photos.images.dtype == cast.photos.cameras.Ks.dtype == torch.float16
    assert cast.levels[0].dtype == torch.float16 and cast.photos.ranks.dtype == torch.int64
    for moved in (whole.to("meta", torch.float16), whole.to(device="meta")):
        assert moved.device == moved.photos.ranks.device == torch.device("meta")
        assert moved.photos.cameras.device == moved.levels[1].device == torch.device("meta")
    assert whole.photos.cameras.to(device="cpu") == whole.photos.cameras


def test_detach_and_map_reach_every_tensor() -> None:
    whole = output().map(lambda t: t.clone().requires_grad_(t.is_floating_point()))
    assert whole.photos.cameras.Ks.requires_grad and whole.levels[0].requires_grad
    assert not whole.detach().photos.cameras.Ks.requires_grad
    assert whole.detach().scale == 1.0


def test_equality_is_by_value() -> None:
    assert output() == output() and hash(output()) == hash(output())
    assert photos() != photos(3)
    assert photos() != replace(photos(), ranks=torch.zeros(4).long())
    assert photos() != replace(photos(), bounds=torch.ones(4, 2))
    assert photos() != photos().to(torch.float64)
    assert output() != replace(output(), scale=2.0)
    assert output() != replace(output(), levels=())
    assert photos() != photos().cameras
    assert len({photos(), photos(), photos(3)}) == 2


def test_repr_has_shapes_not_values() -> None:
    camera = look_at_cameras(2, 40, 30).to("meta", torch.float32)
    assert repr(camera) == (
        "Cameras(viewmats=float32[2, 4, 4] meta, Ks=float32[2, 3, 3] meta, width=40, height=30)"
    )
    assert "levels=(float32[2, 2] cpu, float32[1, 1] cpu)" in repr(output())
    assert len(repr(photos(300))) < 500


def test_structs_without_an_axis_or_a_shape() -> None:
    with pytest.raises(TypeError, match="Output"):
        len(output())

    @dataclass(frozen=True)
    class Bare(TensorStruct, axis="n"):
        values: Tensor

    with pytest.raises(TypeError, match="Bare.values: annotate its shape"):
        len(Bare(torch.ones(3)))
