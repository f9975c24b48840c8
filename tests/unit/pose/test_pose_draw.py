"""Skeletons are where the joints are, and frames without anybody are marked."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageColor

from sefar_serve.pose import JOINTS, draw_skeleton, pose_sheet
from sefar_serve.pose.draw import GAP, INTERPOLATED, LEFT, MIDDLE, RIGHT
from sefar_serve.pose.poses import Poses

GREY = (60, 60, 60)
J = len(JOINTS)


def colour_at(picture: Image.Image, place: tuple[float, float]) -> tuple[int, ...]:
    pixel = picture.getpixel((round(place[0]), round(place[1])))
    assert isinstance(pixel, tuple)
    return pixel


def standing() -> np.ndarray:
    """A body in a picture of 200 × 200 that faces the camera: its left is on the right."""
    joints = np.zeros((J, 2))
    for number, name in enumerate(JOINTS):
        side, _, part = name.partition("_")
        across = {"left": 1, "right": -1}.get(side, 0)
        height = {
            "": 20,
            "shoulder": 50,
            "elbow": 75,
            "wrist": 100,
            "index": 110,
            "hip": 105,
            "knee": 140,
            "ankle": 180,
        }
        reach = {"elbow": 45, "wrist": 50, "index": 52}.get(part, 25)
        joints[number] = (100 + across * reach, height[part])
    return joints


def test_bones_have_the_colour_of_their_side() -> None:
    picture = Image.new("RGB", (200, 200), GREY)
    joints = standing()
    draw_skeleton(picture, joints, np.ones(J))
    at = dict(zip(JOINTS, joints, strict=True))
    thigh = {side: (at[f"{side}_hip"] + at[f"{side}_knee"]) / 2 for side in ("left", "right")}
    assert colour_at(picture, thigh["left"]) == ImageColor.getrgb(LEFT)
    assert colour_at(picture, thigh["right"]) == ImageColor.getrgb(RIGHT)
    assert colour_at(picture, (100, 105)) == ImageColor.getrgb(MIDDLE)
    assert colour_at(picture, (100, 35)) == ImageColor.getrgb(MIDDLE)  # the neck
    assert colour_at(picture, (100, 150)) == GREY


def test_hidden_joints_are_hollow() -> None:
    for visibility, filled in ((0.9, True), (0.1, False)):
        picture = Image.new("RGB", (200, 200), GREY)
        draw_skeleton(picture, standing(), np.full(J, visibility), width=6)
        # Beside the bone, inside the ankle's dot.
        ankle = standing()[JOINTS.index("left_ankle")]
        assert (colour_at(picture, (ankle[0] + 4, ankle[1] + 1)) == ImageColor.getrgb(LEFT)) == filled


def test_joints_outside_the_picture_do_no_harm() -> None:
    picture = Image.new("RGB", (50, 50), GREY)
    draw_skeleton(picture, standing() * 1e4 - 3e5, np.ones(J))


def test_a_sheet_has_a_tile_a_frame_and_marks_those_without_a_person() -> None:
    frames = np.full((5, 100, 120, 3), 60, np.uint8)
    joints = np.ones((5, 1, J, 4), np.float32)
    image = np.broadcast_to(standing() * 2, (5, 1, J, 2)).astype(np.float32)
    detected = np.array([[True], [True], [True], [False], [True]])
    poses = Poses(joints, image, np.ones((5, 1), np.float32), detected, "fake", "0")
    sheet = pose_sheet(frames, poses, [""] * 5, scale=0.25)
    assert sheet.size == (4 * (120 + GAP) + GAP, 2 * (100 + GAP) + GAP)
    corner = (GAP + 119, GAP + 99)
    assert colour_at(sheet, corner) == GREY
    assert colour_at(sheet, (corner[0] + 3 * (120 + GAP), corner[1])) == ImageColor.getrgb(INTERPOLATED)
    hips = (GAP + 100 * 0.5, GAP + 105 * 0.5)
    assert colour_at(sheet, hips) == ImageColor.getrgb(MIDDLE)
    assert colour_at(sheet, (hips[0] + 3 * (120 + GAP), hips[1])) == GREY
