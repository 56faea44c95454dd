"""Training by the outer loop: text in; checkpoints, curves, bits per byte out. As library `train`, as command `python -m model.train`."""
