"""One module per command of the command line; each knows its arguments and prints what came of it."""
