"""
`./just chaos`: real processes, real faults, and a count of what was lost.

A server, senders and receivers talk through a proxy while they are killed,
cut off, starved of disk and set back in time.  Each client writes down what
it said and heard before it goes on; in the end the journals are compared.
"""
