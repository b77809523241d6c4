"""What customers ask of their gateway beyond S3: JSON under ``/.atoll/v1/``, signed like S3."""
