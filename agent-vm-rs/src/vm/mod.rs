//! One run of a machine: its arguments, processes, readiness and power-off.

pub mod accel;
pub mod console;
pub mod credentials;
pub mod diagnosis;
pub mod disk;
pub mod failure;
pub mod in_force;
pub mod launch;
pub mod live;
pub mod network_rate;
pub mod overcommit;
pub mod phases;
pub mod qemu_args;
pub mod qmp;
pub mod readiness;
pub mod shutdown;
pub mod throttle;
pub mod virtiofsd;
pub mod workspace_guard;
