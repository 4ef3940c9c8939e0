"""The command line: parser, commands and their messages.

The parser imports no torch, so that help is printed at once; the commands do.
"""
