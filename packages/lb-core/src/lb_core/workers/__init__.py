"""Several processes that carry traffic, and one that decides for them.

    lb run ──────── control process     configuration, checks, commands, events; no traffic
      └─ nursery                        forked before any loop or thread exists; forks a worker when it is told
           ├─ worker, seat 1            a whole balancer with the role `worker`: traffic, nothing else
           └─ worker, seat 2

    sockets     the control process opens them, N for each address (SO_REUSEPORT, so the kernel spreads connections over
                them; one for a unix socket), keeps a copy of each, and hands them over. A queue of connections that
                nobody has accepted therefore outlives the worker that should have: the others take its sockets at
                once, and its replacement gets them back.
    link        a pair of sockets between the control process and each worker, for pickled messages and descriptors.
                Whoever finds it closed knows that the other is gone: a worker without control process drains and ends.
    memory      each worker writes its beat and its counters into a place of its own, on a timer; requests pay nothing.

    place       0 to N-1: what share of the sockets a worker has
    seat        1 to 63: the worker's number, and its part of the shared memory; a replacement has another one

A place is always filled by one worker, and for a while by two: a worker that is replaced stops accepting once the other
accepts, and drains. One that dies is replaced at once, one that dies again and again after longer and longer pauses,
one that does not beat for five seconds is killed.
"""
