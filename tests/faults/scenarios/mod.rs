//! The faults, by what they strike.

mod clock;
mod damage;
mod destination;
mod directory;
mod full;
mod hostile;
mod kill;
mod link;
mod order;
mod outage;
mod partition;
mod power;
mod pressure;
mod stop;
mod sync;
mod tenants;

use crate::scenario::Scenario;

/// All of them, in the order of the report.
pub(crate) const ALL: &[&[Scenario]] = &[
    order::ALL,
    kill::ALL,
    power::ALL,
    sync::ALL,
    full::ALL,
    damage::ALL,
    directory::ALL,
    clock::ALL,
    link::ALL,
    destination::ALL,
    hostile::ALL,
    outage::ALL,
    partition::ALL,
    tenants::ALL,
    pressure::ALL,
    stop::ALL,
];
