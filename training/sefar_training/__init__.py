"""Training: SynthGym, the SeFAR model, its training, and the export to ONNX. Needs the `train` extra."""
