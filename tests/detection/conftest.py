"""Property tests that try the same few examples at every run."""

from hypothesis import settings

settings.register_profile(
    "few", max_examples=20, derandomize=True, deadline=None, database=None, print_blob=False
)
settings.load_profile("few")
