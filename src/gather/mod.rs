//! The machine into evidence: the only room with sockets, programs, clocks, async and privileges.
