//! Kernels on a device, one by one.

mod attention;
mod batch;
pub mod case;
pub mod products;
mod rows;
mod swarm;

use crate::gpu::machine::Machine;
use case::{Named, Shapes};

/// Every kernel that the backend launches, and the swarm's arithmetic. Those of wgmma come last:
/// where one waits for ever, the others have been measured.
pub fn all<'a, M: Machine>(machine: &'a M, shapes: Shapes) -> Vec<Named<'a>> {
    let mut cases = swarm::cases(machine, shapes);
    cases.extend(rows::cases(machine, shapes));
    cases.extend(attention::cases(machine, shapes));
    cases.extend(products::cases(machine, shapes));
    cases
}
