"""S3: the codec compiled from the model, one file per family of operations, errors and quirks."""
