"""What others make of a release: MLflow, plain ONNX Runtime, an independent client, a clean install, PostgreSQL."""
