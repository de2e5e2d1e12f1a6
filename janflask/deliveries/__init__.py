"""The way of webhooks from the spool to their receivers.

``deliverer``: Takes events from the spool to their receivers, one after the other for each object
``post``: One try to deliver an event: a POST to an address that was checked, and nothing that the answer asks for
"""
