"""What joints are worth with few labels: SeFAR on joints against pixels and against other models of the same joints.

Tennis: 371 clips, 7 strokes. Room: the five moving classes of an overhead camera. Both come with five folds that share
no venue (tennis) or video (room). A run trains on n labels a class of four folds; their other clips are unlabelled. It
is judged by its balanced accuracy on the fifth. Rivals choose their settings by runs on three folds, judged on the
fourth, from draws that are not among the reported ones. No setting is chosen on a test fold.

A result is a line of results-SET.jsonl in --work, written as soon as its run is done. The same command resumes.

Run: python -m benchmarks.pose_study [key=value ...] --set tennis
"""
