"""The Open Inference Protocol over REST: its door, tensors and pages."""
