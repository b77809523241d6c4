"""The S3 endpoint: a door for every S3 tool."""
