"""Checks for architectures, ours and yours: `testing.contracts.check(builder)`."""
