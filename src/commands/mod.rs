//! One file per command: what the user asked for, in terms of the rooms below.
