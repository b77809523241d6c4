"""Tests of the settlement contracts: compiled artifacts in an EVM of this process."""
