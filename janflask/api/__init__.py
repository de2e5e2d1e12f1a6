"""The HTTP API: what clients send and get, and nothing of how it comes about.

``app``: The application: settings in, a Flask app out. Nothing is started here, and no socket opened
"""
