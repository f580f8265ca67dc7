"""The ``memjax`` command."""
