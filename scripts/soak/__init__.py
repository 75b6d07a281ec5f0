"""
`./just soak`: a long day of a server, with a crowd that talks, comes, goes, dawdles and babbles.

It ends by itself, prints how memory and answers went over time, and has exit
status 1 when a message with a receipt was lost, or either grew without end.
"""
