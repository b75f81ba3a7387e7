//! Weighted sums of experts: the swarm's arithmetic over mapped adapters.
