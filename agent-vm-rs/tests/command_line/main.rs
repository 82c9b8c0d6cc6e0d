//! Runs the real binary in a hermetic directory, with stand-ins for Nix, QEMU and the guest: no machine is started.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot continue has failed")]
#![expect(clippy::print_stdout, reason = "the test runner reads skipped tests from stdout")]

mod apply;
mod attached;
mod bridge;
mod bridge_passing;
mod compare;
mod completion;
mod copied_branches;
mod cp;
mod create_borrows;
mod create_branches;
mod create_cut_short;
mod create_from;
mod create_layout;
mod create_ports;
mod create_settings;
mod create_trouble;
mod destroy;
mod destroy_refuses;
mod doctor;
mod edited_large_files;
mod egress;
mod egress_supervisor;
mod export;
mod fetch;
mod fetch_beside_gc;
mod fetch_refused;
mod fetch_worktree;
mod few_processes;
mod flags;
mod foreground;
mod full_disk;
mod guest;
mod guest_services;
mod hidden_stores;
mod hostile_source;
mod hostile_submodules;
mod hostile_workspace;
mod image;
mod inherited;
#[path = "../shared/json_values.rs"]
mod json_values;
mod kept;
mod kept_fetch;
mod kept_hidden;
mod kept_prune;
mod kept_shapes;
mod kept_submodules;
mod kept_work;
mod landlock;
mod large_files;
mod limits;
mod list;
mod mcp_config;
mod mcp_server;
mod merged_large_files;
mod metrics;
mod mounts;
mod older_settings;
mod origin_copy;
#[path = "../shared/own_sshd.rs"]
mod own_sshd;
#[expect(dead_code, reason = "only tests of real machines change the size")]
#[path = "../shared/own_terminal.rs"]
mod own_terminal;
mod owner;
mod partial_source;
mod port;
mod power_cut;
mod profile;
mod prune;
mod prune_leftovers;
mod relink;
mod remote_host;
mod remote_https;
mod remote_trouble;
mod run;
mod search_path;
mod servers;
mod set;
mod source_shapes;
mod source_states;
mod ssh_config;
mod stand_ins;
mod start_cut_short;
mod start_guest;
mod start_trouble;
mod stopped;
mod stress;
mod submodules;
mod sweep;
mod take_back;
mod take_back_states;
mod terminal;
mod two_state_dirs;
mod uncommitted;
mod unreliable_source;
mod unusable_artefacts;
mod unusable_settings;
mod up;
mod update;
mod url_submodules;
mod url_submodules_https;
mod user_settings;
mod users_programs;
mod watch;
mod wedged;
mod workspace_daemon;
mod wrong_kinds;

mod support {
    //! Helpers that the tests share.

    mod done;
    mod power;
    mod processes;
    mod programs;
    mod site;

    pub use done::Done;
    pub use power::Power;
    pub use processes::{Running, end, exists, kill, suspend, wait_until};
    pub use programs::{landlock, namespaces, skip, which};
    pub use site::{Site, tree};
}
