"""How hypothesis runs here."""

from hypothesis import settings

# The machines that run this are shared: how long one example takes says nothing.
settings.register_profile("ndpresponder", deadline=None)
settings.load_profile("ndpresponder")
