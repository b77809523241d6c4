"""The S3 SDK: ``AsyncClient`` and ``Client`` for any S3 endpoint, made for Atoll's gateway.

``model`` holds the nouns, ``requests`` signs and sends and tries again, ``answers`` reads XML,
``asynchronous`` is the client, ``transfer`` moves files in parallel parts and resumes them,
``synchronous`` is the same client for code without a loop.
"""
