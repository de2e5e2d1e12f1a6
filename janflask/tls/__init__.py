"""Certificates: those that the server shows, and those that the command line takes.

``followed``: The pair that a running server shows, read again when its files change
``pair``: A certificate and its key, read from their files together, and what a server needs to show them
``self_signed``: The server's own certificate, for those who have none: made when it is first asked for, and anew before
    it ends
``trust``: Whom the command line takes for the right server. Standard library only
"""
