"""From messages to the prompt that a model was trained to see: chat templates and other layouts.

``gguf_template``: The chat template inside a GGUF, over any conversation: as it is where the template takes it, else as
    it needs it
``template_check``: Whether all that was said is in the prompt: a chat template drops what it does not understand
    without a word
``template_layouts``: The layouts that are written down here: Jan's ``prompt_template``, ChatML, and plain text
``template_messages``: A conversation as a chat template can take it
``template_probe``: Which form of a message a chat template reads, found out by rendering small conversations with it
``template_process``: One chat template in a process of its own, which can be killed; see ``template_renderer``
``template_renderer``: A process that renders one chat template, with limits of time and memory. Run as a script by
    ``template_process.py``
``templates``: From messages to the prompt that a model was trained to see
"""
