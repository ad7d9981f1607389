"""Runs compiled ARM code on any machine: the very bytes of the artifact, under Unicorn."""
