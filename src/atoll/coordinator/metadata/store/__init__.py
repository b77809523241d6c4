"""The metadata's SQL, by noun. Functions take a connection and run in the caller's transaction."""
