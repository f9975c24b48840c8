"""The training commands of `sefar`. Nothing here imports torch, ONNX, OpenCV or Matplotlib before a command runs."""
