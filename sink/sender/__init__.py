"""A process of its own for one network output: ``python -m sink.sender``, a child of the sink (DESIGN §6).

A server that stops reading blocks the muxer for ever, and some packets make it end the process: here neither harms
anything but this one connection.
"""
