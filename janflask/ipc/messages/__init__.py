"""What the processes say to each other, by who is spoken to.

``constraint``: What an answer must look like, as an engine is asked for it
``engine``: What an engine is asked and answers, and what it and its supervisor say to each other
``error``: How an error goes to another process
``generation``: What a generation is: what is asked of an engine, and what comes of it
``launch``: All that an engine process is told at its birth
``runner``: What the runner is asked and answers
``supervisor``: What the supervisor is asked and answers
"""
