//! Algorithm 1 of the paper as arithmetic on locations. Knows no models, tasks or devices.
