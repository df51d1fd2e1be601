"""The Open Inference Protocol: requests, tensors and answers."""
