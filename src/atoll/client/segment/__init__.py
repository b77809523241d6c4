"""One segment in memory: pooled buffers, encoding to columns, decoding back to plaintext."""
