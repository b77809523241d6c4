"""The S3 model compiled at start: router, request decoders, response encoders."""
