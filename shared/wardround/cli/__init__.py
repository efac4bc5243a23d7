"""The command line. Importing this package imports nothing heavy."""
