"""Run networks with onnxruntime: features and their cache, predictor."""
