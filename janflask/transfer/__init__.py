"""Threads out of the store and into it: JSON documents, archives, Jan's folders.

``archive``: Zip archives: written to nowhere but a stream, and read with distrust
``checks``: What an imported document must be like; every refusal names the place
``document``: One thread as one JSON document, with its messages and files: written in pieces, and checked before it is
    taken
``folder``: Threads into another folder, in Jan's layout: each object in one step, so that Jan never sees half of one
``importing``: Takes what a tree of files holds into the store, object by object
``layout``: The store's objects as the files of its folder layout, for an archive or for another folder
``long_texts``: JSON documents whose long texts stay in their file, so that a document of any size needs little memory
``service``: Conversations out of the store and into it: one as a JSON document, all as a zip archive, or to and from a
    folder
``streams``: Pieces of bytes as files to read, files as pieces, and ids replaced wherever an object refers to a file
``tree``: Where conversations are imported from: a tree of files, be it a folder or an archive
"""
