"""One module per schema change, named by release and order."""
