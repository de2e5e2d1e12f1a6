"""A client's words are never control tokens: where they look like a special token they are cut, and stay text.

``plain``: Laying out a conversation so that it is known which words of the prompt came from outside and must stay text
``search``: Finding the texts of special tokens in a text: all places, those that overlap too, quickly for 6,000 of them
``signs``: A character that stands for places in texts while they are laid out, and is taken out of the prompt again
``special``: The special tokens of a model's vocabulary and layout, and where a text could become one of them
``told``: What of a conversation comes from outside: everything but what the assistant said, thought and wrote as
    arguments
"""
