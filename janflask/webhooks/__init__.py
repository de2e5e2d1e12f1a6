"""What is told by webhooks, and to whom: from a change to the spool, where it waits to be delivered.

``endpoints``: ``secrets/webhooks.json``: who is told of what, read again whenever it changes
``events``: What is told: the types of events, and how one reads to whoever receives it
``outbox``: What a change tells is in the spool before the change is made, and certain once it is
``queue``: What is to be delivered to whom, and when: the spool as whoever delivers sees it
``signing``: Signatures by Standard Webhooks (https://www.standardwebhooks.com): HMAC-SHA256 over id, time and body
``spool``: The spool: events that were not delivered yet, in a SQLite file that every process of the server writes
"""
