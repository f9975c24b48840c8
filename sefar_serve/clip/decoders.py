"""The decoders that may read a video. FFmpeg has 300, and most attackers could choose were never much tested."""

from __future__ import annotations

_OF_CAMERAS_AND_THE_WEB = """
h264 hevc vvc vp8 vp9 libvpx libvpx-vp9 libdav1d av1 mpeg1video mpeg2video mpegvideo mpeg4 mjpeg h261 h263 h263i h263p
theora vc1 wmv1 wmv2 wmv3 msmpeg4 msmpeg4v1 msmpeg4v2 flv vp3 vp5 vp6 vp6a vp6f rv10 rv20 rv30 rv40
"""
_OF_EDITORS_AND_ARCHIVES = """
prores prores_raw dnxhd cfhd dvvideo ffv1 ffvhuff huffyuv hymt utvideo magicyuv lagarith jpeg2000 jpegls rawvideo v210
v410 r210 y41p hap snow dirac notchlc speedhq
"""
_OF_OLD_FILES_SCREENS_AND_ANIMATIONS = """
cinepak indeo2 indeo3 indeo4 indeo5 svq1 svq3 msvideo1 msrle rpza smc 8bps qtrle zmbv asv1 asv2 camtasia tscc2 camstudio
flashsv flashsv2 mjpegb sp5x gif png apng webp bmp tiff
"""

DECODERS = frozenset(
    f"{_OF_CAMERAS_AND_THE_WEB}{_OF_EDITORS_AND_ARCHIVES}{_OF_OLD_FILES_SCREENS_AND_ANIMATIONS}".split()
)
"""Names of decoders in FFmpeg."""
