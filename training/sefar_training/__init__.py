"""Training: SynthGym, the SeFAR model, training and export to ONNX. Needs the `train` extra."""
