"""Following persons through the frames of a clip.

Some frames, spread over the clip, are searched with the detector, and the person is chosen by all of them. From there
each frame takes its region from the landmarks of the frame beside it; the detector returns where the person is lost.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sefar_serve.pose.appearance import Colours, likeness, torso_colours
from sefar_serve.pose.choice import Candidate, best_path, change, plausible
from sefar_serve.pose.estimator import Detection, Estimator, Landmarks
from sefar_serve.pose.joints import HIPS, SHOULDERS
from sefar_serve.pose.region import Picture, Region

SCOUTS = 4
"""Frames that are searched with the detector in any case."""
MIN_PRESENCE = 0.5
MIN_VISIBILITY = 0.4
"""Mean over the joints. The landmark model imagines bodies with a presence above 0.5, but few visible joints."""
SURE = 0.9
"""Below this presence the joints are found once more, in the region that they give themselves."""
CENTRED = 0.75
"""The same where the region that they give overlaps the one that was looked at by less than this."""
WORSE = 0.05
"""How much less presence the second look may have."""
HOPELESS = 0.2
"""Below this presence there is no person whose region could be refined."""
MIN_LIKENESS = 0.6
"""Of a torso's colours to those where the detector found the person."""
SAME_REGION = 0.5
"""A detection whose region overlaps one that is followed by more than this is no further person."""
SAME_PERSON = 0.75
"""Detections in different parts of a picture whose regions overlap more than this are one person's."""
SAME_JOINTS = 0.1
"""Two bodies whose joints lie this near, over the region's side, are one."""

OBLONG = 1.2
"""Pictures whose sides differ by at least this factor are searched on closer squares as well."""
BODY = 0.6
"""Side of the square in which a person's movement is measured, over the region's."""
CHANGE_SIDE = 32

Track = dict[int, Landmarks]
"""A person's landmarks by frame number; frames without the person are left out."""


class Tracker:
    """Finds and follows persons in the frames of one clip. For one thread.

    Args:
        frames: uint8 (F,h,w,3) RGB in order of time.
        times: float64 (F,), seconds.
        estimator: finds persons and joints.
        scouts: frames that are searched with the detector in any case, at least 1.
    """

    def __init__(
        self,
        frames: Sequence[NDArray[np.uint8]] | NDArray[np.uint8],
        times: NDArray[np.float64],
        estimator: Estimator,
        *,
        scouts: int = SCOUTS,
    ) -> None:
        self._pictures = [Picture(frame) for frame in frames]
        self._times = times
        self._estimator = estimator
        self._scouts = min(scouts, len(self._pictures))
        self._searched: dict[int, list[Candidate]] = {}

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the frames."""
        return self._pictures[0].width, self._pictures[0].height

    def follow(self, persons: int) -> list[Track]:
        """Follow up to so many persons, the main one first.

        Returns:
            A track for each; an empty one where there is no further person.
        """
        count = len(self._pictures)
        scouts = [(2 * i + 1) * count // (2 * self._scouts) for i in range(self._scouts)]
        if not any([self._search(frame) for frame in scouts]):
            scouts = list(range(count))
        tracks: list[Track] = []
        for _ in range(persons):
            tracks.append(self._main_person(scouts, tracks))
        return tracks

    def _main_person(self, scouts: list[int], others: list[Track]) -> Track:
        """Follow the person who is worth most, of those who are not followed already."""
        free = {frame: self._free(frame, others) for frame in scouts}
        while path := best_path(free, self._times, self.size):
            if track := self._follow(path, others):
                return track
            # No body there: the detector took something else for a person.
            free = {frame: [c for c in found if c is not path.get(frame)] for frame, found in free.items()}
        return {}

    def _follow(self, path: dict[int, Candidate], others: list[Track]) -> Track:
        """Find the joints where the detector found the person, then outwards from there."""
        track: Track = {}
        for frame, candidate in path.items():
            found = self._look(frame, candidate.detection.region)
            if self._credible(frame, found, others):
                track[frame] = found
        if not track:
            return track
        worn = np.mean([self._colours(frame, found) for frame, found in track.items()], axis=0)
        seeds = list(track)
        rest = sorted(set(range(len(self._pictures))) - track.keys(), key=lambda f: min(abs(f - s) for s in seeds))
        for frame in rest:
            found = self._look(frame, track[_nearest(track, frame)].region)
            if self._is_person(frame, found, worn, others):
                track[frame] = found
            elif again := self._find_again(frame, track, worn, others):
                track[frame] = again
        return track

    def _find_again(self, frame: int, track: Track, worn: Colours, others: list[Track]) -> Landmarks | None:
        """Search a frame with the detector for a person who was lost there."""
        near = _nearest(track, frame)
        last = Candidate(Detection(1.0, track[near].region, *_torso(track[near])), worn)
        seconds = abs(float(self._times[frame] - self._times[near]))
        costs = [(change(last, c, seconds), i, c) for i, c in enumerate(self._free(frame, others))]
        for cost, _, candidate in sorted(costs):
            if np.isfinite(cost):
                found = self._look(frame, candidate.detection.region)
                if self._is_person(frame, found, worn, others):
                    return found
        return None

    def _look(self, frame: int, region: Region) -> Landmarks:
        """The joints in a region; once more where they are unsure, or the person is not in its middle."""
        picture = self._pictures[frame]
        found = self._estimator.landmarks(picture, region)
        unsure = found.presence < SURE or region.overlap(found.region) < CENTRED
        if unsure and found.presence > HOPELESS:
            again = self._estimator.landmarks(picture, found.region)
            if again.presence >= found.presence - WORSE:
                return again
        return found

    def _credible(self, frame: int, found: Landmarks, others: list[Track]) -> bool:
        """Whether these are a person's joints, and not those of one who is followed already."""
        if found.presence < MIN_PRESENCE or found.visibility.mean() < MIN_VISIBILITY:
            return False
        return not any(frame in track and _same_body(found, track[frame]) for track in others)

    def _is_person(self, frame: int, found: Landmarks, worn: Colours, others: list[Track]) -> bool:
        """Whether these are the joints of the person who wears these colours."""
        return self._credible(frame, found, others) and likeness(self._colours(frame, found), worn) >= MIN_LIKENESS

    def _colours(self, frame: int, found: Landmarks) -> Colours:
        return torso_colours(self._pictures[frame], *_torso(found))

    def _search(self, frame: int) -> list[Candidate]:
        """The persons in a frame, by the detector: on the whole picture and on closer squares of it."""
        if frame not in self._searched:
            picture = self._pictures[frame]
            middle, sides = _closer(picture)
            distinct: list[Detection] = []
            for parts in ([picture.whole, *middle], sides):
                if not distinct:
                    found = [d for part in parts for d in self._estimator.detect(picture, part)]
                    distinct = _distinct([d for d in found if plausible(d, picture.height)])
            changes = [self._change(frame, d.region) for d in distinct]
            self._searched[frame] = [
                Candidate(d, torso_colours(picture, d.hips, d.shoulders), change / max(*changes, 1.0))
                for d, change in zip(distinct, changes, strict=True)
            ]
        return self._searched[frame]

    def _change(self, frame: int, region: Region) -> float:
        """How much the picture changes at a person's body until the next frames, in grey levels."""
        body = Region(region.x, region.y, BODY * region.size, region.angle)
        here = self._pictures[frame].crop(body, CHANGE_SIDE).astype(np.float64)
        beside = [n for n in (frame - 1, frame + 1) if 0 <= n < len(self._pictures)]
        changes = [np.abs(self._pictures[n].crop(body, CHANGE_SIDE) - here).mean() for n in beside]
        return float(np.mean(changes)) if changes else 0.0

    def _free(self, frame: int, taken: list[Track]) -> list[Candidate]:
        """The persons in a frame who are not followed already."""
        followed = [track[frame].region for track in taken if frame in track]
        return [
            candidate
            for candidate in self._search(frame)
            if not any(candidate.detection.region.overlap(region) > SAME_REGION for region in followed)
        ]


def _nearest(track: Track, frame: int) -> int:
    """The frame nearest to this one in which the person is known."""
    return min(track, key=lambda known: abs(known - frame))


def _torso(found: Landmarks) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The middle of the hips and of the shoulders."""
    return found.image[list(HIPS)].mean(axis=0), found.image[list(SHOULDERS)].mean(axis=0)


def _same_body(a: Landmarks, b: Landmarks) -> bool:
    distance = np.linalg.norm(a.image - b.image, axis=1).mean()
    return bool(distance < SAME_JOINTS * max(a.region.size, b.region.size))


def _closer(picture: Picture) -> tuple[list[Region], list[Region]]:
    """Squares of the picture's shorter side: in the middle, and at both ends. None where it is nearly square itself."""
    short, long = sorted((picture.width, picture.height))
    if long < OBLONG * short:
        return [], []
    wide = picture.width > picture.height
    places = (long / 2, short / 2, long - short / 2)
    middle, *ends = [Region(at, short / 2, short) if wide else Region(short / 2, at, short) for at in places]
    return [middle], ends


def _distinct(found: list[Detection]) -> list[Detection]:
    """One detection a person, the surest first, where parts of the picture overlap."""
    kept: list[Detection] = []
    for detection in sorted(found, key=lambda d: -d.score):
        if all(detection.region.overlap(other.region) <= SAME_PERSON for other in kept):
            kept.append(detection)
    return kept
