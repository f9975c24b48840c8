"""How well segments of long videos agree with the truth, on SynthGym's routines with the shipped model.

A routine is five actions in a row. Its sliding windows are compared with the truth as they are, after non-maximum
suppression within each class, and merged to segments. Lengths of windows and smoothing are chosen on one seed, by the
mean of mAP and F1, and reported on others. mAP is ActivityNet's. F1 takes every result as a claim, whatever its score.
"""
