"""Routers to compare with: the protocol of the meta-verifiers, one file each."""
