//! A job of Nomad, in the JSON of its API, that runs `start --foreground` on this host.

use serde_json::{Map, Value, json};

use super::{Exported, START, STOP};
use crate::term::error::Failure;

/// Nanoseconds, in which Nomad's API counts.
const SECOND: u64 = 1_000_000_000;
/// MHz to reserve for a core.
const MHZ: u32 = 1000;

/// Returns the job. The machine's directory is on this host, so that no other one can run it.
///
/// # Errors
/// A path has `${`, with which a variable of Nomad begins. In JSON, nothing can take that meaning from it.
pub fn job(exported: &Exported) -> Result<Value, Failure> {
    let Exported { name, program, args, environment, node, account, settings, .. } = exported;
    let values = environment.iter().map(|(_, value)| value);
    let paths = args.iter().chain([program, node]).chain(values);
    let environment: Map<_, _> = environment.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
    if let Some(path) = paths.into_iter().find(|path| path.contains("${")) {
        return Err(Failure::new(format!("Nomad would take a part of {path} for a variable"))
            .with_hint("move it to a path without ${"));
    }
    let task = json!({
        "Name": "machine",
        "Driver": "raw_exec",
        // Nomad looks it up by its name.
        "User": account,
        "Config": { "command": program, "args": args },
        "Env": environment,
        "KillSignal": "SIGTERM",
        "KillTimeout": u64::from(STOP) * SECOND,
        "Resources": { "CPU": settings.cores.saturating_mul(MHZ), "MemoryMB": exported.memory() },
    });
    Ok(json!({ "Job": {
        "ID": format!("agent-vm-{name}"),
        "Name": format!("agent-vm-{name}"),
        "Type": "service",
        "Datacenters": ["*"],
        "Constraints": [{ "LTarget": "${node.unique.name}", "RTarget": node, "Operand": "=" }],
        "TaskGroups": [{
            "Name": "machine",
            "Count": 1,
            "RestartPolicy": { "Attempts": 5, "Interval": 6 * u64::from(START) * SECOND, "Delay": 30 * SECOND, "Mode": "fail" },
            "ReschedulePolicy": { "Attempts": 0, "Unlimited": false },
            "Tasks": [task],
        }],
    } }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::commands::export::sample;

    #[test]
    fn a_job_runs_on_this_host_only() {
        let mut exported = sample();
        let of_exported = job(&exported).unwrap();
        let job = &of_exported["Job"];
        assert_eq!(job["Constraints"][0]["RTarget"], "box");
        let task = &job["TaskGroups"][0]["Tasks"][0];
        assert_eq!(task["Config"]["args"][1], "/home/me/state 100%");
        assert_eq!((&task["User"], &task["Env"]["HOME"]), (&json!("me"), &json!("/home/me")));
        assert_eq!(task["KillTimeout"], 60_000_000_000_u64);
        exported.args[1] = "/home/me/${x}".to_owned();
        assert!(super::job(&exported).is_err());
    }
}
