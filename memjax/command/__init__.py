"""The `memjax` command."""
